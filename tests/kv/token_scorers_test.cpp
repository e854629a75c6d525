/// Scorers that read keys and values alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <tessera/kv/scorers/leverage.hpp>
#include <vector>

#include "kv/support.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

template <class S>
std::vector<float> scores(const S& scorer, const Tokens& K, const Tokens& V, Index head = 0) {
  Context ctx;
  std::vector<Index> places(static_cast<std::size_t>(K.shape[1]));
  std::iota(places.begin(), places.end(), Index{0});
  KvTokens tokens;
  tokens.kv_head = head;
  tokens.keys = K.view()[head];
  tokens.values = V.view()[head];
  tokens.positions = places;
  std::vector<float> all(places.size());
  scorer(ctx, tokens, all);
  return all;
}

TEST(Scorers, SayWhatTheirPapersDo) {
  const Index n = 64, d = 16;
  Tokens K(1, n, d, 9), V(1, n, d, 10);
  for (Index t = 0; t < n; ++t)  // all nearly the same but one
    for (Index c = 0; c < d; ++c) K.view()(0, t, c) = (t == 17 ? -1.0f : 1.0f) + 0.1f * K.view()(0, t, c);
  const auto best = [](const std::vector<float>& s) { return std::max_element(s.begin(), s.end()) - s.begin(); };
  const auto different = scores(KeyDiff{}, K, V);
  EXPECT_EQ(best(different), 17);
  double anchor[16] = {}, length = 0;
  const auto norm = [&](Index t) {
    double sum = 0;
    for (Index c = 0; c < d; ++c) sum += std::pow(static_cast<double>(K.view()(0, t, c)), 2);
    return std::sqrt(sum);
  };
  for (Index t = 0; t < n; ++t)
    for (Index c = 0; c < d; ++c) anchor[c] += static_cast<double>(K.view()(0, t, c)) / norm(t);
  for (const double x : anchor) length += x * x;
  for (Index t = 0; t < n; ++t) {
    double dot = 0;
    for (Index c = 0; c < d; ++c) dot += static_cast<double>(K.view()(0, t, c)) * anchor[c];
    EXPECT_NEAR(static_cast<double>(different[static_cast<std::size_t>(t)]), -dot / norm(t) / std::sqrt(length), 1e-5);
  }
  // Leverage: sums to the rank but for the ridge, one direction of its own is nearly 1, sketches find it too.
  Tokens L(1, n, d, 11);
  for (Index t = 0; t < n; ++t) L.view()(0, t, 3) = t == 40 ? 5.0f : 0.0f;
  const auto exact = scores(Leverage{.sketch = 0, .ridge = 1e-5}, L, V);
  EXPECT_NEAR(std::accumulate(exact.begin(), exact.end(), 0.0), d, 0.01);
  EXPECT_EQ(best(exact), 40);
  EXPECT_GT(exact[40], 0.99f);
  for (const float x : exact) EXPECT_LE(x, 1.0001f);
  Tokens scaled = L;
  for (float& x : scaled.buffer) x *= 1e18f;  // scale does not matter, nor do squares that are no f32
  const auto huge = scores(Leverage{.sketch = 0, .ridge = 1e-5}, scaled, V);
  for (std::size_t t = 0; t < exact.size(); ++t) EXPECT_NEAR(huge[t], exact[t], 1e-4f);
  const auto sketch = scores(Leverage{.sketch = 12}, L, V);
  EXPECT_EQ(best(sketch), 40);
  // CurDKV without projection: squared norms over their sums.
  const auto cur = scores(CurDkv{.rank = 0}, K, V);
  double keys = 0, values = 0;
  std::vector<double> product;
  for (Index t = 0; t < n; ++t) {
    double v = 0;
    for (Index c = 0; c < d; ++c) v += std::pow(static_cast<double>(V.view()(0, t, c)), 2);
    product.push_back(norm(t) * norm(t) * v);
    keys += norm(t) * norm(t);
    values += v;
  }
  for (std::size_t t = 0; t < cur.size(); ++t)
    EXPECT_NEAR(static_cast<double>(cur[t]), product[t] / keys / values, 1e-5 * product[t] / keys / values);
  // LagKV: a token whose channels are all over the next partition's range.
  Tokens wild = L, calm(1, n, d, 12);
  for (Index t = 0; t < n; ++t)
    for (Index c = 0; c < d; ++c) wild.view()(0, t, c) = calm.view()(0, t, c) * (t == 10 ? 20.0f : 1.0f);
  const auto lag = scores(LagKv{.sinks = 4, .lag = 15}, wild, calm);
  for (std::size_t t = 0; t < 64; ++t) {
    const bool free = t >= 4 && t < 49;
    EXPECT_EQ(lag[t] == 2, !free) << t;
    EXPECT_TRUE(!free || t == 10 || lag[t] < lag[10]) << t;
  }
  double sum = 0;
  for (std::size_t t = 4; t < 19; ++t) sum += static_cast<double>(lag[t]);
  EXPECT_NEAR(sum, 2, 1e-5);
  EXPECT_THROW(scores(LagKv{.sinks = -1, .lag = 1}, K, V), unsupported_error);
  EXPECT_THROW(scores(LagKv{.sinks = 0, .lag = 0}, K, V), unsupported_error);
  EXPECT_EQ(scores(LagKv{.sinks = 0, .lag = std::numeric_limits<Index>::max()}, K, V)[0], 2);
  // Chance depends on the seed, the head and the position.
  EXPECT_EQ(scores(Random{4}, K, V), scores(Random{4}, L, V));
  EXPECT_NE(scores(Random{4}, K, V), scores(Random{5}, K, V));
  // A NaN stays with its token.
  L.view()(0, 5, 5) = std::numeric_limits<float>::quiet_NaN();
  for (const auto& got : {scores(KeyDiff{}, L, V), scores(Leverage{}, L, V), scores(CurDkv{}, L, V)})
    for (std::size_t t = 0; t < got.size(); ++t) EXPECT_EQ(std::isnan(got[t]), t == 5) << t;
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::test
