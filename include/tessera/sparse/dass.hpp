/// Linear layers whose sparsity pattern is learnt by scores.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <span>
#include <utility>
#include <vector>

#include <tessera/compress/mask.hpp>
#include <tessera/core/context.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/sparse/sddmm.hpp>

namespace tessera::inline TESSERA_ABI {

/// W (M,N) on the pattern of the `kept` largest |score| (of equal ones the first), the entries of a row rising.
/// O(MN log MN). Throws shape_error.
template <std::floating_point T>
Csr<T> top_k_pattern(MatrixView<const T> W, MatrixView<const T> score, Index kept) {
  if (score.rows() != W.rows() || score.cols() != W.cols() || kept < 0 || kept > W.size())
    throw shape_error(detail::concat("tessera: top_k_pattern: ", kept, " of (", detail::shape_text(W.rows(), W.cols()),
                                     ") by scores of (", detail::shape_text(score.rows(), score.cols()), ")"));
  Mask mask(W.rows(), W.cols(), false);
  for (const Index p : detail::largest(detail::all_places(0, W.size()), kept,
                                       [&](Index q) { return std::abs(score(q / W.cols(), q % W.cols())); }))
    mask.set(p, true);
  return masked_csr(mask, W);
}

/// Y = (W ∘ mask(score)) X with exactly `kept` weights. H. Mousavi et al., "DASS: Differentiable Architecture Search
/// for Sparse Neural Networks" (2023): masks are top-k of scores that are trained straight through, so that sparsity is
/// part of the search space. The forward product is of the sparse matrix; call `update` when W or the scores have
/// changed.
template <std::floating_point T>
class ParametricSparseLinear {
 public:
  ParametricSparseLinear(MatrixView<const T> W, MatrixView<const T> score, Index kept) { update(W, score, kept); }

  void update(MatrixView<const T> W, MatrixView<const T> score, Index kept) { sparse_ = top_k_pattern(W, score, kept); }
  const Csr<T>& weight() const { return sparse_; }

  void forward(Context& ctx, MatrixView<const T> X, MatrixView<T> Y) const {  // (N,B) to (M,B)
    sparse_.apply(ctx, Op::none, T(1), X, T(0), Y);
  }

  /// dX := (W ∘ mask)ᵀ dY and dW := dY Xᵀ on the pattern; O(nnz·B).
  Csr<T> backward(Context& ctx, MatrixView<const T> X, MatrixView<const T> dY, MatrixView<T> dX) const {
    sparse_.apply(ctx, Op::transpose, T(1), dY, T(0), dX);
    return sddmm(ctx, T(1), sparse_, dY, X);
  }

  /// dscore (M,N) := (dY Xᵀ) ∘ W: the mask taken for its score, so that entries outside the pattern may come back.
  /// 2·M·N·B flops. Throws shape_error.
  void score_gradient(Context& ctx, MatrixView<const T> W, MatrixView<const T> X, MatrixView<const T> dY,
                      MatrixView<T> dscore) const {
    if (W.rows() != sparse_.rows() || W.cols() != sparse_.cols())
      throw shape_error(detail::concat("tessera: score_gradient of (", detail::csr_text(sparse_.rows(), sparse_.cols()),
                                       ") with W (", detail::shape_text(W.rows(), W.cols()), ")"));
    gemm<T>(ctx, T(1), dY, X.transposed(), T(0), dscore);
    for (Index i = 0; i < W.rows(); ++i)
      for (Index j = 0; j < W.cols(); ++j) dscore(i, j) *= W(i, j);
  }

 private:
  Csr<T> sparse_;
};

/// softmax(alpha) (O), the shares of DARTS' candidate operations.
template <std::floating_point T>
std::vector<T> darts_shares(std::span<const T> alpha) {
  std::vector<T> share(alpha.begin(), alpha.end());
  if (share.empty()) return share;
  const T most = *std::max_element(share.begin(), share.end());
  T sum = T(0);
  for (T& s : share) sum += s = std::exp(s - most);
  for (T& s : share) s /= sum;
  return share;
}

/// Y = Σ_o softmax(alpha)_o·outputs[o], (O,M,B) to (M,B). H. Liu et al., "DARTS" (2019), Eq. 2. Throws shape_error.
template <std::floating_point T>
void darts_mix(View<const T, 3> outputs, std::span<const T> alpha, MatrixView<T> Y) {
  if (outputs.extent(0) != static_cast<Index>(alpha.size()) || outputs.extent(1) != Y.rows() ||
      outputs.extent(2) != Y.cols())
    throw shape_error(detail::concat("tessera: darts_mix of ", outputs.extent(0), " operations (",
                                     detail::shape_text(outputs.extent(1), outputs.extent(2)), ") by ", alpha.size(),
                                     " shares into (", detail::shape_text(Y.rows(), Y.cols()), ")"));
  const std::vector<T> share = darts_shares(alpha);
  for (Index i = 0; i < Y.rows(); ++i)
    for (Index n = 0; n < Y.cols(); ++n) {
      T sum = T(0);
      for (Index o = 0; o < outputs.extent(0); ++o) sum += share[static_cast<std::size_t>(o)] * outputs(o, i, n);
      Y(i, n) = sum;
    }
}

/// d alpha_o = share_o·(⟨dY, output_o⟩ - Σ_p share_p ⟨dY, output_p⟩).
template <std::floating_point T>
std::vector<T> darts_mix_gradient(View<const T, 3> outputs, std::span<const T> alpha, MatrixView<const T> dY) {
  std::vector<T> share = darts_shares(alpha), along(alpha.size());
  T mean = T(0);
  for (std::size_t o = 0; o < along.size(); ++o) {
    for (Index i = 0; i < dY.rows(); ++i)
      for (Index n = 0; n < dY.cols(); ++n) along[o] += dY(i, n) * outputs(static_cast<Index>(o), i, n);
    mean += share[o] * along[o];
  }
  for (std::size_t o = 0; o < along.size(); ++o) share[o] *= along[o] - mean;
  return share;
}

}  // namespace tessera::inline TESSERA_ABI
