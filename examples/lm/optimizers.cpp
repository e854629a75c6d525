#include "optimizers.hpp"

#include <fmt/format.h>

#include <cmath>
#include <cstdlib>
#include <span>
#include <tessera/optim/by_name.hpp>
#include <tessera/optim/output_laws.hpp>

namespace tessera::inline TESSERA_ABI::optim {
template const std::vector<NamedOptimizer<float>>& named_optimizers<float>();
}

namespace lm {

optim::RecipeMasks decoder_masks() {
  return {.decayed = optim::matrices_only{}, .matrices = [](const optim::ParameterInfo& p) {
            return optim::matrices_only{}(p) && p.name.find("embeddings") == std::string::npos;
          }};
}

optim::Parameters<float> blocks(const Config& config, float* values) {
  optim::Parameters<float> all;
  tensors<float>(config, values, [&](const std::string& name, MatrixView<float> t) { all.emplace_back(name, t); });
  return all;
}

optim::Targets<float> decoder_targets(tessera::Context& ctx, Trainer& trainer, const Weights& weights,
                                      const Gradients& gradients, const optim::Parameters<float>& grads,
                                      const std::vector<std::int32_t>& inputs,
                                      const std::vector<std::int32_t>& classes) {
  optim::Targets<float> targets{.rows = static_cast<Index>(inputs.size()), .cols = weights.embedding.rows()};
  targets.forward = [&](MatrixView<float> z) { trainer.logits(ctx, weights, inputs, z); };
  targets.backward = [&](MatrixView<const float> dz, const optim::SeeLayer<float>& see) {
    SeeLinear by_gradient;
    if (see)
      by_gradient = [&](const float* gradient, MatrixView<const float> a, MatrixView<const float> g) {
        for (std::size_t b = 0; b < grads.size(); ++b)
          if (grads[b].data == gradient) see(b, a, g);
      };
    trainer.backward(ctx, weights, gradients, inputs, dz, by_gradient);
  };
  return optim::of_classes(ctx, std::move(targets), [&classes] { return std::span<const std::int32_t>(classes); });
}

std::vector<optim::HyperParameter> parse_hyper_parameters(const std::vector<std::string>& texts) {
  std::vector<optim::HyperParameter> all;
  for (const auto& text : texts) {
    const auto equals = text.find('=');
    char* end = nullptr;
    const double value = equals == std::string::npos ? 0 : std::strtod(text.c_str() + equals + 1, &end);
    if (equals == 0 || end == nullptr || *end != '\0' || end == text.c_str() + equals + 1)
      throw tessera::unsupported_error(fmt::format("hyper-parameter '{}'; expected NAME=NUMBER", text));
    all.emplace_back(text.substr(0, equals), value);
  }
  return all;
}

optim::HyperParameter rate_of(const std::string& optimizer, const optim::AnySchedule& schedule, double peak) {
  if (optimizer == "rprop") return {"rate", peak};
  return {"rate", schedule};
}

void clip_gradients(tessera::Context& ctx, const optim::Parameters<float>& grads, double most) {
  const double norm = optim::global_norm(ctx, grads);
  if (!std::isfinite(norm) || norm < most) return;  // what is lost is the optimizer's to refuse, by its name
  for (const auto& g : grads) optim::detail::scale_in_place(ctx, most / norm, g.view());
}

}  // namespace lm
