/// Checks the gradient of the model's loss with weights of every structure by differences, and that neither it nor
/// training depends on the number of threads.
#include <fmt/format.h>

#include <Eigen/Core>
#include <cmath>
#include <cstring>
#include <string>
#include <tessera/core/context.hpp>
#include <tessera/core/rng.hpp>
#include <vector>

#include "finetune.hpp"
#include "optimizers.hpp"

namespace {

using namespace lm;

std::vector<StructuredLayer> layers_of(const Model& model, const Structure& structure) {
  std::vector<StructuredLayer> layers;
  for (const auto& l : model.tensors().layers)
    for (const auto& W : {l.wq, l.wk, l.wv, l.wo, l.w1, l.w3, l.w2})
      layers.push_back(structure.nearest(W, Eigen::MatrixXd::Identity(W.cols(), W.cols())));
  return layers;
}

std::vector<std::int32_t> random_tokens(Index count, std::uint64_t seed) {
  const tessera::Philox draws(seed, 1);
  std::vector<std::int32_t> tokens;
  for (Index i = 0; i < count; ++i)
    tokens.push_back(static_cast<std::int32_t>(draws.below(static_cast<std::uint64_t>(i), 24)));
  return tokens;
}

/// Of the loss along a block's own gradient g: (L(p + h g) - L(p - h g)) / 2h = |g|². In f32 what is left of eight
/// digits of the loss, so steps are large and a hundredth is agreement.
int differences(const Structure& structure) {
  Config config{.dim = 32, .hidden = 48, .layers = 2, .heads = 4, .kv_heads = 2, .context = 24};
  Model model = random_model(config, 3);
  tensors<float>(config, model.values.data(), [&](const std::string& name, MatrixView<float> t) {
    if (name.find("norm") == std::string::npos)  // far from linear
      for (Index i = 0; i < t.size(); ++i) t.data()[i] *= 8;
  });
  auto layers = layers_of(model, structure);
  const Weights weights = replaced(model, layers);
  Gradients gradients;
  gradients.layers.resize(weights.layers.size());
  std::vector<std::vector<float>> values;
  for (const auto& layer : layers) values.emplace_back(static_cast<std::size_t>(layer.op.parameter_count()));
  std::size_t next = 0;
  for (auto& g : gradients.layers)
    for (auto* to : {&g.wq, &g.wk, &g.wv, &g.wo, &g.w1, &g.w3, &g.w2}) *to = values[next++];
  const auto inputs = random_tokens(3 * 16, 5), targets = random_tokens(3 * 16, 6);
  Context ctx, two = Context::with_threads(2);
  Trainer trainer(config, 3, 16);
  const double loss = trainer.step(two, weights, gradients, inputs, targets);
  const auto from_two = values;
  int wrong = trainer.step(ctx, weights, gradients, inputs, targets) == loss ? 0 : 1;
  const auto g = values;
  for (std::size_t w = 0; w < g.size(); ++w)
    if (std::memcmp(g[w].data(), from_two[w].data(), 4 * g[w].size()) != 0) ++wrong;
  if (wrong > 0) fmt::print("{}: other bits with two threads\n", structure.name);
  for (std::size_t w = 0; w < layers.size(); ++w) {
    std::size_t at = 0;
    for (const auto block : layers[w].blocks) {
      double square = 0;
      for (std::size_t i = 0; i < block.size(); ++i) square += std::pow(static_cast<double>(g[w][at + i]), 2);
      const std::vector<float> before(block.begin(), block.end());
      const double h = 0.02 / std::sqrt(square);
      double side[2];
      for (int s = 0; s < 2; ++s) {
        for (std::size_t i = 0; i < block.size(); ++i)
          block[i] = static_cast<float>(static_cast<double>(before[i]) +
                                        (s == 0 ? h : -h) * static_cast<double>(g[w][at + i]));
        layers[w].changed();
        side[s] = trainer.step(ctx, weights, gradients, inputs, targets);
      }
      std::copy(before.begin(), before.end(), block.begin());
      layers[w].changed();
      const double slope = (side[0] - side[1]) / (2 * h);
      if (!(square > 0) || !(std::abs(slope - square) <= 0.01 * square + 2e-5 * std::sqrt(square))) {
        fmt::print("{}: weights {}, block at {}: slope {}, gradient {}\n", structure.name, w, at, slope, square);
        ++wrong;
      }
      at += block.size();
    }
  }
  return wrong;
}

/// Training lowers the loss, to the same weights for any number of threads.
int training(const Structure& structure) {
  const Config config{.dim = 32, .hidden = 48, .layers = 2, .heads = 4, .kv_heads = 2, .context = 24};
  const Model model = random_model(config, 4);
  const std::vector<std::vector<std::int32_t>> text{random_tokens(400, 7)};
  std::vector<std::vector<float>> made;
  double loss[2];
  for (const Index threads : {1, 3}) {
    Context ctx = Context::with_threads(threads);
    auto layers = layers_of(model, structure);
    for (std::size_t run = 0; run < 2; ++run)
      loss[run] = finetune(ctx, model, layers, text, {.steps = 40, .batch = 2, .length = 16, .rate = 5e-3});
    std::vector<float> all;
    for (const auto& layer : layers)
      for (const auto block : layer.blocks) all.insert(all.end(), block.begin(), block.end());
    made.push_back(std::move(all));
  }
  const bool same =
      made[0].size() == made[1].size() && std::memcmp(made[0].data(), made[1].data(), 4 * made[0].size()) == 0;
  if (!same) fmt::print("{}: other weights with three threads\n", structure.name);
  if (!(loss[1] < loss[0])) fmt::print("{}: the loss went from {} to {}\n", structure.name, loss[0], loss[1]);
  return (same ? 0 : 1) + (loss[1] < loss[0] ? 0 : 1);
}

/// By the logits the gradient is that of a step, and those of the layers that are shown are gᵀa.
int layers_shown() {
  const Config config{.dim = 32, .hidden = 48, .layers = 2, .heads = 4, .kv_heads = 2, .context = 24};
  const Model model = random_model(config, 4);
  const Weights weights = weights_of(model);
  Buffer<float> values(model.values.size());
  const auto grads = blocks(config, values.data());
  const Gradients gradients = gradients_of(config, values.data());
  const auto inputs = random_tokens(3 * 16, 5), classes = random_tokens(3 * 16, 6);
  Context ctx;
  Trainer trainer(config, 3, 16);
  const double loss = trainer.step(ctx, weights, gradients, inputs, classes);
  const Buffer<float> expected = values;
  const auto targets = decoder_targets(ctx, trainer, weights, gradients, grads, inputs, classes);
  Buffer<float> z(targets.rows * targets.cols), dz(z.size());
  const MatrixView<float> Z(z.data(), targets.rows, targets.cols), dZ(dz.data(), targets.rows, targets.cols);
  targets.forward(Z);
  int wrong = std::abs(targets.loss(Z, dZ) - loss) < 1e-5 ? 0 : 1, shown = 0;
  targets.backward(dZ, [&](std::size_t block, MatrixView<const float> a, MatrixView<const float> g) {
    ++shown;
    for (Index i = 0; i < g.cols(); ++i)
      for (Index j = 0; j < a.cols(); ++j) {
        double sum = 0;
        for (Index t = 0; t < a.rows(); ++t) sum += static_cast<double>(g(t, i)) * static_cast<double>(a(t, j));
        const Index at = grads[block].data - values.data() + i * a.cols() + j;
        if (!(std::abs(sum - static_cast<double>(expected[at])) < 1e-6)) ++wrong;
      }
  });
  for (Index i = 0; i < values.size(); ++i)
    if (!(std::abs(values[i] - expected[i]) < 1e-6f)) ++wrong;
  if (wrong > 0 || shown != 14) fmt::print("targets: {} elements wrong, {} layers shown\n", wrong, shown);
  return wrong + (shown == 14 ? 0 : 1);
}

}  // namespace

int main() {
  int wrong = layers_shown();
  for (const auto& structure : structures()) wrong += differences(structure) + training(structure);
  fmt::print("{} wrong\n", wrong);
  return wrong == 0 ? 0 : 1;
}
