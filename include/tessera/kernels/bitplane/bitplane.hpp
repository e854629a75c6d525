/// Integer products of matrices of 1 to 8 bits, any pair of widths, from their bit planes.
#pragma once

#include <algorithm>

#include <tessera/core/error.hpp>
#include <tessera/kernels/bitplane/list.hpp>

namespace tessera::inline TESSERA_ABI {

/// Y (M,N) = W (M,K) Xᵀ of X (N,K), exact: Σ_{s,t} 2^(s+t) popcount(W_s & X_t) for unsigned codes,
/// Σ_{s,t} 2^(s+t) (K - 2 popcount(W_s ^ X_t)) for bipolar ones. M·N·p·q·K/64 word operations: time goes with p·q.
/// Throws shape_error for shapes that do not fit, and where K · 2^(p+q) could pass int32.
/// J. Liang et al., "ABQ-LLM" (2024), §3.3; S. Ma et al., "Efficient Arbitrary Precision Acceleration for LLMs on GPU
/// Tensor Cores" (2024), bipolar-INT.
inline void bitplane_gemm(Context& ctx, const BitPlanesView& W, const BitPlanesView& X, PlaneCodes codes,
                          MatrixView<std::int32_t> Y) {
  if (W.k != X.k || Y.rows() != W.rows || Y.cols() != X.rows)
    throw shape_error(detail::concat("tessera: bitplane_gemm of (", detail::shape_text(W.rows, W.k), ") * (",
                                     detail::shape_text(X.rows, X.k), ")^T into (",
                                     detail::shape_text(Y.rows(), Y.cols()), "): expected equal columns and ",
                                     detail::shape_text(W.rows, X.rows)));
  if (W.bits < 1 || W.bits > 8 || X.bits < 1 || X.bits > 8 || W.k > (Index{1} << 31) >> (W.bits + X.bits))
    throw shape_error(detail::concat("tessera: bitplane_gemm of ", W.bits, " and ", X.bits, " bits over ", W.k,
                                     " columns: expected 1 to 8 bits, and columns below 2^(31 - bits)"));
  if (W.rows == 0 || X.rows == 0) return;
  BitplaneArgs args;
  args.w = W;
  args.x = X;
  args.codes = codes;
  args.y = Y;
  const Index work = W.bits * X.bits * X.rows * (W.row_words() + 1);  // words of a row; some microseconds a piece
  launch(ctx, BitplaneKernels::select(ctx, args), args, W.rows, std::max<Index>(1, (Index{1} << 12) / work) * 16);
}

}  // namespace tessera::inline TESSERA_ABI
