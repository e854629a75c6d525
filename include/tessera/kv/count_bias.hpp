/// Tokens that stand for several: the logarithm of how many is added to their scores.
#pragma once

#include <tessera/kernels/attention/args.hpp>

namespace tessera::inline TESSERA_ABI::kv::detail {

/// A hook around another (whose masks and score-mods come first), which adds `of(cache, kv_head, token)`: exp(s + log
/// c) = c exp(s), so that a key that stands for c equal ones has their weight. Lives while the kernel runs.
class CountBias {
 public:
  using Of = float (*)(const void* cache, Index kv_head, Index token) noexcept;
  using Counted = bool (*)(const void* cache, Index kv_head) noexcept;
  CountBias(const void* cache, Of of, Counted counted, ScoreHook<float> inner)
      : cache_(cache), of_(of), counted_(counted), inner_(inner) {}

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
    if (!counted_(cache_, tile.kv_head)) return;
    for (Index j = 0; j < tile.count; ++j) {
      const float bias = of_(cache_, tile.kv_head, tile.begin + j);
      if (bias == 0) continue;
      float* const score = tile.scores + j * tile.token_stride;
      for (Index r = 0; r < tile.rows; ++r) score[r * tile.row_stride] += bias;
    }
  }

  const void* cache_;
  Of of_;
  Counted counted_;
  ScoreHook<float> inner_;
};

}  // namespace tessera::inline TESSERA_ABI::kv::detail
