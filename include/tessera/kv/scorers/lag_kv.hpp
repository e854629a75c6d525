/// Tokens that stand out from those that follow stay.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/kv/stages/score.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// After `sinks` tokens, partitions of `lag`: each channel of a partition is put on the scale from its least to its
/// greatest number in the next partition, and a token's score is the softmax, over its partition, of the standard
/// deviation (over d, not d - 1) of its channels, of keys and of values, summed. The sinks and the last partition,
/// which none follows (and what is left of one), score 2, more than any other. M. Liang et al., "LagKV: Lag-Relative
/// Information of the KV Cache Tells Which Tokens Are Important" (2025), §3. Deviation: scores are compared over the
/// whole head; `score(LagKv{…}) | keep_in_chunks(f, lag)` is nearer the paper, which keeps as many of each partition.
/// Needs keys and values; preserves positions. O(n·d). A channel that does not vary in the next partition, or by more
/// than f32 holds, counts as 0; NaN there is left out. A token that is not finite scores NaN and touches no other of
/// its partition.
struct LagKv {
  Index sinks = 4;
  Index lag = 128;
  static constexpr Needs needs = Needs::keys | Needs::values;

  /// Throws unsupported_error unless sinks >= 0 and lag >= 1.
  void check(const KvCacheBase&) const { check(); }
  void check() const {
    if (sinks < 0 || lag < 1)
      throw unsupported_error(tessera::detail::concat("tessera: LagKv with ", sinks, " sinks and partitions of ", lag,
                                                      "; expected at least 0 and 1"));
  }
  void operator()(Context&, const KvTokens& tokens, std::span<float> score) const {  // (n)
    check();
    const auto n = static_cast<Index>(score.size());
    std::fill(score.begin(), score.end(), 2.0f);
    std::vector<float> spread(static_cast<std::size_t>(std::min(lag, n)));
    for (Index begin = std::min(sinks, n); n - begin >= lag && n - begin - lag >= lag; begin += lag) {
      const auto part = score.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(lag));
      std::fill(part.begin(), part.end(), 0.0f);
      for (const auto& rows : {tokens.keys, tokens.values}) {
        deviations(rows, begin, spread);
        float most = 0, sum = 0;
        for (const float x : spread) most = std::max(most, x);  // but NaN
        for (float& x : spread) {
          x = std::exp(x - most);
          sum += std::isnan(x) ? 0 : x;
        }
        for (std::size_t i = 0; i < part.size(); ++i) part[i] += spread[i] / sum;
      }
    }
  }

 private:
  void deviations(MatrixView<const float> rows, Index begin, std::span<float> spread) const {  // (lag)
    const Index d = rows.cols();
    const auto row = [&](Index t) { return rows.data() + t * rows.row_stride(); };
    constexpr float infinity = std::numeric_limits<float>::infinity();
    std::vector<float> low(static_cast<std::size_t>(d), infinity), scale(low.size(), -infinity);
    for (Index t = begin + lag; t < begin + 2 * lag; ++t)
      for (std::size_t c = 0; c < low.size(); ++c) {
        const float x = row(t)[c];
        low[c] = std::min(low[c], x);
        scale[c] = std::max(scale[c], x);
      }
    for (std::size_t c = 0; c < low.size(); ++c) {
      const float range = scale[c] - low[c];
      const bool varies = range > 0 && range < infinity;
      scale[c] = varies ? 1 / range : 0;
      low[c] = varies ? low[c] : 0;
    }
    for (Index t = 0; t < lag; ++t) {
      const float* const x = row(begin + t);
      float mean = 0, square = 0;
      for (std::size_t c = 0; c < low.size(); ++c) mean += (x[c] - low[c]) * scale[c];
      mean /= static_cast<float>(d);
      for (std::size_t c = 0; c < low.size(); ++c) {
        const float off = (x[c] - low[c]) * scale[c] - mean;
        square += off * off;
      }
      spread[static_cast<std::size_t>(t)] =
          std::min(std::sqrt(square / static_cast<float>(d)), std::numeric_limits<float>::max());
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI::kv
