/// Keys unlike the others stay.
#pragma once

#include <span>
#include <vector>

#include <tessera/kv/row_math.hpp>
#include <tessera/kv/stages/score.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// score_t = -cos(k_t, mean of all k / |k|).
/// J. Park et al., "KeyDiff: Key Similarity-Based KV Cache Eviction for Long-Context LLM Inference in
/// Resource-Constrained Environments" (2025), §3.
/// Needs keys; preserves positions. O(n·d) in two passes. Keys that are not finite are left out of the mean and score
/// NaN; zeros score 0.
struct KeyDiff {
  static constexpr Needs needs = Needs::keys;

  void operator()(Context&, const KvTokens& tokens, std::span<float> score) const {  // (n)
    const auto& keys = tokens.keys;                                                  // (n, d)
    const Index d = keys.cols();
    std::vector<float> anchor(static_cast<std::size_t>(d), 0.0f);
    for (Index t = 0; t < keys.rows(); ++t) {
      const float* const key = keys.data() + t * keys.row_stride();
      const float inverse = detail::inverse_norm(key, d);
      if (inverse == inverse) detail::add_scaled(inverse, key, anchor.data(), d);
      score[static_cast<std::size_t>(t)] = inverse;
    }
    const float length = detail::inverse_norm(anchor.data(), d);
    for (Index t = 0; t < keys.rows(); ++t)
      score[static_cast<std::size_t>(t)] *=
          -length * detail::dot(keys.data() + t * keys.row_stride(), anchor.data(), d);
  }
};

}  // namespace tessera::inline TESSERA_ABI::kv
