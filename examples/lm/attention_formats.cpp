#include "attention_formats.hpp"

#include <algorithm>
#include <array>
#include <memory>
#include <tessera/attention/block_top_k.hpp>
#include <tessera/attention/masks.hpp>
#include <tessera/core/error.hpp>
#include <tessera/kv/cache.hpp>
#include <utility>

namespace lm {

namespace {

enum class Reach : std::uint8_t { everything, window, nothing };

/// A mask: what each kv head of a layer reads, beside the causal mask.
struct HeadReaches {
  std::vector<Reach> reach;  // (kv heads)
  Index group = 1;
  tessera::SlidingWindow window;

  Index heads() const { return static_cast<Index>(reach.size()) * group; }
  Reach of(Index head) const { return reach[static_cast<std::size_t>(head / group)]; }
  bool operator()(const tessera::ScorePosition& at) const {
    return of(at.head) == Reach::everything || (of(at.head) == Reach::window && window(at));
  }
  tessera::Seen block(const tessera::ScoreBlock& b) const {  // of one kv head
    if (of(b.head) == Reach::window) return window.block(b);
    return of(b.head) == Reach::everything ? tessera::Seen::all : tessera::Seen::none;
  }
};

std::unique_ptr<kv::KvCacheBase> f32_cache(Index kv_heads, Index head_dim) {
  return std::make_unique<kv::KvCache<kv::F32>>(kv_heads, head_dim);
}

/// Heads that read nothing give the mean of all values so far, which a sum holds: attention whose scores are equal.
class ReachingAttention {
 public:
  ReachingAttention(HeadReaches reaches, Index head_dim)
      : reaches_(std::move(reaches)),
        sums_(reaches_.reach.size() * static_cast<std::size_t>(head_dim)),
        scratch_(static_cast<std::size_t>(head_dim)) {}

  AttentionReads operator()(Context& ctx, const kv::KvCacheBase& cache, View<const float, 3> Q, View<float, 3> out) {
    cache.attend(ctx, Q, out, tessera::score_mods(reaches_));
    const Index n = Q.extent(1), d = Q.extent(2), first = cache.next_position() - n, group = reaches_.group;
    const double row = 2 * 4 * static_cast<double>(d);
    AttentionReads reads;
    for (std::size_t h = 0; h < reaches_.reach.size(); ++h) {
      const Reach reach = reaches_.reach[h];
      if (reach == Reach::nothing) means(ctx, cache, static_cast<Index>(h), out);
      for (Index i = 0; i < n; ++i) {
        const Index held = first + i + 1, window = reaches_.window.window;
        const Index sinks = std::clamp<Index>(held - window, 0, reaches_.window.sinks);
        const auto met = static_cast<double>(reach == Reach::window ? std::min(held, window + sinks) : held);
        reads.keys += reach == Reach::nothing ? 0 : met * static_cast<double>(group);
        reads.bytes += reach == Reach::nothing ? row : met * row;  // the sum and the new value
      }
    }
    return reads;
  }

 private:
  void means(Context& ctx, const kv::KvCacheBase& cache, Index h, View<float, 3> out) {
    const Index n = out.extent(1), d = out.extent(2), first = cache.next_position() - n;
    float* const sum = sums_.data() + h * d;
    for (Index i = 0; i < n; ++i) {
      Index stride = d;
      const float* const value =
          cache.value_tile(h, first + i, 1, scratch_.data(), stride, kv::KvCacheBase::unpack_kernel(ctx));
      for (Index c = 0; c < d; ++c) sum[c] += value[c];
      for (Index g = 0; g < reaches_.group; ++g)
        for (Index c = 0; c < d; ++c) out(h * reaches_.group + g, i, c) = sum[c] / static_cast<float>(first + i + 1);
    }
  }

  HeadReaches reaches_;
  std::vector<float> sums_, scratch_;
};

/// The first `count` tokens of a cache, from which nothing was dropped.
struct CachedTokens {
  const kv::KvCacheBase* cache;
  bool keys;
  Index count;
  kv::Unpack unpack;

  std::array<Index, 3> extents() const { return {cache->kv_heads(), count, cache->head_dim()}; }
  tessera::TileSource<float> source() const {
    return {this,
            [](const void* state, Index head, Index begin, Index rows, float* scratch,
               Index& stride) noexcept -> const float* {
              const auto& self = *static_cast<const CachedTokens*>(state);
              return self.keys ? self.cache->key_tile(head, begin, rows, scratch, stride, self.unpack)
                               : self.cache->value_tile(head, begin, rows, scratch, stride, self.unpack);
            }};
  }
};

/// Each query chooses its own blocks, read together or not.
class TopKAttention {
 public:
  TopKAttention(const Config& config, Index block, Index k)
      : block_(block),
        k_(k),
        most_((config.context + block - 1) / block),
        means_(static_cast<std::size_t>(config.kv_dim() * most_)) {}

  AttentionReads operator()(Context& ctx, const kv::KvCacheBase& cache, View<const float, 3> Q, View<float, 3> out) {
    const Index n = Q.extent(1), d = Q.extent(2), first = cache.next_position() - n, kv_heads = cache.kv_heads();
    const auto unpack = kv::KvCacheBase::unpack_kernel(ctx);
    AttentionReads reads;
    for (Index i = 0; i < n; ++i) {
      const Index held = first + i + 1, blocks = (held + block_ - 1) / block_;
      const CachedTokens keys{&cache, true, held, unpack}, values{&cache, false, held, unpack};
      const View<float, 3> means(means_.data(), {kv_heads, blocks, d}, {most_ * d, d, 1});
      tessera::block_means<float>(ctx, keys, block_, means, blocks - 1);
      tessera::block_top_k_attention<float>(ctx, Q.slice(1, i, 1), keys, values, means, block_, k_, out.slice(1, i, 1));
      const Index met = blocks <= k_ ? held : held - (blocks - k_) * block_;
      reads.keys += static_cast<double>(met * Q.extent(0));
      reads.bytes += 4 * static_cast<double>(kv_heads * d * (2 * met + (blocks <= k_ ? 0 : blocks)));
    }
    return reads;
  }

 private:
  Index block_, k_, most_;
  std::vector<float> means_;
};

/// The kv heads of all layers: `number` of those that come first by entropy get `reach`.
std::vector<HeadReaches> choose(const Config& config, const std::vector<std::vector<double>>& entropies, bool highest,
                                Index number, Reach reach, tessera::SlidingWindow window) {
  std::vector<std::pair<double, std::size_t>> order;
  const auto kv_heads = static_cast<std::size_t>(config.kv_heads);
  for (std::size_t l = 0; l < entropies.size(); ++l)
    for (std::size_t h = 0; h < kv_heads; ++h)
      order.emplace_back(highest ? -entropies[l][h] : entropies[l][h], l * kv_heads + h);
  std::sort(order.begin(), order.end());
  std::vector<HeadReaches> layers(entropies.size(),
                                  {std::vector(kv_heads, Reach::everything), config.heads / config.kv_heads, window});
  for (std::size_t i = 0; i < static_cast<std::size_t>(number); ++i)
    layers[order[i].second / kv_heads].reach[order[i].second % kv_heads] = reach;
  return layers;
}

}  // namespace

std::vector<std::vector<double>> head_entropies(Context& ctx, const Network& network,
                                                const std::vector<std::vector<std::int32_t>>& documents, Index tokens) {
  const Config& c = network.config();
  const Index group = c.heads / c.kv_heads;
  std::vector<std::vector<double>> sums(static_cast<std::size_t>(c.layers),
                                        std::vector<double>(static_cast<std::size_t>(c.kv_heads)));
  const auto measure = [&](Index layer) -> LayerAttention {
    return [&, layer](Context& worker, const kv::KvCacheBase& cache, View<const float, 3> Q, View<float, 3> out) {
      const Index n = Q.extent(1);
      Buffer<float> entropy(c.heads * n);
      cache.attend(worker, Q, out, tessera::score_mods(), {.scale = {}, .causal = true},
                   {{}, {entropy.data(), c.heads, n}});
      for (Index x = 0; x < entropy.size(); ++x)
        sums[static_cast<std::size_t>(layer)][static_cast<std::size_t>(x / n / group)] +=
            static_cast<double>(entropy[x]);
      return AttentionReads{};
    };
  };
  const KvFormat format{"entropies", f32_cache, {}, measure};
  Decoder decoder(network, format);
  Buffer<float> logits(c.vocab);
  const Index each = std::max<Index>(tokens / std::max<Index>(static_cast<Index>(documents.size()), 1), 1);
  Index read = 0;
  for (const auto& document : documents) {
    const auto count = std::min({document.size(), static_cast<std::size_t>(each), static_cast<std::size_t>(c.context)});
    if (count == 0) continue;
    decoder.restart();
    decoder.read(ctx, std::span(document).first(count), {logits.data(), 1, logits.size()});
    read += static_cast<Index>(count);
  }
  if (read == 0) throw tessera::format_error("no text to measure entropies on; expected documents that are not empty");
  for (auto& layer : sums)
    for (double& sum : layer) sum /= static_cast<double>(read * group);
  return sums;
}

std::vector<KvFormat> attention_formats(const Config& config, const std::vector<std::vector<double>>& entropies) {
  const Index heads = config.layers * config.kv_heads, quarter = std::max<Index>(config.context / 4, 8);
  const auto window = [](Index keys) { return tessera::sliding_window(std::max<Index>(keys - 4, 1), 4); };
  std::vector<KvFormat> all;
  const auto by_heads = [&](std::string name, bool highest, Index number, Reach reach, Index keys) {
    const auto layers = choose(config, entropies, highest, number, reach, window(keys));
    all.push_back({std::move(name), f32_cache, {}, [layers, d = config.head_dim()](Index layer) -> LayerAttention {
                     return ReachingAttention(layers[static_cast<std::size_t>(layer)], d);
                   }});
  };
  const auto top_k = [&](std::string name, Index block, Index k) {
    all.push_back({std::move(name), f32_cache, {}, [config, block, k](Index) -> LayerAttention {
                     return TopKAttention(config, block, k);
                   }});
  };
  by_heads("everything", true, 0, Reach::everything, 1);
  by_heads("high-entropy 1/8, means", true, (heads + 7) / 8, Reach::nothing, 1);
  by_heads("high-entropy 1/2, window 1/8", true, (heads + 1) / 2, Reach::window, quarter / 2);
  by_heads("low-entropy 1/2, window 1/8", false, (heads + 1) / 2, Reach::window, quarter / 2);
  by_heads("window 1/4", true, heads, Reach::window, quarter);
  top_k("top blocks 1/4", std::max<Index>(quarter / 8, 1), 8);
  by_heads("window 1/8", true, heads, Reach::window, quarter / 2);
  top_k("top blocks 1/8", std::max<Index>(quarter / 8, 1), 4);
  return all;
}

}  // namespace lm
