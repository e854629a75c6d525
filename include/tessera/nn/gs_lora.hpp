/// Losses that make a network forget some classes and keep the others.
/// H. Zhao et al., "Continual Forgetting for Pre-trained Vision Models" (CVPR 2024), eq. 4 to 7; "Practical Continual
/// Forgetting for Pre-trained Vision Models" (2025), GS-LoRA++, with prototypes. Their third part, the group lasso over
/// each layer's adapter, is optim::group_lasso_prox.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include <tessera/nn/cross_entropy.hpp>

namespace tessera::inline TESSERA_ABI::nn {

/// Forgetting stops where the mean loss of what is forgotten reaches `bound`: else it would grow without end.
struct ForgetOptions {
  double weight = 0.1;
  double bound = 10;
};

/// Means over the rows kept and over those forgotten; `total` = kept + weight·max(0, bound - forgotten).
struct ForgetLoss {
  double kept = 0, forgotten = 0, total = 0;
};

namespace detail {
/// The total, and what each row's gradient is multiplied by.
struct ForgetFactors {
  double kept = 0, forgotten = 0;
  ForgetFactors(const ForgetOptions& o, Index kept_rows, Index forgotten_rows, ForgetLoss& loss) {
    loss.total = loss.kept;
    if (kept_rows > 0) kept = 1 / static_cast<double>(kept_rows);
    if (forgotten_rows > 0 && loss.forgotten < o.bound) {
      loss.total += o.weight * (o.bound - loss.forgotten);
      forgotten = -o.weight / static_cast<double>(forgotten_rows);
    }
  }
};
}  // namespace detail

/// The cross-entropy of rows whose class `forget` leaves out, and the bounded negative one of the rows it takes.
/// dlogits = ∂total/∂logits where it has data; it must not be logits. Rows with a negative target count for nothing.
/// Throws shape_error.
template <class T, class Forget>
ForgetLoss gs_lora_loss(Context& ctx, std::type_identity_t<MatrixView<const T>> logits,  // (n, classes)
                        std::span<const Token> targets, const Forget& forget, const ForgetOptions& options,
                        MatrixView<T> dlogits) {
  Workspace::Scope scope(ctx.workspace);
  const std::size_t n = targets.size();
  Token* kept = scope.take<Token>(static_cast<Index>(n));
  Token* gone = scope.take<Token>(static_cast<Index>(n));
  for (std::size_t i = 0; i < n; ++i) {
    const bool take = targets[i] >= 0 && forget(targets[i]);
    kept[i] = take ? Token(-1) : targets[i];
    gone[i] = take ? targets[i] : Token(-1);
  }
  const MatrixView<T> nothing;
  const CrossEntropy keep = cross_entropy<T>(ctx, logits, {kept, n}, nothing);
  const CrossEntropy lose = cross_entropy<T>(ctx, logits, {gone, n}, nothing);
  ForgetLoss loss{keep.mean(), lose.mean(), 0};
  const detail::ForgetFactors factors(options, keep.count, lose.count, loss);
  if (dlogits.data() == nullptr) return loss;
  cross_entropy<T>(ctx, logits, targets, dlogits);
  for (std::size_t i = 0; i < n; ++i) {
    const T factor = static_cast<T>(gone[i] >= 0 ? factors.forgotten : factors.kept);
    map(ctx, detail::Scale<T>{factor}, dlogits.row(static_cast<Index>(i)));
  }
  return loss;
}

/// The same of squared distances ‖z - prototype of its class‖² instead of cross-entropies: what is kept is drawn to its
/// prototype, what is forgotten pushed out to √bound from its own. dZ = ∂total/∂Z where it has data.
template <class T, class Forget>
ForgetLoss prototype_loss(std::type_identity_t<MatrixView<const T>> Z,           // (n, d)
                          std::type_identity_t<MatrixView<const T>> prototypes,  // (classes, d)
                          std::span<const Token> targets, const Forget& forget, const ForgetOptions& options,
                          MatrixView<T> dZ) {
  detail::check_targets(targets, Z.rows(), prototypes.rows());
  if (Z.cols() != prototypes.cols())
    throw shape_error(tessera::detail::concat("tessera: prototype_loss: features have ", Z.cols(),
                                              " columns, prototypes ", prototypes.cols()));
  if (dZ.data() != nullptr && (dZ.rows() != Z.rows() || dZ.cols() != Z.cols()))
    throw shape_error(tessera::detail::concat("tessera: prototype_loss of (",
                                              tessera::detail::shape_text(Z.rows(), Z.cols()), "): dZ (",
                                              tessera::detail::shape_text(dZ.rows(), dZ.cols()), ")"));
  ForgetLoss loss;
  Index kept = 0, gone = 0;
  const auto each = [&](auto&& f) {
    for (Index i = 0; i < Z.rows(); ++i)
      if (const Token t = targets[static_cast<std::size_t>(i)]; t >= 0) f(i, t, forget(t));
  };
  each([&](Index i, Token t, bool take) {
    double square = 0;
    for (Index j = 0; j < Z.cols(); ++j) {
      const double by = static_cast<double>(Z(i, j)) - static_cast<double>(prototypes(t, j));
      square += by * by;
    }
    (take ? loss.forgotten : loss.kept) += square;
    ++(take ? gone : kept);
  });
  loss.kept /= static_cast<double>(std::max<Index>(kept, 1));
  loss.forgotten /= static_cast<double>(std::max<Index>(gone, 1));
  const detail::ForgetFactors factors(options, kept, gone, loss);
  if (dZ.data() == nullptr) return loss;
  for (Index i = 0; i < Z.rows(); ++i)
    for (Index j = 0; j < Z.cols(); ++j) dZ(i, j) = T(0);
  each([&](Index i, Token t, bool take) {
    const T factor = static_cast<T>(2 * (take ? factors.forgotten : factors.kept));
    for (Index j = 0; j < Z.cols(); ++j) dZ(i, j) = factor * (Z(i, j) - prototypes(t, j));
  });
  return loss;
}

}  // namespace tessera::inline TESSERA_ABI::nn
