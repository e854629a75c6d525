/// Optimizers by name for the programs that train; optimizers.cpp compiles them all.
#pragma once

#include <cstdint>
#include <string>
#include <tessera/optim/recipe.hpp>
#include <vector>

#include "model.hpp"
#include "trainer.hpp"

namespace tessera::inline TESSERA_ABI::optim {
extern template const std::vector<NamedOptimizer<float>>& named_optimizers<float>();
}

namespace lm {

namespace optim = tessera::optim;

/// Gains do not decay; the embedding, which is the classifier too, is none of the matrices that some methods treat by
/// themselves.
optim::RecipeMasks decoder_masks();

/// A decoder's tensors as blocks, with their names.
optim::Parameters<float> blocks(const Config& config, float* values);

/// What optimizers ask that look into the decoder: its logits, all at `inputs` and `classes` as they are then.
/// Everything is to outlive them.
optim::Targets<float> decoder_targets(tessera::Context& ctx, Trainer& trainer, const Weights& weights,
                                      const Gradients& gradients, const optim::Parameters<float>& grads,
                                      const std::vector<std::int32_t>& inputs,
                                      const std::vector<std::int32_t>& classes);

/// "NAME=NUMBER" each. Throws unsupported_error for anything else.
std::vector<optim::HyperParameter> parse_hyper_parameters(const std::vector<std::string>& texts);

/// The hyper-parameter "rate": by `schedule`, or `peak` for Rprop, whose rate is but its first step.
optim::HyperParameter rate_of(const std::string& optimizer, const optim::AnySchedule& schedule, double peak);

/// Scaled in place to a global norm of `most` where it is more.
void clip_gradients(tessera::Context& ctx, const optim::Parameters<float>& grads, double most);

}  // namespace lm
