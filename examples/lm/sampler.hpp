/// The next token from logits: greedy, or by temperature and nucleus. Draws are replayed by (seed, step).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <span>
#include <tessera/core/error.hpp>
#include <tessera/core/rng.hpp>
#include <vector>

namespace lm {

struct Sampling {
  float temperature = 0.8f;  // 0: the likeliest token
  float top_p = 0.9f;        // smallest set of tokens with at least this mass (Holtzman et al. 2020)
  std::uint64_t seed = 1;
};

class Sampler {
 public:
  explicit Sampler(Sampling options) : options_(options), draws_(options.seed) {}

  /// Throws format_error for logits that are not finite.
  std::int32_t next(std::span<const float> logits) {
    for (const float logit : logits)
      if (!std::isfinite(logit))
        throw tessera::format_error(
            tessera::detail::concat("a logit is ", logit, "; expected a model without overflow"));
    const auto likeliest = static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    if (options_.temperature <= 0) return likeliest;
    const float peak = logits[static_cast<std::size_t>(likeliest)];
    weights_.resize(logits.size());
    double total = 0;
    for (std::size_t i = 0; i < logits.size(); ++i) {
      weights_[i] = std::exp(static_cast<double>(logits[i] - peak) / static_cast<double>(options_.temperature));
      total += weights_[i];
    }
    order_.resize(logits.size());
    std::iota(order_.begin(), order_.end(), 0);
    std::sort(order_.begin(), order_.end(),
              [&](auto a, auto b) { return weight(a) != weight(b) ? weight(a) > weight(b) : a < b; });
    double kept = 0;
    std::size_t count = 0;
    do kept += weight(order_[count++]);
    while (count < order_.size() && kept < static_cast<double>(options_.top_p) * total);
    double point = static_cast<double>(draws_.uniform(step_++)) * kept;
    for (std::size_t i = 0; i < count; ++i) {
      point -= weight(order_[i]);
      if (point < 0) return order_[i];
    }
    return order_[count - 1];
  }

 private:
  double weight(std::int32_t token) const { return weights_[static_cast<std::size_t>(token)]; }

  Sampling options_;
  tessera::Philox draws_;
  std::uint64_t step_ = 0;
  std::vector<double> weights_;
  std::vector<std::int32_t> order_;
};

}  // namespace lm
