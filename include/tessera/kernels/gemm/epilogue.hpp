/// Products with an epilogue: what follows a product elementwise, done to each block of C while it is in cache.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <tessera/kernels/gemm/epilogue_lanes.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/kernels/gemm/packed.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

template <class E, class RealT, class OutT, bool Elsewhere>
struct EpilogueJob {
  using Real = RealT;
  using Out = OutT;
  static constexpr bool elsewhere = Elsewhere;
  const E& steps;
  MatrixView<OutT> out;  // where Elsewhere
};

/// `job` on the widest vectors there are; one number at a time where the reference is forced.
template <class T, class Job>
GemmFinish<T> gemm_finish(const Context& ctx, const Job& job) {
  GemmFinish<T> finish;
  finish.what = &job;
  finish.run = &epilogue_portable::FinishLoop<simd::Portable<>>::template run<Job, T>;
#if TESSERA_X86
  if constexpr (compiled_isa.has(Isa::avx2))
    if (active_isa().has(Isa::avx2)) finish.run = &epilogue_avx2::FinishLoop<simd::Avx2>::template run<Job, T>;
  if constexpr (compiled_isa.has(Isa::avx512))
    if (active_isa().has(Isa::avx512)) finish.run = &epilogue_avx512::FinishLoop<simd::Avx512>::template run<Job, T>;
#endif
  if (ctx.forced("gemm").ends_with(":ref"))
    finish.run = &epilogue_portable::FinishLoop<simd::Scalar>::template run<Job, T>;
  return finish;
}

/// Factors that gemm takes for sums in T.
template <class TA, class TB, class T>
concept GemmFactors =
    (std::floating_point<T> && std::same_as<TA, T> && std::same_as<TB, T>) || HalfFactors<TA, TB, T> ||
    (std::same_as<T, std::int32_t> && std::integral<TA> && sizeof(TA) == 1 && std::integral<TB> && sizeof(TB) == 1);

/// What products of the factors are summed in.
template <class TA, class TB>
using gemm_sum_t =
    std::conditional_t<std::integral<TA>, std::int32_t, std::conditional_t<std::same_as<TA, double>, double, float>>;

}  // namespace detail

/// C = epilogue(alpha*A*B + beta*C) for the factors that gemm takes, f32, f64, bf16 and f16:
///   gemm(ctx, 1.0f, X, W, 0.0f, Y, epilogue::bias_per_column(b) | epilogue::gelu() | epilogue::residual(R));
/// Results do not depend on blocks, threads or strides. Throws shape_error, of vectors too, and unsupported_error for a
/// residual that overlaps C.
template <class T, class TA, class TB, epilogue::Step E>
requires std::floating_point<T> && detail::GemmFactors<std::remove_const_t<TA>, std::remove_const_t<TB>, T>
void gemm(Context& ctx, std::type_identity_t<T> alpha, MatrixView<TA> A, MatrixView<TB> B,  // (M,K), (K,N)
          std::type_identity_t<T> beta, MatrixView<T> C, const E& epilogue) {               // (M,N)
  static_assert(!detail::has_integer_bias<E>, "tessera: a bias of integers is for products of bytes");
  epilogue.check(C.rows(), C.cols());
  tessera::epilogue::detail::check_destination(epilogue, C, true);
  const detail::EpilogueJob<E, T, T, false> job{epilogue, {}};
  detail::gemm_any<std::remove_const_t<TA>, std::remove_const_t<TB>, T>(ctx, alpha, A, B, beta, C, {},
                                                                        detail::gemm_finish<T>(ctx, job));
}

/// The same with B packed once.
template <class T, epilogue::Step E>
void gemm(Context& ctx, std::type_identity_t<T> alpha, std::type_identity_t<MatrixView<const T>> A,  // (M,K)
          const PackedFactor<T>& B,                                                                  // (K,N)
          std::type_identity_t<T> beta, MatrixView<T> C, const E& epilogue) {                        // (M,N)
  epilogue.check(C.rows(), C.cols());
  tessera::epilogue::detail::check_destination(epilogue, C, true);
  const detail::EpilogueJob<E, T, T, false> job{epilogue, {}};
  B.multiply(ctx, alpha, A, beta, C, detail::gemm_finish<T>(ctx, job));
}

/// D = epilogue(alpha*A*B) where D's entries are not those that sums are held in: products of f32, bf16 or f16 stored
/// as bf16, f16, int8 or uint8; products of bytes as f32 too. Sums of bytes are exact; the epilogue then works in f32:
///   gemm_to(ctx, 1, A8, B8, bias_per_column(b32) | scale_per_column(s) | requantize(zero), D8, {.zero_a = 3});
/// Stored as bytes, values are rounded to nearest (ties to even) and kept in range, NaN becomes 0: with a bias of
/// integers, scales, clamps, relu and requantize all kernels give the same bits. Scratch of M * min(N, 2048) sums.
/// Throws shape_error, and unsupported_error for a zero point out of range or a residual that overlaps D elsewhere.
template <class TA, class TB, epilogue::Step E, class D>
requires detail::GemmFactors<std::remove_const_t<TA>, std::remove_const_t<TB>,
                             detail::gemm_sum_t<std::remove_const_t<TA>, std::remove_const_t<TB>>>
void gemm_to(Context& ctx,
             std::type_identity_t<detail::gemm_sum_t<std::remove_const_t<TA>, std::remove_const_t<TB>>> alpha,  //
             MatrixView<TA> A, MatrixView<TB> B,   // (M,K), (K,N)
             const E& epilogue, MatrixView<D> to,  // (M,N)
             ZeroPoints<detail::gemm_sum_t<std::remove_const_t<TA>, std::remove_const_t<TB>>> zeros = {}) {
  using T = detail::gemm_sum_t<std::remove_const_t<TA>, std::remove_const_t<TB>>;
  using Real = std::conditional_t<std::same_as<T, double>, double, float>;
  static_assert(std::same_as<D, Real> || (std::same_as<Real, float> && (detail::is_half<D> || sizeof(D) == 1)),
                "tessera: gemm_to stores f32, bf16, f16, int8 or uint8, or f64 of f64");
  static_assert(!detail::has_integer_bias<E> || (std::integral<T> && detail::leading_integer_bias<E>),
                "tessera: a bias of integers is the first step of a product of bytes");
  if (A.rows() != to.rows() || B.cols() != to.cols())
    throw shape_error(detail::concat("tessera: gemm_to of (", detail::shape_text(A.rows(), A.cols()), ") * (",
                                     detail::shape_text(B.rows(), B.cols()), ") is ",
                                     detail::shape_text(A.rows(), B.cols()), ", the destination is ",
                                     detail::shape_text(to.rows(), to.cols())));
  epilogue.check(to.rows(), to.cols());
  tessera::epilogue::detail::check_destination(epilogue, to, false);
  if constexpr (std::integral<T>) {
    detail::check_zero_point<std::remove_const_t<TA>>("A", zeros.zero_a);
    detail::check_zero_point<std::remove_const_t<TB>>("B", zeros.zero_b);
  }
  if (to.empty()) return;
  const Index m = to.rows(), n = to.cols(), most = 2048;
  Workspace::Scope scope(ctx.workspace);
  T* sums = scope.take<T>(m * std::min(n, most));
  const bool columns = to.row_stride() == 1 && to.col_stride() != 1;
  const detail::EpilogueJob<E, Real, D, true> job{epilogue, to};
  for (Index j = 0; j < n; j += most) {
    const Index some = std::min(most, n - j);
    auto finish = detail::gemm_finish<T>(ctx, job);
    finish.col = j;
    const MatrixView<T> C =
        columns ? MatrixView<T>(sums, {m, some}, {1, m}) : MatrixView<T>(sums, {m, some}, {some, 1});
    detail::gemm_any<std::remove_const_t<TA>, std::remove_const_t<TB>, T>(ctx, alpha, A, B.slice(1, j, some), T(0), C,
                                                                          zeros, finish);
  }
}

}  // namespace tessera::inline TESSERA_ABI
