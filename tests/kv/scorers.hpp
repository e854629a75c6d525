/// What the tests of scorers share.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <vector>

#include "kv/support.hpp"

namespace tessera::test::scorers {

using Numbers = std::vector<double>;

/// What a scorer says of every token of the only kv head.
template <class S>
std::vector<float> scores(Context& ctx, KvCacheBase& cache, const S& scorer, const KvProbe& probe = {}) {
  std::vector<std::vector<float>> all;
  cache.compress(ctx, score(scorer) | ShowScores{&all}, probe);
  return all.at(0);
}

/// One kv head of 16 channels whose prompt has been attended to, all queries at once or one by one.
struct Prompt {
  explicit Prompt(Index n, Index group = 2, float lure = 0)
      : K(1, n, 16, 1), V(1, n, 16, 2), Q(group, n, 16, 3), out(group, n, 16, 4), cache(1, 16) {
    for (Index g = 0; g < group; ++g)
      for (Index i = 0; i < n; ++i) Q.view()(g, i, 0) = 1;
    for (Index t = 0; t < n; ++t) K.view()(0, t, 0) = t % 10 == 3 ? 4 * lure : 0;
  }
  template <class... Rules>
  KvCache<>& serve(Context& ctx, Index at_once, Rules... rules) {
    cache = KvCache<>(1, 16);
    (cache.track(rules), ...);
    for (Index at = 0; at < K.shape[1]; at += at_once) step(ctx, at, std::min(at_once, K.shape[1] - at));
    return cache;
  }
  void step(Context& ctx, Index at, Index t) {
    cache.append(ctx, K.part(at, t), V.part(at, t));
    cache.attend(ctx, Q.part(at, t), out.view().slice(1, at, t));
  }
  /// Softmax weights of query i of head g over all tokens up to `last`.
  Numbers weights(Index g, Index i, Index last) const {
    Numbers p;
    double total = 0;
    for (Index j = 0; j < K.shape[1]; ++j) {
      double dot = 0;
      for (Index c = 0; c < 16; ++c)
        dot += static_cast<double>(Q.view()(g, i, c)) * static_cast<double>(K.view()(0, j, c));
      p.push_back(j <= last ? std::exp(dot / 4) : 0);
      total += p.back();
    }
    for (double& x : p) x /= total;
    return p;
  }
  Tokens K, V, Q, out;
  KvCache<> cache;
};

inline void expect_near(const std::vector<float>& got, const Numbers& expected, double bound) {
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t j = 0; j < got.size(); ++j) EXPECT_NEAR(got[j], expected[j], bound * (1 + expected[j])) << j;
}
inline std::set<std::size_t> largest(const std::vector<float>& x, std::size_t k) {
  std::vector<std::size_t> order(x.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](auto a, auto b) { return x[a] != x[b] ? x[a] > x[b] : a > b; });
  return {order.begin(), order.begin() + static_cast<std::ptrdiff_t>(k)};
}

}  // namespace tessera::test::scorers
