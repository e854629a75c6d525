/// The obvious loops, any strides.
#pragma once

#include <tessera/kernels/norm_backward/args.hpp>

namespace tessera::inline TESSERA_ABI {

struct NormBackwardRef {
  static constexpr std::string_view name = "norm_backward:ref";
  static constexpr Isa isa = Isa::portable;
  template <class T>
  static const char* reject(const NormBackwardArgs<T>&) {
    return nullptr;
  }
  template <class T>
  static void run(const NormBackwardArgs<T>& a, RowRange pieces) noexcept {
    const Index d = a.d();
    for (Index c = pieces.begin; c < pieces.end; ++c) {
      T* dw = a.dweight + c * d;
      T* db = a.dbias == nullptr ? nullptr : a.dbias + c * d;
      for (Index j = 0; j < d; ++j) {
        dw[j] = 0;
        if (db != nullptr) db[j] = 0;
      }
      for (Index i = c * a.grain(); i < std::min(a.X.rows(), (c + 1) * a.grain()); ++i) {
        const T mean = a.mean.data() == nullptr ? T(0) : a.mean[i];
        const T inv = a.inv[i];
        T along = 0, sum = 0;
        for (Index j = 0; j < d; ++j) {
          const T x = (a.X(i, j) - mean) * inv;
          const T g = a.weight == nullptr ? a.dY(i, j) : a.weight[j] * a.dY(i, j);
          along += g * x;
          sum += g;
          dw[j] += a.dY(i, j) * x;
          if (db != nullptr) db[j] += a.dY(i, j);
        }
        along /= static_cast<T>(d);
        sum = a.mean.data() == nullptr ? T(0) : sum / static_cast<T>(d);
        for (Index j = 0; j < d; ++j) {
          const T x = (a.X(i, j) - mean) * inv;
          const T g = a.weight == nullptr ? a.dY(i, j) : a.weight[j] * a.dY(i, j);
          const T dx = inv * (g - sum - x * along);
          a.dX(i, j) = a.beta == T(0) ? dx : dx + a.beta * a.dX(i, j);
        }
      }
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI
