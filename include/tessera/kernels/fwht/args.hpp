/// What a fast Walsh–Hadamard kernel is given.
#pragma once

#include <type_traits>

#include <tessera/core/view.hpp>
#include <tessera/kernels/kernel.hpp>

namespace tessera::inline TESSERA_ABI {

/// Y[b] = scale * H X[b], H (n,n) of +1 and -1 in natural (Hadamard) order, n a power of two. X and Y are the same view
/// or do not overlap. T is float, double, or std::int32_t of X of std::int8_t, which wraps modulo 2^32. A RowRange is
/// one of b.
template <class TX, class T>
struct FwhtArgs : KernelArgs {
  using Out = T;
  MatrixView<const TX> X;  // (batch, n)
  MatrixView<T> Y;         // (batch, n)
  T scale = T(1);

  Index n() const { return X.cols(); }
};

namespace detail {

/// Vectors that lie across lines of the batch are transformed this many together, one cache line of each.
template <class T>
inline constexpr Index fwht_lines = static_cast<Index>(cache_line / sizeof(T));

/// The transform of `x` in place, butterflies from `stride` to n: the obvious loops.
template <class T>
void fwht_loops(T* x, Index n, Index stride) {
  using U = std::conditional_t<std::is_integral_v<T>, std::make_unsigned<T>, std::type_identity<T>>;
  using Sum = typename U::type;
  for (Index half = stride; half < n; half *= 2)
    for (Index begin = 0; begin < n; begin += 2 * half)
      for (Index i = begin; i < begin + half; ++i) {
        const Sum a = static_cast<Sum>(x[i]), b = static_cast<Sum>(x[i + half]);
        x[i] = static_cast<T>(a + b);
        x[i + half] = static_cast<T>(a - b);
      }
}

/// How the vectors of X and Y lie.
enum class FwhtLayout { rows, lines, any };
template <class TX, class T>
FwhtLayout fwht_layout(const FwhtArgs<TX, T>& a) {
  if (a.X.col_stride() == 1 && a.Y.col_stride() == 1) return FwhtLayout::rows;
  if (a.X.row_stride() == 1 && a.Y.row_stride() == 1) return FwhtLayout::lines;
  return FwhtLayout::any;
}

/// Scratch for vectors that are not contiguous.
template <class TX, class T>
std::size_t fwht_scratch(const FwhtArgs<TX, T>& a) {
  switch (fwht_layout(a)) {
    case FwhtLayout::rows:
      return 0;
    case FwhtLayout::lines:
      return static_cast<std::size_t>(a.n() * fwht_lines<T>) * sizeof(T);
    default:
      return static_cast<std::size_t>(a.n()) * sizeof(T);
  }
}

template <class T>
T fwht_scaled(T scale, T value) {
  if constexpr (std::is_integral_v<T>)
    return static_cast<T>(static_cast<std::make_unsigned_t<T>>(scale) * static_cast<std::make_unsigned_t<T>>(value));
  else
    return scale * value;
}

}  // namespace detail
}  // namespace tessera::inline TESSERA_ABI
