/// Arguments of a fused map, and the loop that every lane shares.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <type_traits>
#include <utility>

#include <tessera/core/view.hpp>
#include <tessera/kernels/kernel.hpp>
#include <tessera/simd/pack.hpp>

namespace tessera::inline TESSERA_ABI {

/// `E…` are the views' element types, const for those only read. Rows of the launch are elements.
template <class F, class... E>
struct MapArgs : KernelArgs {
  using value_type = std::common_type_t<std::remove_const_t<E>...>;
  static constexpr std::size_t count = sizeof...(E);
  F* f = nullptr;
  std::array<value_type*, count> data{};  // read-only where E is const
  std::array<Index, count> stride{};
  bool contiguous() const {
    return std::all_of(stride.begin(), stride.end(), [](Index s) { return s == 1; });
  }
};

namespace detail {

template <class E, class V>
using map_argument = std::conditional_t<std::is_const_v<E>, const V&, V&>;

/// The first n <= width elements at i.
template <class V>
TESSERA_FLAT V map_load(const typename V::value_type* p, Index stride, Index i, Index n) {
  if (stride == 1) return V::load(p + i, n);
  typename V::value_type all[static_cast<std::size_t>(V::width)] = {};
  for (Index j = 0; j < n; ++j) all[j] = p[(i + j) * stride];
  return V::load(all);
}

template <class V>
TESSERA_FLAT void map_store(const V& value, typename V::value_type* p, Index stride, Index i, Index n) {
  if (stride == 1) return value.store(p + i, n);
  typename V::value_type all[static_cast<std::size_t>(V::width)];
  value.store(all);
  for (Index j = 0; j < n; ++j) p[(i + j) * stride] = all[j];
}

}  // namespace detail
}  // namespace tessera::inline TESSERA_ABI
