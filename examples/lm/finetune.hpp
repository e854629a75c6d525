/// Training of structured weights to the loss of the whole model.
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <functional>
#include <vector>

#include "decoder.hpp"
#include "structured.hpp"
#include "trainer.hpp"

namespace lm {

struct Finetuning {
  Index steps = 40, batch = 4, length = 256;  // of sequences drawn from the text
  double rate = 3e-3;                         // at its peak, of Adam
  std::uint64_t seed = 1;
};

/// The model's weights with its linear layers, in their order, replaced by `layers`: 7 a layer, wq wk wv wo w1 w3 w2.
Weights replaced(const Model& model, const std::vector<StructuredLayer>& layers);

/// Trains the parameters of all `layers` together by Adam to the model's cross-entropy on `text`; embedding and norms
/// stay. The same for any number of threads. Returns the mean loss in nats a token of the last tenth of the steps.
/// Throws format_error for less text than a sequence, unsupported_error where the loss is not finite.
double finetune(Context& ctx, const Model& model, std::vector<StructuredLayer>& layers,
                const std::vector<std::vector<std::int32_t>>& text, const Finetuning& options);

/// X Xᵀ (in, in) of all that the layer with these weights saw.
using GramOf = std::function<const Eigen::MatrixXd&(MatrixView<const float>)>;

/// Every structure, and once more after `steps` of finetune on `text`, if there are any, where each layer may first
/// have been fit to its own outputs. `model` is to outlive them; training comes with the first tensor that is
/// represented.
std::vector<WeightFormat> structured_weight_formats(const Model& model, const GramOf& gram,
                                                    const std::vector<std::vector<std::int32_t>>& text, Index steps);

}  // namespace lm
