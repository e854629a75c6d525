/// Matrix times matrix.
#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <tessera/kernels/gemm/blocks.hpp>
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
  if constexpr (std::is_same_v<TA, T> && std::is_same_v<TB, T>) args.blocks = gemm_blocks<T>();
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

/// beta * c, of integers modulo 2^32.
template <class T>
T scaled(T beta, T c) {
  if constexpr (std::is_integral_v<T>)
    return static_cast<T>(static_cast<std::uint32_t>(beta) * static_cast<std::uint32_t>(c));
  else
    return beta * c;
}

template <class TA, class TB, class T>
void gemm_any(Context& ctx, T alpha, MatrixView<const TA> A, MatrixView<const TB> B, T beta, MatrixView<T> C,
              ZeroPoints<T> zeros = {}, GemmFinish<T> finish = {}) {
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
      for (Index j = 0; j < C.cols(); ++j) C(i, j) = beta == T(0) ? T(0) : scaled(beta, C(i, j));
    if (finish.run != nullptr) finish(C, 0, 0);
    return;
  }
  if constexpr (!std::is_integral_v<T>) {
    Workspace::Scope scope(ctx.workspace);
    if (ctx.forced("gemm").empty() && (C.cols() == 1 || C.rows() == 1)) {
      if (C.cols() == 1)
        gemv_any<TA, T>(ctx, alpha, A, widened<T>(scope, B.col(0)), beta, C.col(0));
      else
        gemv_any<TB, T>(ctx, alpha, B.transposed(), widened<T>(scope, A.row(0)), beta, C.row(0));
      if (finish.run != nullptr) finish(C, 0, 0);
      return;
    }
  }
  // Kernels write rows of C: a C with contiguous columns is the transposed product with contiguous rows.
  if (C.row_stride() == 1 && C.col_stride() != 1) {
    auto args = gemm_args<TB, TA, T>(alpha, B.transposed(), A.transposed(), beta, C.transposed());
    if constexpr (std::is_integral_v<T>) {
      args.zero_a = zeros.zero_b;
      args.zero_b = zeros.zero_a;
    }
    args.finish = {finish.run, finish.what, finish.col, finish.row, !finish.turned};
    run_gemm(ctx, args, GemmKernels<TB, TA, T>());
  } else {
    auto args = gemm_args<TA, TB, T>(alpha, A, B, beta, C);
    static_cast<ZeroPoints<T>&>(args) = zeros;
    args.finish = finish;
    run_gemm(ctx, args, GemmKernels<TA, TB, T>());
  }
}

#define TESSERA_DETAIL_GEMM(TA, TB, T)                                                                               \
  TESSERA_SHARED(void run_gemm(Context&, GemmArgs<TA, TB, T>, GemmKernels<TA, TB, T>));                              \
  TESSERA_SHARED(void gemm_any<TA, TB, T>(Context&, T, MatrixView<const TA>, MatrixView<const TB>, T, MatrixView<T>, \
                                          ZeroPoints<T>, GemmFinish<T>))
TESSERA_DETAIL_GEMM(float, float, float);
TESSERA_DETAIL_GEMM(double, double, double);
TESSERA_DETAIL_GEMM(bf16, bf16, float);
#undef TESSERA_DETAIL_GEMM

template <class T>
inline constexpr bool is_half = std::is_same_v<T, bf16> || std::is_same_v<T, f16>;

/// Pairs of factors that gemm takes for sums in T, besides two of T and two of bytes.
template <class TA, class TB, class T>
concept HalfFactors = std::is_same_v<T, float> &&
    ((is_half<TA> && (std::is_same_v<TB, TA> || std::is_same_v<TB, float>)) ||
     (is_half<TB> && std::is_same_v<TA, float>));

template <class T>
void check_zero_point(const char* factor, std::int32_t zero) {
  using Limits = std::numeric_limits<T>;
  if (zero < Limits::min() || zero > Limits::max())
    throw unsupported_error(concat("tessera: gemm: zero point ", zero, " of ", factor, "; expected ",
                                   int{Limits::min()}, " to ", int{Limits::max()}));
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
  detail::gemm_any<T, T, T>(ctx, alpha, A, B, beta, C);
}

/// The same with both factors, or one, stored as bf16 or f16; sums are in float. Processors with VDPBF16PS multiply
/// bf16 with bf16 directly and take its subnormal numbers for zero.
template <class T, class TA, class TB>
requires detail::HalfFactors<std::remove_const_t<TA>, std::remove_const_t<TB>, T>
void gemm(Context& ctx, std::type_identity_t<T> alpha, MatrixView<TA> A, MatrixView<TB> B,  // (M,K), (K,N)
          std::type_identity_t<T> beta, MatrixView<T> C) {                                  // (M,N)
  detail::gemm_any<std::remove_const_t<TA>, std::remove_const_t<TB>, T>(ctx, alpha, A, B, beta, C);
}

/// C = alpha*(A - zero_a)*(B - zero_b) + beta*C modulo 2^32, each factor of int8 or uint8, the zero points of that
/// type: exact, the same for every kernel. 2*M*N*K operations. Throws shape_error, and unsupported_error for a zero
/// point out of range.
template <class A8, class B8>
requires(sizeof(A8) == 1 && sizeof(B8) == 1 && std::integral<A8> && std::integral<B8>)           //
    void gemm(Context& ctx, std::int32_t alpha, MatrixView<const A8> A, MatrixView<const B8> B,  // (M,K), (K,N)
              std::int32_t beta, MatrixView<std::int32_t> C,                                     // (M,N)
              ZeroPoints<std::int32_t> zeros = {}) {
  detail::check_zero_point<A8>("A", zeros.zero_a);
  detail::check_zero_point<B8>("B", zeros.zero_b);
  detail::gemm_any<A8, B8, std::int32_t>(ctx, alpha, A, B, beta, C, zeros);
}

}  // namespace tessera::inline TESSERA_ABI
