#include "trainer.hpp"

#include <tessera/matrix/dense.hpp>
#include <tessera/nn/attention.hpp>
#include <tessera/nn/cross_entropy.hpp>
#include <tessera/nn/elementwise.hpp>
#include <tessera/nn/embedding.hpp>
#include <tessera/nn/linear.hpp>
#include <tessera/nn/norm.hpp>
#include <tessera/nn/swiglu.hpp>

namespace lm {

namespace {

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

std::span<float> flat(MatrixView<float> view) { return {view.data(), at(view.size())}; }

}  // namespace

Weights weights_of(const Model& model) {
  const auto all = model.tensors();
  const auto dense = [](MatrixView<const float> W) { return AnyOperator<float>(tessera::DenseView<float>(W)); };
  Weights weights{all.embedding, {}, all.norm};
  for (const auto& w : all.layers)
    weights.layers.push_back({w.attention_norm, w.ffn_norm, dense(w.wq), dense(w.wk), dense(w.wv), dense(w.wo),
                              dense(w.w1), dense(w.w3), dense(w.w2)});
  return weights;
}

Gradients gradients_of(const Config& config, float* data) {
  const auto all = tensors<float>(config, data);
  Gradients gradients{all.embedding, {}, all.norm};
  for (const auto& g : all.layers)
    gradients.layers.push_back({g.attention_norm, g.ffn_norm, flat(g.wq), flat(g.wk), flat(g.wv), flat(g.wo),
                                flat(g.w1), flat(g.w3), flat(g.w2)});
  return gradients;
}

View<float, 4> Trainer::heads(Activation& X) const {
  return nn::split_heads(X.view(), batch_, X.view().cols() / config_.head_dim());
}

double Trainer::step(Context& ctx, const Weights& weights, const Gradients& grads,
                     std::span<const std::int32_t> inputs,     // (batch·length)
                     std::span<const std::int32_t> targets) {  // (batch·length)
  forward(ctx, weights, inputs);
  const float per_token = 1.0f / static_cast<float>(tokens_);
  const auto loss = nn::fused_linear_cross_entropy(ctx, tessera::DenseView<float>(weights.embedding), normed_, targets,
                                                   d_normed_.view(), per_token, 0.0f, flat(grads.embedding));
  backward_from_last_norm(ctx, weights, grads, inputs, {});
  return loss.mean();
}

void Trainer::logits(Context& ctx, const Weights& weights, std::span<const std::int32_t> inputs, MatrixView<float> z) {
  forward(ctx, weights, inputs);
  nn::linear(ctx, tessera::DenseView<float>(weights.embedding), normed_, z);
}

void Trainer::backward(Context& ctx, const Weights& weights, const Gradients& grads,
                       std::span<const std::int32_t> inputs, MatrixView<const float> dz, const SeeLinear& see) {
  nn::linear_backward(ctx, tessera::DenseView<float>(weights.embedding), normed_, dz, d_normed_, 0.0f,
                      flat(grads.embedding));
  backward_from_last_norm(ctx, weights, grads, inputs, see);
}

void Trainer::backward_from_last_norm(Context& ctx, const Weights& weights, const Gradients& grads,
                                      std::span<const std::int32_t> inputs, const SeeLinear& see) {
  nn::rmsnorm_backward(ctx, final_, weights.norm, inv_rms_.column(), d_normed_, 0.0f, d_stream_.view(), 0.0f,
                       grads.norm);
  for (Index l = config_.layers - 1; l >= 0; --l)
    backward(ctx, weights.layers[at(l)], grads.layers[at(l)], saved_[at(l)], see);
  if (grads.embedding.data() != nullptr) nn::embedding_backward(ctx, inputs, d_stream_, grads.embedding);
}

double Trainer::loss(Context& ctx, const Weights& weights, std::span<const std::int32_t> inputs,
                     std::span<const std::int32_t> targets) {
  forward(ctx, weights, inputs);
  return nn::fused_linear_cross_entropy(ctx, tessera::DenseView<float>(weights.embedding), normed_, targets).mean();
}

void Trainer::forward(Context& ctx, const Weights& weights, std::span<const std::int32_t> inputs) {
  const Index length = tokens_ / batch_;
  nn::embedding(ctx, weights.embedding, inputs, saved_.empty() ? final_.view() : saved_[0].input.view());
  for (Index l = 0; l < config_.layers; ++l) {
    const auto& w = weights.layers[at(l)];
    Saved& s = saved_[at(l)];
    nn::rmsnorm(ctx, s.input, w.attention_norm, config_.norm_eps, s.attention_normed.view(),
                s.attention_inv_rms.column());
    nn::linear(ctx, w.wq, s.attention_normed, s.q);
    nn::linear(ctx, w.wk, s.attention_normed, s.k);
    nn::linear(ctx, w.wv, s.attention_normed, s.v);
    nn::rope(ctx, rope_, s.q, 0, length);
    nn::rope(ctx, rope_, s.k, 0, length);
    nn::attention(ctx, heads(s.q), heads(s.k), heads(s.v), heads(s.attended), {.causal = true}, s.lse_of(batch_));
    nn::copy(ctx, s.input, s.middle.view());
    nn::linear(ctx, w.wo, s.attended, s.middle, 1.0f);
    nn::rmsnorm(ctx, s.middle, w.ffn_norm, config_.norm_eps, s.ffn_normed.view(), s.ffn_inv_rms.column());
    nn::linear(ctx, w.w1, s.ffn_normed, s.gate);
    nn::linear(ctx, w.w3, s.ffn_normed, s.up);
    nn::swiglu(ctx, s.gate, s.up, s.gated.view());
    auto out = l + 1 < config_.layers ? saved_[at(l + 1)].input.view() : final_.view();
    nn::copy(ctx, s.middle, out);
    nn::linear(ctx, w.w2, s.gated, out, 1.0f);
  }
  nn::rmsnorm(ctx, final_, weights.norm, config_.norm_eps, normed_.view(), inv_rms_.column());
}

void Trainer::backward(Context& ctx, const Weights::Layer& w, const Gradients::Layer& g, Saved& s,
                       const SeeLinear& see) {
  const Index length = tokens_ / batch_;
  const auto back = [&](const AnyOperator<float>& W, const Activation& a, const Activation& d_out, Activation& d_a,
                        std::span<float> gradient, float beta = 0.0f) {
    if (see) see(gradient.data(), a, d_out);
    nn::linear_backward(ctx, W, a, d_out, d_a, 0.0f, gradient, beta);
  };
  back(w.w2, s.gated, d_stream_, d_gate_, g.w2);
  nn::swiglu_backward(ctx, s.gate, s.up, d_gate_, d_gate_.view(), d_up_);
  back(w.w1, s.ffn_normed, d_gate_, d_normed_, g.w1);
  back(w.w3, s.ffn_normed, d_up_, d_normed_, g.w3, 1.0f);
  nn::rmsnorm_backward(ctx, s.middle, w.ffn_norm, s.ffn_inv_rms.column(), d_normed_, 1.0f, d_stream_.view(), 0.0f,
                       g.ffn_norm);

  back(w.wo, s.attended, d_stream_, d_normed_, g.wo);
  nn::attention_backward(ctx, heads(s.q), heads(s.k), heads(s.v), heads(s.attended), s.lse_of(batch_), heads(d_normed_),
                         heads(d_q_), heads(d_k_), heads(d_v_), {.causal = true});
  nn::rope_backward(ctx, rope_, d_q_, 0, length);
  nn::rope_backward(ctx, rope_, d_k_, 0, length);
  back(w.wq, s.attention_normed, d_q_, d_normed_, g.wq);
  back(w.wk, s.attention_normed, d_k_, d_normed_, g.wk, 1.0f);
  back(w.wv, s.attention_normed, d_v_, d_normed_, g.wv, 1.0f);
  nn::rmsnorm_backward(ctx, s.input, w.attention_norm, s.attention_inv_rms.column(), d_normed_, 1.0f, d_stream_.view(),
                       0.0f, g.attention_norm);
}

}  // namespace lm
