/// What the gemv kernels share: contiguous operands, and alpha and beta.
#pragma once

#include <algorithm>

#include <tessera/kernels/gemv/args.hpp>

namespace tessera::inline TESSERA_ABI::detail {

inline constexpr Index gemv_block = 2048;  // rows summed at a time: 8 KiB of f32 sums stay in the first-level cache

template <class TA, class T>
const char* unit_stride_missing(const GemvArgs<TA, T>& args) {
  return args.A.col_stride() == 1 || args.A.row_stride() == 1 ? nullptr
                                                              : "neither rows nor columns of A are contiguous";
}

template <class TA, class T>
bool gemv_by_rows(const GemvArgs<TA, T>& args) {
  return args.A.col_stride() == 1 || args.A.row_stride() != 1;
}

template <class TA, class T>
std::size_t gemv_scratch(const GemvArgs<TA, T>& args) {
  const bool copy_x = gemv_by_rows(args) && args.x.stride(0) != 1;
  return static_cast<std::size_t>(gemv_block + (copy_x ? args.k() : 0)) * sizeof(T);
}

/// `Loops` brings dots(a, row_stride, x, k, rows, out) for contiguous rows and axpys(a, col_stride, x, x_stride, k,
/// rows, sum) for contiguous columns. How they group rows must not change a row's rounding.
template <class Loops, class TA, class T>
void gemv_rows(const GemvArgs<TA, T>& args, RowRange rows) noexcept {
  T* sum = reinterpret_cast<T*>(args.scratch_of(rows.worker));
  const bool by_rows = gemv_by_rows(args);
  const Index rs = args.A.row_stride(), cs = args.A.col_stride(), k = args.k();
  const T* x = args.x.data();
  if (by_rows && args.x.stride(0) != 1) {
    T* copy = sum + gemv_block;
    for (Index i = 0; i < k; ++i) copy[i] = args.x[i];
    x = copy;
  }
  for (Index begin = rows.begin; begin < rows.end; begin += gemv_block) {
    const Index n = std::min(gemv_block, rows.end - begin);
    const TA* a = args.A.data() + begin * rs;
    if (by_rows) {
      Loops::dots(a, rs, x, k, n, sum);
    } else {
      std::fill_n(sum, n, T(0));
      Loops::axpys(a, cs, x, args.x.stride(0), k, n, sum);
    }
    for (Index i = 0; i < n; ++i) {
      T& y = args.y[begin + i];
      y = args.beta == T(0) ? args.alpha * sum[i] : args.alpha * sum[i] + args.beta * y;
    }
  }
}

/// The kernel around them; derived ones add their name and ISA.
template <template <class, class> class Loops>
struct LoopsGemv {
  template <class TA, class T>
  static const char* reject(const GemvArgs<TA, T>& args) {
    return unit_stride_missing(args);
  }
  template <class TA, class T>
  static std::size_t scratch(const GemvArgs<TA, T>& args) {
    return gemv_scratch(args);
  }
  template <class TA, class T>
  static void run(const GemvArgs<TA, T>& args, RowRange rows) noexcept {
    gemv_rows<Loops<TA, T>>(args, rows);
  }
};

}  // namespace tessera::inline TESSERA_ABI::detail
