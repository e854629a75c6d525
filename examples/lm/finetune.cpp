#include "finetune.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <tessera/optim/optim.hpp>
#include <utility>

namespace lm {

namespace {

namespace optim = tessera::optim;

/// The operators of a layer in the order of `replaced`.
template <class Layer>
auto linears(Layer& l) {
  return std::array{&l.wq, &l.wk, &l.wv, &l.wo, &l.w1, &l.w3, &l.w2};
}

}  // namespace

Weights replaced(const Model& model, const std::vector<StructuredLayer>& layers) {
  Weights weights = weights_of(model);
  std::size_t at = 0;
  for (auto& layer : weights.layers)
    for (auto* w : linears(layer)) *w = layers.at(at++).op;
  return weights;
}

double finetune(Context& ctx, const Model& model, std::vector<StructuredLayer>& layers,
                const std::vector<std::vector<std::int32_t>>& text, const Finetuning& o) {
  std::vector<std::int32_t> all;
  for (const auto& document : text) all.insert(all.end(), document.begin(), document.end());
  const Index length = std::min({o.length, model.config.context, static_cast<Index>(all.size()) - 1});
  if (length < 1) throw tessera::format_error("no text to train on; expected documents that are not empty");

  const Weights weights = replaced(model, layers);
  Index count = 0;
  for (const auto& layer : layers) count += layer.op.parameter_count();
  Buffer<float> gradient(count);
  optim::Parameters<float> params, grads;
  Gradients gradients;
  gradients.layers.resize(weights.layers.size());
  float* at = gradient.data();
  std::size_t next = 0;
  for (auto& layer : gradients.layers)
    for (auto* to : linears(layer)) {
      *to = {at, static_cast<std::size_t>(layers[next].op.parameter_count())};
      for (const auto block : layers[next].blocks) {
        const std::string name = std::to_string(params.size());
        params.emplace_back(name, block);
        grads.emplace_back(name, std::span<float>(at, block.size()));
        at += block.size();
      }
      ++next;
    }

  const optim::warmup_cosine schedule{.init = 0,
                                      .peak = o.rate,
                                      .warmup_steps = std::max<Index>(o.steps / 10, 1),
                                      .decay_steps = o.steps,
                                      .end = 0.05 * o.rate};
  const auto optimizer =
      optim::chain(optim::clip_by_global_norm(1.0), optim::scale_by_adam({.b1 = 0.9, .b2 = 0.98, .eps = 1e-8}),
                   optim::scale_by_learning_rate(schedule));
  auto state = optimizer.init(params);
  Trainer trainer(model.config, o.batch, length);
  std::vector<std::int32_t> inputs(static_cast<std::size_t>(o.batch * length)), targets(inputs.size());
  const tessera::Philox draws(o.seed, 0xf17e);
  const auto places = static_cast<std::uint64_t>(all.size()) - static_cast<std::uint64_t>(length);
  double recent = 0;
  const Index tail = std::max<Index>(o.steps / 10, 1);
  for (Index step = 0; step < o.steps; ++step) {
    for (Index b = 0; b < o.batch; ++b) {
      const auto start =
          all.begin() + static_cast<Index>(draws.below(static_cast<std::uint64_t>(step * o.batch + b), places));
      std::copy_n(start, length, inputs.begin() + b * length);
      std::copy_n(start + 1, length, targets.begin() + b * length);
    }
    const double loss = trainer.step(ctx, weights, gradients, inputs, targets);
    if (!std::isfinite(loss))
      throw tessera::unsupported_error(
          tessera::detail::concat("training of structured weights, step ", step + 1, ": the loss is ", loss));
    optimizer.update(ctx, grads, state, params);
    for (const auto& layer : layers) layer.changed();
    if (step >= o.steps - tail) recent += loss / static_cast<double>(tail);
  }
  return recent;
}

std::vector<WeightFormat> structured_weight_formats(const Model& model, const GramOf& gram,
                                                    const std::vector<std::vector<std::int32_t>>& text, Index steps) {
  constexpr Index fitting = 50;  // steps of fit_outputs
  std::vector<WeightFormat> all;
  for (const auto& structure : structures()) {
    const auto add = [&](const std::string& name, auto represent) { all.push_back({name, represent, true, true}); };
    // The row before training leaves its layers to the training.
    const auto untrained = std::make_shared<std::map<const float*, StructuredLayer>>();
    const auto nearest = [=](MatrixView<const float> W) {
      if (steps < 1) return structure.nearest(W, gram(W));
      const auto found = untrained->find(W.data());
      return found != untrained->end() ? found->second
                                       : untrained->emplace(W.data(), structure.nearest(W, gram(W))).first->second;
    };
    add(structure.name, [=](Context&, MatrixView<const float> W) { return nearest(W).held(); });
    if (structure.int8)
      add(structure.name + ", int8", [=](Context&, MatrixView<const float> W) { return nearest(W).int8(); });
    if (steps < 1) continue;
    using Held = std::map<const float*, AnyOperator<float>>;
    const auto trained = std::make_shared<Held>(), rounded = std::make_shared<Held>();
    const auto train = [=, &model](Context& ctx) {
      std::vector<StructuredLayer> layers;
      std::vector<const float*> where;
      for (const auto& l : model.tensors().layers)
        for (const auto* W : linears(l)) {
          layers.push_back(nearest(*W));
          where.push_back(W->data());
          if (structure.fit_first) fit_outputs(ctx, layers.back(), *W, gram(*W), fitting);
        }
      untrained->clear();
      const auto share = static_cast<Index>(std::ceil(structure.training * static_cast<double>(steps)));
      finetune(ctx, model, layers, text, {.steps = share, .rate = structure.rate});
      for (std::size_t i = 0; i < layers.size(); ++i) {
        trained->emplace(where[i], layers[i].held());
        if (structure.int8) rounded->emplace(where[i], layers[i].int8());
      }
    };
    add(structure.name + ", trained", [=](Context& ctx, MatrixView<const float> W) {
      if (trained->empty()) train(ctx);
      return trained->at(W.data());
    });
    if (structure.int8)
      add(structure.name + ", trained, int8", [=](Context& ctx, MatrixView<const float> W) {
        if (trained->empty()) train(ctx);
        return rounded->at(W.data());
      });
  }
  return all;
}

}  // namespace lm
