/// Eight sums side by side: what the compiler can keep in the vector registers that the unit's flags allow.
#pragma once

#include <tessera/kernels/sum_squares/args.hpp>
#include <tessera/simd/pack.hpp>

namespace tessera::inline TESSERA_ABI {

template <class Arch = simd::arch>
struct SumSquaresXsimd {
  static constexpr std::string_view name = "sum_squares:xsimd";
  static constexpr Isa isa = Isa::portable;
  template <class T>
  static const char* reject(const SumSquaresArgs<T>& a) {
    return a.x.stride(0) == 1 ? nullptr : "elements are not contiguous";
  }
  template <class T>
  static void run(const SumSquaresArgs<T>& a, RowRange pieces) noexcept {
    using V = simd::Vec<double, simd::Portable<Arch>>;
    constexpr Index W = V::width;
    for (Index c = pieces.begin; c < pieces.end; ++c) {
      const T* x = a.x.data() + a.begin(c);
      const Index n = a.end(c) - a.begin(c);
      V sum[4];
      double wide[4 * W];
      Index i = 0;
      for (; i + 4 * W <= n; i += 4 * W) {
        for (Index j = 0; j < 4 * W; ++j) wide[j] = static_cast<double>(x[i + j]);
        for (Index k = 0; k < 4; ++k) {
          const V v = V::load(wide + k * W);
          sum[k] = fma(v, v, sum[k]);
        }
      }
      double total = reduce_add((sum[0] + sum[1]) + (sum[2] + sum[3]));
      for (; i < n; ++i) total += static_cast<double>(x[i]) * static_cast<double>(x[i]);
      a.partial[c] = total;
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI
