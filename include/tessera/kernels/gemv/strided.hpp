#pragma once

#include <algorithm>

#include <tessera/kernels/gemv/loops.hpp>

namespace tessera::inline TESSERA_ABI {

/// Any strides: eight rows at a time, each a chain of its own.
struct GemvStrided {
  static constexpr std::string_view name = "gemv:strided";
  static constexpr Isa isa = Isa::portable;

  template <class TA, class T>
  static const char* reject(const GemvArgs<TA, T>&) {
    return nullptr;
  }
  template <class TA, class T>
  static void run(const GemvArgs<TA, T>& args, RowRange rows) noexcept {
    const Index rs = args.A.row_stride(), cs = args.A.col_stride();
    for (Index begin = rows.begin; begin < rows.end; begin += 8) {
      const Index n = std::min<Index>(8, rows.end - begin);
      const TA* row[8];
      T sum[8] = {};
      for (Index r = 0; r < 8; ++r) row[r] = args.A.data() + (begin + std::min(r, n - 1)) * rs;
      for (Index k = 0; k < args.k(); ++k)
        for (Index r = 0; r < 8; ++r) sum[r] += T(row[r][k * cs]) * args.x[k];
      for (Index r = 0; r < n; ++r) {
        T& y = args.y[begin + r];
        y = args.beta == T(0) ? args.alpha * sum[r] : args.alpha * sum[r] + args.beta * y;
      }
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI
