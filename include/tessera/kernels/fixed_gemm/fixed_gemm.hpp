/// 16-bit integers times 16-bit integers, to f32.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/kernels/fixed_gemm/list.hpp>
#include <tessera/kernels/gemm/drive.hpp>

namespace tessera::inline TESSERA_ABI {

/// How many products of entries of magnitude up to `a` and `b` fit in an int32 together: a power of two, at most
/// fixed_gemm_longest_chain. Throws unsupported_error where not even two do.
inline Index fixed_gemm_chain(std::int32_t a, std::int32_t b) {
  constexpr std::int64_t most = 0x7fffffff;
  Index chain = fixed_gemm_longest_chain;
  while (chain >= 2 && std::int64_t{a} * b > most / chain) chain /= 2;
  if (chain < 2)
    throw unsupported_error(detail::concat("tessera: fixed_gemm_chain of entries up to ", a, " and ", b,
                                           ": two products exceed an int32; expected at most 32767"));
  return chain;
}

/// C = alpha*A*B + beta*C, C not overlapping A or B, any strides; beta == 0 never reads C. `chain` products at a time
/// are summed in int32, exactly if they fit (fixed_gemm_chain says how many do), and the chains in f32: the same bits
/// for any kernel where alpha is a power of two and beta 0 or 1. 2*M*N*K operations. Throws shape_error, and
/// unsupported_error for a chain that is no power of two from 2 to fixed_gemm_longest_chain.
/// D. Das et al., "Mixed Precision Training of Convolutional Neural Networks using Integer Operations" (2018), §3.
template <class = void>
void fixed_gemm(Context& ctx, float alpha, MatrixView<const std::int16_t> A,  // (M,K)
                MatrixView<const std::int16_t> B,                             // (K,N)
                float beta, MatrixView<float> C, Index chain) {               // (M,N)
  if (A.cols() != B.rows() || A.rows() != C.rows() || B.cols() != C.cols())
    throw shape_error(detail::concat("tessera: fixed_gemm of (", detail::shape_text(A.rows(), A.cols()), ") * (",
                                     detail::shape_text(B.rows(), B.cols()), ") into (",
                                     detail::shape_text(C.rows(), C.cols()), "): expected (M,K) * (K,N) into (M,N)"));
  if (chain < 2 || chain > fixed_gemm_longest_chain || !std::has_single_bit(static_cast<std::size_t>(chain)))
    throw unsupported_error(detail::concat("tessera: fixed_gemm in chains of ", chain,
                                           "; expected a power of two from 2 to ", fixed_gemm_longest_chain));
  if (C.empty()) return;
  if (A.cols() == 0 || alpha == 0) {
    for (Index i = 0; i < C.rows(); ++i)
      for (Index j = 0; j < C.cols(); ++j) C(i, j) = beta == 0 ? 0.0f : beta * C(i, j);
    return;
  }
  FixedGemmArgs args;
  args.chain = chain;
  args.alpha = alpha;
  args.beta = beta;
  const bool turned = C.row_stride() == 1 && C.col_stride() != 1;  // kernels write rows of C
  args.A = turned ? B.transposed() : A;
  args.B = turned ? A.transposed() : B;
  args.C = turned ? C.transposed() : C;
  detail::run_gemm(ctx, args, FixedGemmKernels());
}

}  // namespace tessera::inline TESSERA_ABI
