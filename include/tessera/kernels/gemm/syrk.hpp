/// A matrix times its own transpose.
#pragma once

#include <algorithm>
#include <concepts>
#include <type_traits>

#include <tessera/kernels/gemm/gemm.hpp>

namespace tessera::inline TESSERA_ABI {

/// What of a symmetric matrix is stored: `both` means all of it.
enum class Triangle { lower, upper, both };

namespace detail {

/// Squares go by a buffer, line by line: columns of a matrix with long rows of a power of two share few cache sets.
template <class T>
void mirror_lower(Context& ctx, MatrixView<T> C) {
  constexpr Index side = 16;
  const Index n = C.rows();
  for_each_chunk(ctx, n, side, [&](Context&, Index begin, Index end) {
    T square[side][side];
    for (Index j = begin; j < n; j += side) {
      const Index last = std::min(n, j + side);
      for (Index l = j; l < last; ++l)
        for (Index i = begin; i < std::min(end, l); ++i) square[i - begin][l - j] = C(l, i);
      for (Index i = begin; i < end; ++i)
        for (Index l = std::max(j, i + 1); l < last; ++l) C(i, l) = square[i - begin][l - j];
    }
  });
}

}  // namespace detail

/// C = alpha*A*Aᵀ + beta*C, of C the entries of `triangle` alone: the others are neither read nor written. `both` reads
/// the lower triangle, computes it and mirrors it, so that C is symmetric bit for bit. f32 and f64, or A of bf16 or f16
/// with sums in f32; any strides; C must not overlap A; beta == 0 never reads C. N*(N+1)*K flops, half of gemm's.
/// Throws shape_error.
template <class T, class TA>
requires std::floating_point<T> &&
    (std::same_as<std::remove_const_t<TA>, T> ||
     (std::same_as<T, float> &&
      detail::is_half<std::remove_const_t<TA>>)) void syrk(Context& ctx, std::type_identity_t<T> alpha,
                                                           MatrixView<TA> A,                               // (N,K)
                                                           std::type_identity_t<T> beta, MatrixView<T> C,  // (N,N)
                                                           Triangle triangle = Triangle::both) {
  using E = std::remove_const_t<TA>;
  if (C.rows() != A.rows() || C.cols() != A.rows())
    throw shape_error(detail::concat("tessera: syrk of (", detail::shape_text(A.rows(), A.cols()), ") is ",
                                     detail::shape_text(A.rows(), A.rows()), ", the destination is ",
                                     detail::shape_text(C.rows(), C.cols())));
  if (C.empty()) return;
  auto args = detail::gemm_args<E, E, T>(alpha, A, A.transposed(), beta, C);
  args.triangle = triangle == Triangle::upper ? -1 : 1;
  if (C.row_stride() == 1 && C.col_stride() != 1) {  // kernels write rows: of the transposed, the other triangle
    args.C = C.transposed();
    args.triangle = -args.triangle;
  }
  if (A.cols() == 0 || alpha == T(0)) {
    for (Index i = 0; i < args.m(); ++i)
      for (Index j = 0; j < args.n(); ++j)
        if (args.any_of(i, 1, j, 1)) args.C(i, j) = beta == T(0) ? T(0) : beta * args.C(i, j);
  } else {
    detail::run_gemm(ctx, args, GemmKernels<E, E, T>());
  }
  if (triangle == Triangle::both) detail::mirror_lower(ctx, C);
}

}  // namespace tessera::inline TESSERA_ABI
