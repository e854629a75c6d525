/// A prompt of two kv heads, and what policies make of it.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kv/any_policy.hpp"

namespace tessera::test::press {

inline constexpr Index n = 90, d = 16, kv_heads = 2, heads = 4;

/// Two kv heads of a prompt, and what scorers say of their tokens.
struct Held {
  explicit Held(Index count = n) : K(kv_heads, count, d, 1), V(kv_heads, count, d, 2), Q(heads, count, d, 3) {
    cache.append(ctx, K.view(), V.view());
  }
  template <class Stage>
  std::vector<std::vector<float>> scores(const Stage& stage, const KvProbe& probe = {}) {
    std::vector<std::vector<float>> all;
    cache.compress(ctx, any(stage | ShowScores{&all}), probe);
    return all;
  }
  template <class Policy>
  std::vector<std::vector<Index>> left(const Policy& policy, const KvProbe& probe = {}) {
    KvCache<> copy = cache;
    copy.compress(ctx, any(policy), probe);
    return {positions(copy, 0), positions(copy, 1)};
  }
  double key(Index h, Index t, Index c) const { return static_cast<double>(K.view()(h, t, c)); }
  double query(Index h, Index i, Index c) const { return static_cast<double>(Q.view()(h, i, c)); }
  double dot(Index h, Index i, Index t) const {
    double sum = 0;
    for (Index c = 0; c < d; ++c) sum += query(h, i, c) * key(h / 2, t, c);
    return sum;
  }
  /// exp(scale · q·k) over the sum of it for tokens [begin, end).
  double weight(Index h, Index i, Index t, Index begin, Index end, double scale = 0.25) const {
    double total = 0;
    for (Index j = begin; j < end; ++j) total += std::exp(scale * dot(h, i, j));
    return std::exp(scale * dot(h, i, t)) / total;
  }
  Context ctx;
  Tokens K, V, Q;
  KvCache<> cache{kv_heads, d};
};
inline std::vector<Index> best(const std::vector<double>& x, std::size_t k) {
  std::vector<Index> order(x.size());
  std::iota(order.begin(), order.end(), Index{0});
  const auto of = [&](Index i) { return x[static_cast<std::size_t>(i)]; };
  std::sort(order.begin(), order.end(), [&](Index a, Index b) { return of(a) != of(b) ? of(a) > of(b) : a > b; });
  order.resize(k);
  std::sort(order.begin(), order.end());
  return order;
}

}  // namespace tessera::test::press
