/// Short keys draw the attention.
#pragma once

#include <cmath>
#include <limits>
#include <span>

#include <tessera/kv/row_math.hpp>
#include <tessera/kv/stages/score.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// Keeps the tokens with the shortest keys: score_t = -|k_t|.
/// A. Devoto et al., "A Simple and Effective L2 Norm-Based Strategy for KV Cache Compression" (EMNLP 2024), §3.
/// Needs keys, a token at a time; preserves positions. O(n·d) reads, no allocation. Keys with NaN score -inf.
struct KeyNorm {
  static constexpr Needs needs = Needs::keys;
  static constexpr bool tokenwise = true;

  void operator()(Context&, const KvTokens& tokens, std::span<float> score) const {  // (n)
    const auto& keys = tokens.keys;                                                  // (n, d)
    for (Index t = 0; t < keys.rows(); ++t) {
      const float* const key = keys.data() + t * keys.row_stride();
      const float sum = detail::dot(key, key, keys.cols());
      score[static_cast<std::size_t>(t)] = std::isnan(sum) ? -std::numeric_limits<float>::infinity() : -std::sqrt(sum);
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI::kv
