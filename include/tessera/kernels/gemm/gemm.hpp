/// Matrix times matrix.
#pragma once

#include <concepts>
#include <type_traits>

#include <tessera/kernels/gemm/drive.hpp>
#include <tessera/kernels/gemm/list.hpp>
#include <tessera/kernels/gemv/gemv.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

template <class TA, class TB, class T>
GemmArgs<TA, TB, T> gemm_args(T alpha, MatrixView<const TA> A, MatrixView<const TB> B, T beta, MatrixView<T> C) {
  GemmArgs<TA, TB, T> args;
  args.alpha = alpha;
  args.beta = beta;
  args.A = A;
  args.B = B;
  args.C = C;
  return args;
}

/// `x` itself, or a copy of it as T.
template <class T, class TX>
VectorView<const T> widened(Workspace::Scope& scope, VectorView<const TX> x) {
  if constexpr (std::is_same_v<TX, T>) {
    return x;
  } else {
    T* copy = scope.take<T>(x.extent(0));
    for (Index i = 0; i < x.extent(0); ++i) copy[i] = T(x[i]);
    return {copy, x.extent(0)};
  }
}

template <class TA, class T>
void gemm_any(Context& ctx, T alpha, MatrixView<const TA> A, MatrixView<const T> B, T beta, MatrixView<T> C) {
  if (A.cols() != B.rows())
    throw shape_error(concat("tessera: gemm of (", shape_text(A.rows(), A.cols()), ") * (",
                             shape_text(B.rows(), B.cols()), "): columns ", A.cols(), " != rows ", B.rows()));
  if (A.rows() != C.rows() || B.cols() != C.cols())
    throw shape_error(concat("tessera: gemm of (", shape_text(A.rows(), A.cols()), ") * (",
                             shape_text(B.rows(), B.cols()), ") is ", shape_text(A.rows(), B.cols()),
                             ", the destination is ", shape_text(C.rows(), C.cols())));
  if (C.empty()) return;
  if (A.cols() == 0 || alpha == T(0)) {
    for (Index i = 0; i < C.rows(); ++i)
      for (Index j = 0; j < C.cols(); ++j) C(i, j) = beta == T(0) ? T(0) : beta * C(i, j);
    return;
  }
  if (ctx.forced("gemm").empty() && C.cols() == 1) return gemv_any<TA, T>(ctx, alpha, A, B.col(0), beta, C.col(0));
  if (ctx.forced("gemm").empty() && C.rows() == 1) {
    Workspace::Scope scope(ctx.workspace);
    return gemv_any<T, T>(ctx, alpha, B.transposed(), widened<T>(scope, A.row(0)), beta, C.row(0));
  }
  // Kernels write rows of C: a C with contiguous columns is the transposed product with contiguous rows.
  if (C.row_stride() == 1 && C.col_stride() != 1)
    run_gemm(ctx, gemm_args<T, TA, T>(alpha, B.transposed(), A.transposed(), beta, C.transposed()),
             GemmKernels<T, TA, T>());
  else
    run_gemm(ctx, gemm_args<TA, T, T>(alpha, A, B, beta, C), GemmKernels<TA, T, T>());
}

}  // namespace detail

/// C = alpha*A*B + beta*C, for float and double. Any strides. C must not overlap A or B. beta == 0 overwrites C without
/// reading it; alpha == 0 reads neither A nor B. 2*M*N*K flops. Throws shape_error.
/// One row or column goes to gemv unless a gemm kernel is forced. Blocking after K. Goto, R. van de Geijn, "Anatomy of
/// High-Performance Matrix Multiplication" (ACM TOMS 2008).
template <class T>
requires std::floating_point<T>
void gemm(Context& ctx, std::type_identity_t<T> alpha, std::type_identity_t<MatrixView<const T>> A,  // (M,K)
          std::type_identity_t<MatrixView<const T>> B,                                               // (K,N)
          std::type_identity_t<T> beta, MatrixView<T> C) {                                           // (M,N)
  detail::gemm_any<T, T>(ctx, alpha, A, B, beta, C);
}

/// The same with A stored as bf16; sums are in float.
template <std::same_as<float> T>
void gemm(Context& ctx, std::type_identity_t<T> alpha, MatrixView<const bf16> A,  // (M,K)
          MatrixView<const float> B,                                              // (K,N)
          std::type_identity_t<T> beta, MatrixView<T> C) {                        // (M,N)
  detail::gemm_any<bf16, float>(ctx, alpha, A, B, beta, C);
}

}  // namespace tessera::inline TESSERA_ABI
