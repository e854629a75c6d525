/// Softmax cross-entropy, from logits or straight from the last hidden state.
#pragma once

#include <algorithm>
#include <span>

#include <tessera/core/context.hpp>
#include <tessera/expr/concepts.hpp>
#include <tessera/kernels/map/map.hpp>
#include <tessera/kernels/rows/rows.hpp>
#include <tessera/nn/elementwise.hpp>
#include <tessera/nn/embedding.hpp>
#include <tessera/nn/linear.hpp>

namespace tessera::inline TESSERA_ABI::nn {

/// Σ of -log p(target) in nats over the rows that have a target, and how many those are.
struct CrossEntropy {
  double loss = 0;
  Index count = 0;
  double mean() const { return count == 0 ? 0 : loss / static_cast<double>(count); }
};

namespace detail {

inline void check_targets(std::span<const Token> targets, Index n, Index vocabulary) {
  using tessera::detail::concat;
  if (static_cast<Index>(targets.size()) != n)
    throw shape_error(concat("tessera: cross_entropy: ", static_cast<Index>(targets.size()), " targets for ", n,
                             " rows of activations"));
  for (std::size_t i = 0; i < targets.size(); ++i)
    if (targets[i] >= vocabulary)
      throw shape_error(
          concat("tessera: cross_entropy: target ", i, " is ", targets[i], "; there are ", vocabulary, " classes"));
}

}  // namespace detail

/// loss_i = log Σ_j exp(logits_ij) - logits_i,target; a negative target leaves its row out. Where dlogits has data it
/// becomes scale·∂loss/∂logits = scale·(softmax - onehot), zeros for rows left out; it may be logits itself.
/// Throws shape_error. O(n·vocabulary). The loss is added up in double, row after row.
template <class T>
CrossEntropy cross_entropy(Context& ctx, std::type_identity_t<MatrixView<const T>> logits,  // (n, vocabulary)
                           std::span<const Token> targets,                                  // (n)
                           MatrixView<T> dlogits = {}, std::type_identity_t<T> scale = 1) {
  const Index n = logits.rows();
  detail::check_targets(targets, n, logits.cols());
  CrossEntropy total;
  Workspace::Scope scope(ctx.workspace);
  const VectorView<T> lse(scope.take<T>(n), n);
  log_sum_exp_rows<T>(ctx, logits, lse);
  for (Index i = 0; i < n; ++i)
    if (const Token target = targets[static_cast<std::size_t>(i)]; target >= 0) {
      total.loss += static_cast<double>(lse[i]) - static_cast<double>(logits(i, target));
      ++total.count;
    }
  if (dlogits.data() == nullptr) return total;
  softmax_rows<T>(ctx, logits, dlogits);
  if (scale != T(1)) detail::map_matrices(ctx, "scale", detail::Scale<T>{scale}, dlogits);
  for (Index i = 0; i < n; ++i) {
    const Token target = targets[static_cast<std::size_t>(i)];
    if (target >= 0)
      dlogits(i, target) -= scale;
    else
      for (Index j = 0; j < dlogits.cols(); ++j) dlogits(i, j) = T(0);
  }
  return total;
}

/// The cross-entropy of logits = H Wᵀ, W (vocabulary, d) of any representation, a block of rows at a time, so that the
/// (n, vocabulary) logits never exist. Where dH has data: dH = scale·∂loss/∂H; where dparams is not empty:
/// dparams = beta_dparams·dparams + scale·∂loss/∂(parameters of W). dH may be H.
/// Throws shape_error. Blocks depend on the shape alone: the same bits for any number of threads.
template <LinearOperator W, class S = typename W::Scalar>
CrossEntropy fused_linear_cross_entropy(Context& ctx, const W& w,                     // (vocabulary, d)
                                        std::type_identity_t<MatrixView<const S>> H,  // (n, d)
                                        std::span<const Token> targets,               // (n)
                                        std::type_identity_t<MatrixView<S>> dH = {},  // (n, d)
                                        std::type_identity_t<S> scale = 1,            // e.g. 1/n
                                        std::type_identity_t<S> beta_dparams = 0,     //
                                        std::type_identity_t<std::span<S>> dparams = {}) {
  const Index n = H.rows(), vocabulary = w.rows();
  detail::check_targets(targets, n, vocabulary);
  const Index block = std::clamp<Index>((Index{1} << 18) / std::max<Index>(vocabulary, 1), 64, 1024);
  const bool backward = dH.data() != nullptr || !dparams.empty();
  if (n == 0)  // beta still applies
    linear_backward(ctx, w, H, MatrixView<const S>(nullptr, 0, vocabulary), {}, beta_dparams, dparams);
  CrossEntropy total;
  Workspace::Scope scope(ctx.workspace);
  S* const memory = scope.take<S>(std::min(block, n) * vocabulary);
  for (Index begin = 0; begin < n; begin += block) {
    const Index count = std::min(block, n - begin);
    const MatrixView<S> logits(memory, count, vocabulary);
    const MatrixView<const S> h = H.slice(0, begin, count);
    linear(ctx, w, h, logits);
    const auto part =
        cross_entropy<S>(ctx, logits, targets.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count)),
                         backward ? logits : MatrixView<S>(), scale);
    total.loss += part.loss;
    total.count += part.count;
    if (!backward) continue;
    linear_backward(ctx, w, h, logits, {}, begin == 0 ? beta_dparams : S(1), dparams);
    if (dH.data() != nullptr) linear_backward(ctx, w, h, logits, dH.slice(0, begin, count), S(0), {});
  }
  return total;
}

}  // namespace tessera::inline TESSERA_ABI::nn
