/// Accumulated attention whose softmax is smoothed by noise and temperature.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/kv/row_math.hpp>
#include <tessera/kv/stages/score.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// Tracks Σ softmax_t((x_t + noise · g_t) / tau), x the scores of attention, g Gumbel noise, over queries and heads.
/// tau rises from tau_begin at time `begin` to tau_end `length` tokens later, whatever positions kept tokens close up
/// to. Noise is pure in (seed, head, the query's time, the token's position): a table of 2^14 Philox draws that each
/// query and head reads from a place of its own, so tokens 2^14 apart share theirs. 4 bytes a token; where few queries
/// come at once one more copy of their scores and two exponentials each, else the scores once more for the normaliser.
class GumbelSums {
 public:
  static constexpr std::string_view name = "GumbelSums";
  struct Options {
    std::uint64_t seed = 0;
    float noise = 1, tau_begin = 1, tau_end = 2;
    Index begin = 0, length = 1024;
  };
  /// Throws unsupported_error unless temperatures are positive, noise is finite and length at least 0.
  explicit GumbelSums(const Options& options) : options_(options) {
    const auto& [seed, noise, from, to, begin, length] = options;
    if (!(from > 0 && to > 0) || std::isinf(from) || std::isinf(to) || !std::isfinite(noise) || length < 0)
      throw unsupported_error(tessera::detail::concat(
          "tessera: GumbelSums with noise ", noise, " at temperatures ", from, " to ", to, " over ", length,
          " tokens; expected positive ones, finite noise and no less than 0"));
    std::vector<float> draws(size);
    const Philox stream(options.seed);
    for (std::size_t i = 0; i < size; i += 4)
      for (std::size_t k = 0; const std::uint32_t bits : stream.block(i / 4))
        draws[i + k++] = -std::log(-std::log(static_cast<float>(bits >> 8) * 0x1p-24f + 0x1p-25f)) * options.noise;
    gumbel_ = std::make_shared<const std::vector<float>>(std::move(draws));
  }
  GumbelSums() : GumbelSums(Options{}) {}

  static constexpr Index channels() { return 1; }
  float tau(Index time) const {
    const double along = (static_cast<double>(time) - static_cast<double>(options_.begin)) /
                         static_cast<double>(std::max<Index>(options_.length, 1));
    return options_.tau_begin +
           (options_.tau_end - options_.tau_begin) * static_cast<float>(std::clamp(along, 0.0, 1.0));
  }
  void change(const ScoreTile<float>& tile, const TokenPositions& tokens) const noexcept {
    std::size_t place[64];
    for (Index j = 0; j < tile.count; ++j)
      place[j] = static_cast<std::size_t>(tokens.of(tokens.state, tile.kv_head, tile.begin + j));
    const float* const draws = gumbel_->data();
    for (Index r = 0; r < tile.rows; ++r) {
      const Index row = tile.row + r, time = tokens.first + row / tile.group;
      const Philox of_head(options_.seed, static_cast<std::uint64_t>(tile.kv_head * tile.group + row % tile.group + 1));
      const std::size_t from = of_head.bits(static_cast<std::uint64_t>(time));
      const float sharpness = 1 / tau(time);
      float* const scores = tile.scores + r * tile.row_stride;
      for (Index j = 0; j < tile.count; ++j) {
        float& score = scores[j * tile.token_stride];
        score = (score + draws[(place[j] + from) % size]) * sharpness;
      }
    }
  }
  void observe(const TrackedTile& tile, TrackedHead& head) const noexcept {
    const auto& p = tile.weights;
    detail::add(p.sum, head.channel(0) + p.begin, p.count);
  }

 private:
  static constexpr std::size_t size = 1 << 14;
  Options options_;
  std::shared_ptr<const std::vector<float>> gumbel_;
};

/// score_t = what GumbelSums tracks: a token that noise might have kept is not lost to an early choice.
/// M. Adnan et al., "Keyformer: KV Cache Reduction through Key Tokens Selection for Efficient Generative Inference"
/// (MLSys 2024), §3; the authors keep 60% of the prompt's length, 30% of them the most recent. Without noise at tau 1
/// it is AccumulatedAttention. O(n).
struct Keyformer {
  static constexpr Needs needs = Needs::none;
  static void check(const KvCacheBase& cache) { cache.tracker<GumbelSums>(); }
  void operator()(Context&, const KvTokens& tokens, std::span<float> score) const {  // (n)
    const auto sums = tokens.cache->tracked<GumbelSums>(tokens.kv_head).channel(0);
    std::copy(sums.begin(), sums.end(), score.begin());
  }
};

}  // namespace tessera::inline TESSERA_ABI::kv
