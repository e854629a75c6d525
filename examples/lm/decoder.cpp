#include "decoder.hpp"

#include <algorithm>
#include <tessera/matrix/dense.hpp>
#include <tessera/nn/embedding.hpp>
#include <tessera/nn/linear.hpp>
#include <tessera/nn/norm.hpp>
#include <tessera/nn/swiglu.hpp>

namespace lm {

Network::Network(Context& ctx, const Model& model, const WeightFormat& format)
    : config_(model.config), rope_(config_.head_dim(), config_.context, static_cast<double>(config_.rope_theta)) {
  const auto all = model.tensors();
  const auto vector = [](VectorView<const float> v) {
    Buffer<float> copy(v.extent(0));
    std::copy_n(v.data(), v.extent(0), copy.data());
    return copy;
  };
  if (format.bf16_embedding)
    classifier_ = tessera::Dense<tessera::bf16>(all.embedding);
  else
    classifier_ = tessera::Dense<float>(all.embedding);
  norm_ = vector(all.norm);
  const auto w = [&](MatrixView<const float> W) { return format.represent(ctx, W); };
  for (const auto& from : all.layers)
    layers_.push_back({vector(from.attention_norm), vector(from.ffn_norm), w(from.wq), w(from.wk), w(from.wv),
                       w(from.wo), w(from.w1), w(from.w2), w(from.w3)});
}

void Network::embed(Context& ctx, std::span<const std::int32_t> tokens, MatrixView<float> X) const {
  if (const auto* table = classifier_.target<tessera::Dense<float>>())
    nn::embedding(ctx, table->view(), tokens, X);
  else
    nn::embedding(ctx, classifier_.target<tessera::Dense<tessera::bf16>>()->view(), tokens, X);
}

std::size_t Network::bytes() const {
  std::size_t total = classifier_.bytes() + norm_.bytes();
  for (const auto& layer : layers_) {
    total += layer.attention_norm.bytes() + layer.ffn_norm.bytes();
    for (const auto* w : {&layer.wq, &layer.wk, &layer.wv, &layer.wo, &layer.w1, &layer.w2, &layer.w3})
      total += w->bytes();
  }
  return total;
}

void Decoder::read(Context& ctx, std::span<const std::int32_t> tokens, MatrixView<float> logits) {
  const Config& c = network_.config();
  const Index t = static_cast<Index>(tokens.size()), d = c.head_dim();
  tessera::Workspace::Scope scope(ctx.workspace);
  const auto matrix = [&](Index cols) { return MatrixView<float>(scope.take<float>(t * cols), t, cols); };
  const auto heads = [&](MatrixView<float> m) {  // (heads, t, d)
    return View<float, 3>(m.data(), {m.cols() / d, t, d}, {d, m.cols(), 1});
  };
  const auto x = matrix(c.dim), normed = matrix(c.dim), q = matrix(c.dim), attended = matrix(c.dim);
  const auto k = matrix(c.kv_dim()), v = matrix(c.kv_dim()), gate = matrix(c.hidden), up = matrix(c.hidden);
  network_.embed(ctx, tokens, x);
  for (std::size_t l = 0; l < network_.layers().size(); ++l) {
    const auto& w = network_.layers()[l];
    nn::rmsnorm(ctx, x, {w.attention_norm.data(), c.dim}, c.norm_eps, normed);
    nn::linear(ctx, w.wq, normed, q);
    nn::linear(ctx, w.wk, normed, k);
    nn::linear(ctx, w.wv, normed, v);
    const Index position = caches_[l]->next_position();  // a layer's own: where tokens closed up they differ
    nn::rope(ctx, network_.rope(), q, position);
    nn::rope(ctx, network_.rope(), k, position);
    caches_[l]->append(ctx, heads(k), heads(v));
    if (attentions_.empty()) {
      caches_[l]->attend(ctx, heads(q), heads(attended));
    } else {
      const AttentionReads more = attentions_[l](ctx, *caches_[l], heads(q), heads(attended));
      reads_.keys += more.keys;
      reads_.bytes += more.bytes;
    }
    if (format_.compress) format_.compress(ctx, *caches_[l]);
    if (format_.finish)
      format_.finish(ctx, caches_[l], heads(q), static_cast<Index>(l), static_cast<Index>(caches_.size()));
    nn::linear(ctx, w.wo, attended, x, 1.0f);
    nn::rmsnorm(ctx, x, {w.ffn_norm.data(), c.dim}, c.norm_eps, normed);
    nn::linear(ctx, w.w1, normed, gate);
    nn::linear(ctx, w.w3, normed, up);
    nn::swiglu(ctx, gate, up, gate);
    nn::linear(ctx, w.w2, gate, x, 1.0f);
  }
  const Index rows = logits.rows();
  const auto last = x.slice(0, t - rows, rows);
  nn::rmsnorm(ctx, last, network_.norm(), c.norm_eps, last);
  nn::linear(ctx, network_.classifier(), last, logits);
}

}  // namespace lm
