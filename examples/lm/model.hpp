/// A LLaMA-architecture decoder's shape and where each tensor lies in one flat buffer of parameters.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <tessera/core/buffer.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/core/view.hpp>
#include <vector>

namespace lm {

using tessera::Buffer;
using tessera::Index;
using tessera::MatrixView;
using tessera::VectorView;

struct Config {
  Index dim = 192;     // d
  Index hidden = 512;  // of the SwiGLU layers
  Index layers = 8;
  Index heads = 6;
  Index kv_heads = 2;
  Index vocab = 256;
  Index context = 512;
  float rope_theta = 10000.0f;
  float norm_eps = 1e-5f;

  Index head_dim() const { return dim / heads; }
  Index kv_dim() const { return kv_heads * head_dim(); }

  /// Throws format_error unless the numbers make a model of at most 2^31 parameters.
  void check() const {
    const auto in = [](Index value, Index most) { return value >= 1 && value <= most; };
    if (!in(dim, 1 << 16) || !in(hidden, 1 << 18) || !in(layers, 1024) || !in(heads, 1024) || !in(kv_heads, 1024) ||
        !in(vocab, 1 << 22) || !in(context, 1 << 24) || dim % heads != 0 || heads % kv_heads != 0 ||
        head_dim() % 2 != 0 || static_cast<double>(parameter_count()) > 0x1p31)
      throw tessera::format_error(tessera::detail::concat(
          "not a model this program can hold: dim ", dim, ", hidden ", hidden, ", layers ", layers, ", heads ", heads,
          ", kv_heads ", kv_heads, ", vocab ", vocab, ", context ", context,
          "; expected dim a multiple of heads, heads of kv_heads, an even head size, at most 2^31 parameters"));
  }
  Index parameter_count() const {
    return vocab * dim + layers * (2 * dim + 2 * dim * dim + 2 * dim * kv_dim() + 3 * dim * hidden) + dim;
  }
};

/// The tensors of one layer; T is float or const float.
template <class T>
struct LayerTensors {
  VectorView<T> attention_norm;  // (d)
  MatrixView<T> wq;              // (heads·head_dim, d)
  MatrixView<T> wk, wv;          // (kv_heads·head_dim, d)
  MatrixView<T> wo;              // (d, heads·head_dim)
  VectorView<T> ffn_norm;        // (d)
  MatrixView<T> w1, w3;          // (hidden, d): gate, up
  MatrixView<T> w2;              // (d, hidden)
};

template <class T>
struct ModelTensors {
  MatrixView<T> embedding;  // (vocab, d), also the classifier
  std::vector<LayerTensors<T>> layers;
  VectorView<T> norm;  // (d)
};

/// Every tensor in its order in the buffer, with its name as in LLaMA's checkpoints: f(name, (rows, cols) view); a
/// vector is one row.
template <class T>
ModelTensors<T> tensors(const Config& c, T* data,
                        const std::function<void(const std::string&, MatrixView<T>)>& visit = {}) {
  const auto matrix = [&](const std::string& name, Index rows, Index cols) {
    const MatrixView<T> view(data, rows, cols);
    data += rows * cols;
    if (visit) visit(name, view);
    return view;
  };
  ModelTensors<T> model;
  model.embedding = matrix("tok_embeddings.weight", c.vocab, c.dim);
  for (Index l = 0; l < c.layers; ++l) {
    const std::string prefix = "layers." + std::to_string(l) + ".";
    LayerTensors<T> layer;
    layer.attention_norm = matrix(prefix + "attention_norm.weight", 1, c.dim).row(0);
    layer.wq = matrix(prefix + "attention.wq.weight", c.dim, c.dim);
    layer.wk = matrix(prefix + "attention.wk.weight", c.kv_dim(), c.dim);
    layer.wv = matrix(prefix + "attention.wv.weight", c.kv_dim(), c.dim);
    layer.wo = matrix(prefix + "attention.wo.weight", c.dim, c.dim);
    layer.ffn_norm = matrix(prefix + "ffn_norm.weight", 1, c.dim).row(0);
    layer.w1 = matrix(prefix + "feed_forward.w1.weight", c.hidden, c.dim);
    layer.w3 = matrix(prefix + "feed_forward.w3.weight", c.hidden, c.dim);
    layer.w2 = matrix(prefix + "feed_forward.w2.weight", c.dim, c.hidden);
    model.layers.push_back(layer);
  }
  model.norm = matrix("norm.weight", 1, c.dim).row(0);
  return model;
}

/// Config and parameters, f32.
struct Model {
  Config config;
  Buffer<float> values;  // (parameter_count)

  ModelTensors<const float> tensors() const { return lm::tensors<const float>(config, values.data()); }
};

/// Normal with standard deviation 0.02, those that write into the residual stream scaled by 1/√(2·layers)
/// (GPT-2); norms are one. Draw i of the stream goes to parameter i.
inline Model random_model(const Config& config, std::uint64_t seed) {
  config.check();
  Model model{config, Buffer<float>(config.parameter_count())};
  const tessera::Philox draws(seed, 0x1717);
  const double residual = 0.02 / std::sqrt(2.0 * static_cast<double>(config.layers));
  tensors<float>(config, model.values.data(), [&](const std::string& name, MatrixView<float> tensor) {
    const bool norm = name.find("norm") != std::string::npos;
    const bool writes_residual = name.ends_with("wo.weight") || name.ends_with("w2.weight");
    const Index first = tensor.data() - model.values.data();
    for (Index i = 0; i < tensor.size(); ++i)
      tensor.data()[i] = norm ? 1.0f
                              : static_cast<float>((writes_residual ? residual : 0.02) *
                                                   draws.normal(static_cast<std::uint64_t>(first + i)));
  });
  return model;
}

}  // namespace lm
