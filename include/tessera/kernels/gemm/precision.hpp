/// Products of f32 that may take bf16 instructions.
#pragma once

#include <atomic>
#include <concepts>
#include <string_view>
#include <type_traits>

#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/kernels/gemm/split_amx.hpp>
#include <tessera/kernels/gemm/split_avx512.hpp>

namespace tessera::inline TESSERA_ABI {

/// Kernels of a product of f32 that need not be exact, best first. On AMX a product of bf16 takes a sixteenth of the
/// time of one in f32; by VDPBF16PS half of it, so that three are slower than the one, and stand behind it.
#if TESSERA_X86
using PreciseGemmKernels = KernelList<GemmAvx512Dot, GemmAmxBf16x3, GemmAmxBf16x6, GemmAvx512Few, GemmAvx512,
                                      GemmAvx512Bf16x3, GemmAvx512Bf16x6, GemmAvx2Few, GemmAvx2, GemmXsimd<>, GemmRef>;
#else
using PreciseGemmKernels = KernelList<GemmXsimd<>, GemmRef>;
#endif

/// What a gemm with a Precision did.
struct PrecisionReport {
  std::string_view kernel;  // empty where nothing was to be multiplied, or gemv was
  Index tiles_in_f32 = 0;   // tiles of a split kernel, a K block each, that could not be split
};

/// C = alpha*A*B + beta*C in f32, as gemm does; `precision` permits kernels that split the factors into bf16 parts,
/// a = h + m (+ l), and sum the products of parts in f32. With |alpha| = 1, beta = 0 and u = 2^-24, an entry's error is
///   exact    γ_k Σ|a||b|
///   bf16x6   (2^-24 + 2^-34 + γ_(6k+3)) Σ|a||b|     h h', h m', m h', h l', l h', m m'
///   bf16x3   (2^-15 + 2^-32 + γ_(3k+3)) Σ|a||b|     h h', h m', m h'
/// for: with the parts of gemm/split.hpp, |m| <= 2^-8 |a|, |l| <= 2^-17 |a| and h + m + l = a, six products leave
/// |m l'| + |l m'| + |l l'| <= (2 * 2^-25 + 2^-34) |a b|, three leave a δ' + δ b - δ δ' + m m' with |δ| <= 2^-17 |a|;
/// parts' products are exact in f32, and each of the 6k or 3k is added with one rounding, or loses less than 2^-126 to
/// flushing, which is less than u |a b| for the numbers that are split.
/// Numbers that are not: a panel of 10 to 32 rows or columns, over a K block, with one that is not finite, is 2^127 or
/// more, or is not zero and below 2^-103, and two panels whose products could exceed 2^127 in sum or fall below
/// 2^-102. Their tile is multiplied by FMA in f32 and counted in `report`; it has the same bound, infinities and NaN as
/// by the exact kernel. The result does not depend on the number of threads. Throws shape_error.
/// After G. Henry, P. Tang, A. Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision
/// Computations" (ARITH 2019).
template <std::same_as<float> T>
void gemm(Context& ctx, std::type_identity_t<T> alpha, std::type_identity_t<MatrixView<const T>> A,  // (M,K)
          std::type_identity_t<MatrixView<const T>> B,                                               // (K,N)
          std::type_identity_t<T> beta, MatrixView<T> C, Precision precision,                        // (M,N)
          PrecisionReport* report = nullptr) {
  if (report != nullptr) *report = {};
  const bool line = (C.rows() == 1 || C.cols() == 1) && ctx.forced("gemm").empty();
  if (line || C.empty() || A.cols() == 0 || A.cols() != B.rows() || A.rows() != C.rows() || B.cols() != C.cols() ||
      alpha == 0)
    return detail::gemm_any<T, T, T>(ctx, alpha, A, B, beta, C);
  const bool turned = C.row_stride() == 1 && C.col_stride() != 1;  // as gemm: kernels write rows
  auto args = turned ? detail::gemm_args<T, T, T>(alpha, B.transposed(), A.transposed(), beta, C.transposed())
                     : detail::gemm_args<T, T, T>(alpha, A, B, beta, C);
  std::atomic<Index> unsplit{0};
  args.precision = precision;
  args.unsplit = &unsplit;
  detail::run_gemm(ctx, args, PreciseGemmKernels());
  if (report != nullptr) *report = {PreciseGemmKernels::select(ctx, args).name, unsplit.load()};
}

}  // namespace tessera::inline TESSERA_ABI
