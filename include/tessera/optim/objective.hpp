/// What is minimised, for optimizers that look at it by themselves.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include <tessera/core/context.hpp>
#include <tessera/optim/parameters.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// A linear layer y = W a on the way back: `block` is W's number among the parameters, W (m,n); its inputs a (B,n) and
/// the gradient g (B,m) by its outputs.
template <class T>
using SeeLayer = std::function<void(std::size_t block, MatrixView<const T> a, MatrixView<const T> g)>;

/// A loss as the mean over rows of what it makes of the model's targets z (rows, cols), logits say. `output_laws.hpp`
/// has the last three functions of usual losses.
template <class T>
struct Targets {
  Index rows = 0, cols = 0;
  /// z ← the targets at the parameters as they are.
  std::function<void(MatrixView<T> z)> forward{};
  /// The gradients' blocks ← (∂z/∂θ)ᵀ dz where `forward` was last; `see`, where there is one, is shown linear layers.
  std::function<void(MatrixView<const T> dz, const SeeLayer<T>& see)> backward{};
  /// The mean loss; g ← its gradient by z.
  std::function<double(MatrixView<const T> z, MatrixView<T> g)> loss{};
  /// g ← the gradient of the mean loss of labels drawn from what the model says, a function of z and `draw`.
  std::function<void(MatrixView<const T> z, std::uint64_t draw, MatrixView<T> g)> drawn{};
  /// v ← H v, H the mean loss's Hessian by z.
  std::function<void(MatrixView<const T> z, MatrixView<T> v)> curvature{};
};

/// `gradient()` writes the gradient at the parameters as they are into the blocks that were given to `step` and returns
/// the loss; `loss()` only returns it. `targets` are for methods that look into the model: K-FAC, MKOR, natural
/// gradient, target surrogates.
template <class T>
struct Objective {
  std::function<double()> gradient{};
  std::function<double()> loss{};
  std::optional<Targets<T>> targets{};
};

namespace detail {

/// Throws property_error naming the first block with an element that is not finite.
template <class T>
void require_finite_loss(double loss, const Parameters<T>& params, const Parameters<T>& grads) {
  if (std::isfinite(loss)) return;
  const auto first = [](const Parameters<T>& blocks, const char* what) {
    for (const auto& block : blocks)
      for (Index i = 0; i < block.size(); ++i)
        if (!std::isfinite(block.data[i]))
          return concat("; the first such element is of the ", what, " '", block.name, "' (",
                        tessera::detail::shape_text(block.rows, block.cols), "), ", block.data[i], " at (",
                        i / block.cols, ", ", i % block.cols, ")");
    return std::string();
  };
  std::string where = first(params, "parameter");
  if (where.empty()) where = first(grads, "gradient of");
  throw property_error(concat("tessera: the loss is ", loss, "; expected a finite one", where));
}

/// Throws unsupported_error where the objective has none.
template <class T>
const Targets<T>& targets_of(std::string_view who, const Objective<T>& objective) {
  if (!objective.targets)
    throw unsupported_error(
        concat("tessera: ", who, " looks into the model, but the objective has no targets; expected Targets"));
  return *objective.targets;
}

}  // namespace detail
}  // namespace tessera::inline TESSERA_ABI::optim
