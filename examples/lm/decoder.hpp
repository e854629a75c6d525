/// Inference: every linear layer is a tessera operator, the context is a tessera KV cache.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <tessera/kv/cache_base.hpp>
#include <tessera/matrix/any.hpp>
#include <tessera/nn/rope.hpp>
#include <vector>

#include "model.hpp"

namespace lm {

namespace nn = tessera::nn;
namespace kv = tessera::kv;
using tessera::AnyOperator;
using tessera::Context;
using tessera::View;

/// How weights are held. The embedding, which is also the classifier, is f32 or bf16: its rows are looked up.
struct WeightFormat {
  std::string name;
  std::function<AnyOperator<float>(Context&, MatrixView<const float>)> represent;  // W (out, in)
  bool bf16_embedding = true;
  bool structured = false;  // a structure in the place of all entries
};

/// The model with its linear layers represented; norms stay f32.
class Network {
 public:
  struct Layer {
    Buffer<float> attention_norm, ffn_norm;
    AnyOperator<float> wq, wk, wv, wo, w1, w2, w3;
  };

  Network(Context& ctx, const Model& model, const WeightFormat& format);

  const Config& config() const { return config_; }
  const std::vector<Layer>& layers() const { return layers_; }
  const AnyOperator<float>& classifier() const { return classifier_; }  // (vocab, d)
  VectorView<const float> norm() const { return {norm_.data(), norm_.size()}; }
  const nn::RopeTable<float>& rope() const { return rope_; }

  /// X_i = the row of tokens_i in the embedding.
  void embed(Context& ctx, std::span<const std::int32_t> tokens, MatrixView<float> X) const;

  /// What the parameters occupy.
  std::size_t bytes() const;

 private:
  Config config_;
  nn::RopeTable<float> rope_;
  AnyOperator<float> classifier_;
  Buffer<float> norm_;
  std::vector<Layer> layers_;
};

/// The last of the queries of a block, at most 16: what policies look at.
inline View<const float, 3> latest(View<const float, 3> Q) {  // (heads, n, d)
  const Index n = Q.extent(1), some = std::min<Index>(n, 16);
  return Q.slice(1, n - some, some);
}

/// What attention read for some tokens, as if they came one by one.
struct AttentionReads {
  double keys = 0;   // that queries met, those of every head counted
  double bytes = 0;  // of keys, values and what they were chosen by
};

/// Attention of one layer over its cache, to which the tokens of Q (heads, n, d) were appended.
using LayerAttention =
    std::function<AttentionReads(Context&, const kv::KvCacheBase&, View<const float, 3> Q, View<float, 3> out)>;

/// How the context is held: a codec, and what is done after each block of tokens.
struct KvFormat {
  std::string name;
  std::function<std::unique_ptr<kv::KvCacheBase>(Index kv_heads, Index head_dim)> make;
  std::function<void(Context&, kv::KvCacheBase&)> compress = {};
  /// Made for each layer at the beginning of a sequence, where not all that the cache holds is to be read.
  std::function<LayerAttention(Index layer)> attend = {};
  /// After the attention of a layer, one of so many, of the tokens of Q (heads, n, d): may put another cache in place.
  std::function<void(Context&, std::unique_ptr<kv::KvCacheBase>&, View<const float, 3> Q, Index layer, Index layers)>
      finish = {};
};

/// One sequence in progress.
class Decoder {
 public:
  Decoder(const Network& network, const KvFormat& format) : network_(network), format_(format) { restart(); }
  /// Goes on from where the other is, with caches of its own.
  Decoder(const Decoder& other)
      : network_(other.network_), format_(other.format_), attentions_(other.attentions_), reads_(other.reads_) {
    for (const auto& cache : other.caches_) caches_.push_back(cache->clone());
  }
  Decoder& operator=(const Decoder&) = delete;

  void restart() {
    const Config& c = network_.config();
    caches_.clear();
    attentions_.clear();
    for (Index l = 0; l < c.layers; ++l) {
      caches_.push_back(format_.make(c.kv_heads, c.head_dim()));
      if (format_.attend) attentions_.push_back(format_.attend(l));
    }
    reads_ = {};
  }

  /// Of the layers, each with the position that its next token is rotated at.
  std::span<std::unique_ptr<kv::KvCacheBase>> caches() { return caches_; }
  std::size_t kv_bytes() const {
    std::size_t total = 0;
    for (const auto& cache : caches_) total += cache->bytes();
    return total;
  }

  /// Of all layers since the beginning; counted where the format has an `attend`.
  AttentionReads reads() const { return reads_; }

  /// Reads tokens (t) and gives the logits of the last `logits.rows()` of them. Throws shape_error beyond the context.
  void read(Context& ctx, std::span<const std::int32_t> tokens, MatrixView<float> logits);  // (rows, vocab)

 private:
  const Network& network_;
  const KvFormat& format_;
  std::vector<std::unique_ptr<kv::KvCacheBase>> caches_;
  std::vector<LayerAttention> attentions_;
  AttentionReads reads_;
};

}  // namespace lm
