/// Tokens that stand for several: the logarithm of how many is added to their scores.
#pragma once

#include <tessera/kernels/attention/args.hpp>
#include <tessera/kv/row_math.hpp>

namespace tessera::inline TESSERA_ABI::kv::detail {

/// A hook around another (whose masks and score-mods come first), which adds `of(cache, kv_head)`: exp(s + log
/// c) = c exp(s), so that a key that stands for c equal ones has their weight. Lives while the kernel runs.
class CountBias {
 public:
  using Of = const float* (*)(const void* cache, Index kv_head) noexcept;  // (tokens), or null for zeros
  CountBias(const void* cache, Of of, ScoreHook<float> inner) : cache_(cache), of_(of), inner_(inner) {}

  ScoreHook<float> hook() const {
    ScoreHook<float> made;
    made.state = this;
    made.always = true;
    if (inner_.meets != nullptr)
      made.meets = [](const void* self, const ScoreTile<float>& tile) noexcept {
        const auto& inner = static_cast<const CountBias*>(self)->inner_;
        return inner.meets(inner.state, tile);
      };
    made.change = [](const void* self, const ScoreTile<float>& tile) noexcept {
      static_cast<const CountBias*>(self)->change(tile);
    };
    if (inner_.weigh != nullptr)
      made.weigh = [](const void* self, const ScoreTile<float>& tile) noexcept {
        const auto& inner = static_cast<const CountBias*>(self)->inner_;
        inner.weigh(inner.state, tile);
      };
    return made;
  }

 private:
  void change(const ScoreTile<float>& tile) const {
    if (inner_.change != nullptr && (inner_.always || tile.seen == Seen::some)) inner_.change(inner_.state, tile);
    const float* const biases = of_(cache_, tile.kv_head);
    if (biases == nullptr) return;
    if (tile.token_stride == 1) {
      for (Index r = 0; r < tile.rows; ++r) add(biases + tile.begin, tile.scores + r * tile.row_stride, tile.count);
      return;
    }
    for (Index j = 0; j < tile.count; ++j) {
      const float bias = biases[tile.begin + j];
      if (bias == 0) continue;
      float* const score = tile.scores + j * tile.token_stride;
      for (Index r = 0; r < tile.rows; ++r) score[r * tile.row_stride] += bias;
    }
  }

  const void* cache_;
  Of of_;
  ScoreHook<float> inner_;
};

}  // namespace tessera::inline TESSERA_ABI::kv::detail
