/// The baseline that looks at nothing.
#pragma once

#include <cstdint>
#include <span>

#include <tessera/core/rng.hpp>
#include <tessera/kv/stages/score.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// A uniform number that depends on the seed, the kv head and the token's position alone: a token is as lucky whenever
/// it is asked. Needs positions. O(n).
struct Random {
  std::uint64_t seed = 0;
  static constexpr Needs needs = Needs::positions;
  static constexpr bool tokenwise = true;

  void operator()(Context&, const KvTokens& tokens, std::span<float> score) const {  // (n)
    const Philox draws(seed, static_cast<std::uint64_t>(tokens.kv_head));
    for (std::size_t t = 0; t < score.size(); ++t)
      score[t] = draws.uniform(static_cast<std::uint64_t>(tokens.positions[t]));
  }
};

}  // namespace tessera::inline TESSERA_ABI::kv
