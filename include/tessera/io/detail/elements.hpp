/// A view's elements to a sink, in row-major order.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <type_traits>

#include <tessera/core/config.hpp>
#include <tessera/core/view.hpp>
#include <tessera/io/atomic_file.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// Any strides; contiguous views go out in one call, others through 4 KiB.
template <ByteSink Sink, class T, int Rank>
void write_elements(Sink& out, View<T, Rank> view) {
  if (view.empty()) return;
  if (view.contiguous()) {
    out.write(std::as_bytes(std::span(view.data(), static_cast<std::size_t>(view.size()))));
  } else if constexpr (Rank > 1) {
    for (Index i = 0; i < view.extent(0); ++i) write_elements(out, view[i]);
  } else {
    constexpr Index most = 4096 / static_cast<Index>(sizeof(T));
    std::array<std::remove_cv_t<T>, most> piece;
    for (Index begin = 0; begin < view.extent(0); begin += most) {
      const Index count = std::min(most, view.extent(0) - begin);
      for (Index i = 0; i < count; ++i) piece[static_cast<std::size_t>(i)] = view[begin + i];
      out.write(std::as_bytes(std::span(piece.data(), static_cast<std::size_t>(count))));
    }
  }
}

}  // namespace tessera::inline TESSERA_ABI::detail
