/// What the tests of merging share.
#pragma once

#include <cmath>
#include <span>
#include <vector>

#include "kv/support.hpp"

namespace tessera::test {

/// |a - b| / |b|.
inline double distance(const Tokens& a, const Tokens& b) {
  double error = 0, size = 0;
  for (Index i = 0; i < a.buffer.size(); ++i) {
    const double x = static_cast<double>(a.buffer[i]), y = static_cast<double>(b.buffer[i]);
    error += (x - y) * (x - y);
    size += y * y;
  }
  return std::sqrt(error / size);
}

/// What later queries see: the sum, over the probe's queries, of a token's attention.
struct ProbeSums {
  static constexpr Needs needs = Needs::keys | Needs::queries;
  void operator()(Context&, const KvTokens& tokens, std::span<float> score) const {
    const Index d = tokens.keys.cols();
    std::vector<double> weight(score.size());
    for (Index g = 0; g < tokens.queries.extent(0); ++g)
      for (Index i = 0; i < tokens.queries.extent(1); ++i) {
        double sum = 0;
        for (std::size_t t = 0; t < weight.size(); ++t) {
          const float dot = kv::detail::dot(&tokens.queries(g, i, Index{0}), &tokens.keys(Index(t), Index{0}), d);
          sum += weight[t] = std::exp(static_cast<double>(dot) / std::sqrt(static_cast<double>(d)));
        }
        for (std::size_t t = 0; t < weight.size(); ++t) score[t] += static_cast<float>(weight[t] / sum);
      }
  }
};

/// Keys or values that turn slowly, x_t = a x_{t-1} + noise, and begin anew after 1 to 40 tokens where there are jumps.
inline Tokens drifting(Index heads, Index n, Index d, float a, float size, std::uint64_t seed, bool jumps = false) {
  Tokens x(heads, n, d, seed);
  Index fresh = 0;
  for (Index t = 0; t < n; ++t) {
    const bool begins = t == fresh;
    if (begins && jumps) fresh += 1 + static_cast<Index>(Philox(1).below(static_cast<std::uint64_t>(t), 40));
    for (Index h = 0; h < heads; ++h)
      for (Index c = 0; c < d; ++c) {
        x.view()(h, t, c) *= begins ? size : size * std::sqrt(1 - a * a);
        if (!begins) x.view()(h, t, c) += a * x.view()(h, t - 1, c);
      }
  }
  return x;
}

}  // namespace tessera::test
