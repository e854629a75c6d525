/// The fast Walsh–Hadamard transform.
#pragma once

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstdint>
#include <type_traits>

#include <tessera/kernels/fwht/list.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {
template <class TX, class T>
void fwht_any(Context& ctx, MatrixView<const TX> X, T scale, MatrixView<T> Y) {
  const Index n = X.cols();
  if (Y.rows() != X.rows() || Y.cols() != n)
    throw shape_error(concat("tessera: fwht of (", shape_text(X.rows(), n), ") into (", shape_text(Y.rows(), Y.cols()),
                             "): expected equal shapes"));
  if (n < 0 || (n > 0 && !std::has_single_bit(static_cast<std::size_t>(n))))
    throw shape_error(concat("tessera: fwht of vectors of ", n, ": expected a power of two"));
  if (X.empty()) return;
  FwhtArgs<TX, T> args;
  args.X = X;
  args.Y = Y;
  args.scale = scale;
  const Index grain = std::max<Index>(1, (Index{1} << 16) / n);
  launch(ctx, FwhtKernels::select(ctx, args), args, X.rows(),
         (grain + fwht_lines<T> - 1) / fwht_lines<T> * fwht_lines<T>);
}
}  // namespace detail

/// Y[b] = scale * H X[b] for every row b, H the Walsh–Hadamard matrix in natural order, H(i,j) = (-1)^popcount(i & j):
/// scale 1/√n makes it orthogonal. Any strides; Y may be X, else they must not overlap. n log2 n additions a row,
/// several levels in registers at a time, long rows in parts that fit in the caches. Throws shape_error unless the
/// shapes are equal and n is a power of two. B. Fino, V. Algazi, "Unified Matrix Treatment of the Fast Walsh-Hadamard
/// Transform" (IEEE Trans. Computers 1976).
template <std::floating_point T>
void fwht(Context& ctx, std::type_identity_t<MatrixView<const T>> X,  // (batch, n)
          std::type_identity_t<T> scale, MatrixView<T> Y) {           // (batch, n)
  detail::fwht_any<T, T>(ctx, X, scale, Y);
}
/// The same of int8, exact up to n = 2^24 (modulo 2^32 beyond).
template <std::same_as<std::int32_t> T>
void fwht(Context& ctx, MatrixView<const std::int8_t> X, std::type_identity_t<T> scale, MatrixView<T> Y) {
  detail::fwht_any<std::int8_t, T>(ctx, X, scale, Y);
}

}  // namespace tessera::inline TESSERA_ABI
