/// What rounding to 16-bit fixed point is given.
#pragma once

#include <algorithm>
#include <cstdint>

#include <tessera/core/view.hpp>
#include <tessera/kernels/kernel.hpp>

namespace tessera::inline TESSERA_ABI {

/// Two passes over lines of X. `largest` set: largest[i] = the bits of max |x| of line i, which order like the values,
/// NaN above infinity. Else Q = x * factor[0] * factor[1] to the nearest integer, ties to even; products are of
/// magnitude at most 32767. A RowRange is one of lines.
struct FixedRoundArgs : KernelArgs {
  MatrixView<const float> X;   // (lines,n)
  MatrixView<std::int16_t> Q;  // (lines,n)
  float factor[2] = {1, 1};
  std::uint32_t* largest = nullptr;  // (lines)
};

namespace detail {

/// Lines in contiguous runs, through a buffer where they are not.
template <class Kernel>
void fixed_round_lines(const FixedRoundArgs& a, RowRange lines) noexcept {
  constexpr Index most = 256;
  const Index n = a.X.cols(), step = a.X.col_stride(), out_step = a.Q.col_stride();
  const bool direct = step == 1 && (a.largest != nullptr || out_step == 1);
  for (Index i = lines.begin; i < lines.end; ++i) {
    std::uint32_t largest = 0;
    for (Index first = 0; first < n;) {
      const Index count = direct ? n : std::min(most, n - first);
      const float* x = a.X.data() + i * a.X.row_stride() + first * step;
      float values[most];
      std::int16_t codes[most];
      if (!direct) {
        for (Index j = 0; j < count; ++j) values[j] = x[j * step];
        x = values;
      }
      if (a.largest != nullptr) {
        largest = std::max(largest, Kernel::most(x, count));
      } else {
        std::int16_t* q = a.Q.data() + i * a.Q.row_stride() + first * out_step;
        Kernel::round(x, count, a.factor[0], a.factor[1], direct ? q : codes);
        if (!direct)
          for (Index j = 0; j < count; ++j) q[j * out_step] = codes[j];
      }
      first += count;
    }
    if (a.largest != nullptr) a.largest[i] = largest;
  }
}

}  // namespace detail
}  // namespace tessera::inline TESSERA_ABI
