/// Several scorers as one, each on the same scale.
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/kv/stages/score.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// A scorer and what its z-scores are multiplied by.
template <KvScorer S>
struct Weighted {
  float weight;
  S scorer;
};
/// Throws unsupported_error for a weight that is not finite.
template <KvScorer S>
Weighted<S> weighted(float weight, S scorer) {
  if (!std::isfinite(weight))
    throw unsupported_error(tessera::detail::concat("tessera: weighted(", weight, ", …): expected a finite weight"));
  return {weight, std::move(scorer)};
}

namespace detail {
/// Less their mean, over their standard deviation, of all heads together; numbers that are not finite stay, and count
/// for neither.
inline void to_z_scores(std::span<HeadDraft> heads) {
  double count = 0, sum = 0, square = 0;
  const auto over = [&](const auto& f) {
    for (HeadDraft& draft : heads)
      for (float& x : draft.score)
        if (std::isfinite(x)) f(x);
  };
  over([&](float x) { sum += static_cast<double>(x), ++count; });
  const double mean = count > 0 ? sum / count : 0;
  over([&](float x) { square += (static_cast<double>(x) - mean) * (static_cast<double>(x) - mean); });
  const double deviation = count > 1 ? std::sqrt(square / (count - 1)) : 0;
  over([&](float& x) { x = deviation > 0 ? static_cast<float>((static_cast<double>(x) - mean) / deviation) : 0.0f; });
}
}  // namespace detail

/// score = Σ weight · z, z a scorer's numbers less their mean, over their standard deviation, those of all tokens of
/// all kv heads of the layer: V. Chari, B. Van Durme, "Compactor" (2025), §3.3, blends leverage and attention so. What
/// is infinite for one scorer is for all (of both signs: it goes). The scorers' cost and 4 bytes a token more.
template <KvScorer... S>
struct Blend {
  std::tuple<Weighted<S>...> parts;
  static constexpr Facts needs = Facts::none, too_late_after = Facts::selection, gives = Facts::scores,
                         ends = Facts::none;
  static constexpr bool preserves_positions = true;

  void check(const StageContext& context) const {
    std::apply([&](const auto&... part) { (score(part.scorer).check(context), ...); }, parts);
  }
  void operator()(const StageContext& context) const {
    std::vector<std::vector<float>> total(context.heads.size());
    const auto add = [&](const auto& part) {
      score(part.scorer)(context);
      detail::to_z_scores(context.heads);
      for (std::size_t h = 0; h < total.size(); ++h) {
        const auto& score = context.heads[h].score;
        total[h].resize(score.size());
        for (std::size_t t = 0; t < score.size(); ++t)
          total[h][t] += std::isinf(score[t]) ? score[t] : part.weight * score[t];
      }
    };
    std::apply([&](const auto&... part) { (add(part), ...); }, parts);
    for (std::size_t h = 0; h < total.size(); ++h) {
      context.heads[h].score = std::move(total[h]);
      for (float& x : context.heads[h].score)
        if (std::isnan(x)) x = -std::numeric_limits<float>::infinity();
    }
  }
};

/// `blend(weighted(0.35f, Leverage{}), weighted(1, NonCausalAttention{})) | keep(0.5) | evict()`.
template <KvScorer... S>
requires(sizeof...(S) > 0) Blend<S...> blend(Weighted<S>... parts) { return {{std::move(parts)...}}; }

}  // namespace tessera::inline TESSERA_ABI::kv
