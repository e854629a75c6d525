/// Training: the decoder's forward and backward pass over a batch of sequences, and one optimizer step.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <tessera/core/context.hpp>
#include <tessera/matrix/any.hpp>
#include <tessera/nn/rope.hpp>
#include <vector>

#include "model.hpp"

namespace lm {

namespace nn = tessera::nn;
using tessera::AnyOperator;
using tessera::Context;
using tessera::View;

/// Weights with linear layers of any representation, dense ones of a model or others.
struct Weights {
  struct Layer {
    VectorView<const float> attention_norm, ffn_norm;
    AnyOperator<float> wq, wk, wv, wo, w1, w3, w2;
  };
  MatrixView<const float> embedding;
  std::vector<Layer> layers;
  VectorView<const float> norm;
};

/// Views of the model's tensors, as they are.
Weights weights_of(const Model& model);

/// Where gradients go: of the parameters of each operator, in its order. Those without data are not computed.
struct Gradients {
  struct Layer {
    VectorView<float> attention_norm, ffn_norm;
    std::span<float> wq, wk, wv, wo, w1, w3, w2;
  };
  MatrixView<float> embedding;
  std::vector<Layer> layers;
  VectorView<float> norm;
};

/// In the layout of the model's parameters.
Gradients gradients_of(const Config& config, float* data);

/// What a linear layer had on the way back: where its gradient goes, its inputs (tokens, in), and the loss's gradient
/// by its outputs (tokens, out).
using SeeLinear = std::function<void(const float* gradient, MatrixView<const float> a, MatrixView<const float> g)>;

/// A zeroed (rows, cols) matrix of activations.
class Activation {
 public:
  Activation(Index rows, Index cols) : values_(rows * cols), rows_(rows), cols_(cols) {}
  operator MatrixView<float>() { return {values_.data(), rows_, cols_}; }
  operator MatrixView<const float>() const { return {values_.data(), rows_, cols_}; }
  MatrixView<float> view() { return *this; }
  VectorView<float> column() { return {values_.data(), values_.size()}; }

 private:
  Buffer<float> values_;
  Index rows_, cols_;
};

/// Forward and backward pass of `batch` sequences of `length` tokens; keeps every activation the gradient needs.
class Trainer {
 public:
  Trainer(const Config& config, Index batch, Index length)
      : config_(config),
        batch_(batch),
        tokens_(batch * length),
        rope_(config.head_dim(), length, static_cast<double>(config.rope_theta)),
        final_(tokens_, config.dim),
        normed_(tokens_, config.dim),
        d_stream_(tokens_, config.dim),
        d_normed_(tokens_, config.dim),
        d_q_(tokens_, config.dim),
        d_k_(tokens_, config.kv_dim()),
        d_v_(tokens_, config.kv_dim()),
        d_gate_(tokens_, config.hidden),
        d_up_(tokens_, config.hidden),
        inv_rms_(tokens_, 1) {
    for (Index l = 0; l < config.layers; ++l) saved_.emplace_back(config, batch, tokens_);
  }

  /// Mean loss in nats a token, and its gradient, written over what was there.
  double step(Context& ctx, const Weights& weights, const Gradients& gradients,
              std::span<const std::int32_t> inputs,    // (batch·length)
              std::span<const std::int32_t> targets);  // (batch·length)

  /// The logits (batch·length, vocab); and the gradient, where the loss's by the logits is dz and `logits` was last,
  /// shown layer by layer to `see` unless that is empty, but for the classifier.
  void logits(Context& ctx, const Weights& weights, std::span<const std::int32_t> inputs, MatrixView<float> z);
  void backward(Context& ctx, const Weights& weights, const Gradients& gradients, std::span<const std::int32_t> inputs,
                MatrixView<const float> dz, const SeeLinear& see = {});

  /// The loss alone.
  double loss(Context& ctx, const Weights& weights, std::span<const std::int32_t> inputs,
              std::span<const std::int32_t> targets);

 private:
  struct Saved {
    Saved(const Config& c, Index batch, Index tokens)
        : input(tokens, c.dim),
          attention_normed(tokens, c.dim),
          attention_inv_rms(tokens, 1),
          q(tokens, c.dim),
          k(tokens, c.kv_dim()),
          v(tokens, c.kv_dim()),
          attended(tokens, c.dim),
          lse(batch * c.heads, tokens / batch),
          middle(tokens, c.dim),
          ffn_normed(tokens, c.dim),
          ffn_inv_rms(tokens, 1),
          gate(tokens, c.hidden),
          up(tokens, c.hidden),
          gated(tokens, c.hidden) {}
    Activation input, attention_normed, attention_inv_rms, q, k, v, attended, lse, middle, ffn_normed, ffn_inv_rms,
        gate, up, gated;
    View<float, 3> lse_of(Index batch) {  // (batch, heads, n)
      const auto all = lse.view();
      return {all.data(), {batch, all.rows() / batch, all.cols()}};
    }
  };

  View<float, 4> heads(Activation& X) const;  // (batch, heads, n, d)
  void forward(Context& ctx, const Weights& weights, std::span<const std::int32_t> inputs);
  /// From d_normed_, what the last norm's outputs are to change by.
  void backward_from_last_norm(Context& ctx, const Weights& weights, const Gradients& gradients,
                               std::span<const std::int32_t> inputs, const SeeLinear& see);
  /// d_stream_: in, the gradient of the layer's output; out, that of its input.
  void backward(Context& ctx, const Weights::Layer& w, const Gradients::Layer& g, Saved& s, const SeeLinear& see);

  Config config_;
  Index batch_, tokens_;
  nn::RopeTable<float> rope_;
  std::vector<Saved> saved_;
  Activation final_, normed_, d_stream_, d_normed_, d_q_, d_k_, d_v_, d_gate_, d_up_, inv_rms_;
};

}  // namespace lm
