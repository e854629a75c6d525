#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <limits>
#include <string>
#include <tessera/kernels/attention/weights.hpp>
#include <utility>
#include <vector>

#include "support/oracle.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

TEST(AttentionColumns, EveryKernelEqualsTheReference) {
  for (const auto& kernel : AttentionColumnsKernels<float>::entries<AttentionColumnsArgs<float>>()) {
    for (const bool along_rows : {false, true})
      for (const Index rows : {1, 3, 8, 9, 16, 19})
        for (const Index count : {1, 2, 7, 8, 9, 16, 31, 64}) {
          SCOPED_TRACE(testing::Message() << kernel.name << ' ' << rows << " rows, " << count << " tokens");
          AttentionColumnsArgs<float> a;
          a.rows = rows;
          a.count = count;
          a.row_stride = along_rows ? 1 : count + 3;
          a.token_stride = along_rows ? rows + 2 : 1;
          const Index size = along_rows ? (count - 1) * (rows + 2) + rows : (rows - 1) * (count + 3) + count;
          if (!kernel.accepts(a)) continue;
          std::vector<float> lse, seen;
          for (Index r = 0; r < rows; ++r) {
            lse.push_back(static_cast<float>(r % 3) + 2);
            seen.push_back(static_cast<float>(r % 4 == 0 ? count : r * 5 % (count + 1)));
          }
          const auto raw = random_buffer<float>(size, 3);
          std::vector<float> scores[2], sum[2], most[2];
          for (const int which : {0, 1}) {
            scores[which].assign(raw.begin(), raw.end());
            scores[which][0] = -std::numeric_limits<float>::infinity();
            sum[which].assign(static_cast<std::size_t>(count), 1.0f);
            most[which].assign(static_cast<std::size_t>(count), 0.01f);
            a.scores = scores[which].data();
            a.lse = lse.data();
            a.seen = seen.data();
            a.sum = sum[which].data();
            a.most = most[which].data();
            if (which == 0)
              AttentionColumnsRef::run(a, {0, count, 0});
            else
              kernel.run(a, {0, count, 0});
          }
          for (std::size_t i = 0; i < scores[0].size(); ++i) ASSERT_NEAR(scores[1][i], scores[0][i], 1e-6f) << i;
          for (std::size_t j = 0; j < sum[0].size(); ++j) {
            ASSERT_NEAR(sum[1][j], sum[0][j], 4e-6f) << j;
            ASSERT_NEAR(most[1][j], most[0][j], 1e-6f) << j;
          }
        }
  }
}

template <class T>
void expect_columns(Index heads, Index kv_heads, Index n, Index m, Index d, bool causal) {
  SCOPED_TRACE(testing::Message() << heads << "h" << kv_heads << "kv n" << n << " m" << m << " d" << d << causal);
  const auto q = random_buffer<T>(heads * n * d, 1), k = random_buffer<T>(kv_heads * m * d, 2);
  const View<const T, 3> Q(q.data(), {heads, n, d}), K(k.data(), {kv_heads, m, d});
  std::vector<double> sum(static_cast<std::size_t>(kv_heads * m)), most = sum, seen = sum;
  for (Index h = 0; h < heads; ++h)
    for (Index i = 0; i < n; ++i) {
      const Index end = causal ? std::clamp<Index>(m - n + i + 1, 0, m) : m;
      std::vector<double> p;
      double total = 0;
      for (Index j = 0; j < end; ++j) {
        double dot = 0;
        for (Index c = 0; c < d; ++c)
          dot += static_cast<double>(Q(h, i, c)) * static_cast<double>(K(h * kv_heads / heads, j, c));
        p.push_back(std::exp(dot / std::sqrt(static_cast<double>(d))));
        total += p.back();
      }
      for (Index j = 0; j < end; ++j) {
        const auto at = static_cast<std::size_t>(h * kv_heads / heads * m + j);
        const double weight = p[static_cast<std::size_t>(j)] / total;
        sum[at] += weight;
        most[at] = std::max(most[at], weight);
        seen[at] += 1;
      }
    }
  std::vector<T> first;
  for (const Index threads : {1, 3}) {
    Context ctx = Context::with_threads(threads);
    Buffer<T> got(3 * kv_heads * m);
    std::fill(got.begin(), got.end(), std::numeric_limits<T>::quiet_NaN());
    const auto part = [&](Index i) { return View<T, 2>(got.data() + i * kv_heads * m, {kv_heads, m}); };
    attention_column_sums<T>(ctx, Q, K, {.sum = part(0), .most = part(1), .mean = part(2)},
                             {.scale = {}, .causal = causal});
    if (threads == 1) {
      first.assign(got.begin(), got.end());
      for (std::size_t j = 0; j < sum.size(); ++j) {
        const auto at = static_cast<Index>(j);
        ASSERT_NEAR(got[at], sum[j], 2e-5 * (1 + sum[j])) << j;
        ASSERT_NEAR(got[kv_heads * m + at], most[j], 2e-5) << j;
        ASSERT_NEAR(got[2 * kv_heads * m + at], sum[j] / std::max(seen[j], 1.0), 2e-5) << j;
      }
    }
    for (Index i = 0; i < got.size(); ++i) ASSERT_EQ(got[i], first[static_cast<std::size_t>(i)]) << threads;
  }
}

TEST(AttentionColumns, OnePassOverTheKeysGivesTheWeightsOfTwo) {
  struct Sum {
    static void add(const void* self, const WeightTile<float>& tile) noexcept {
      float* const to = static_cast<float*>(const_cast<void*>(self)) + tile.kv_head * 5000 + tile.begin;
      for (Index j = 0; j < tile.count; ++j) to[j] += tile.sum[j];
    }
  };
  for (const auto& [n, m] : {std::pair<Index, Index>{1, 5000}, {3, 4500}, {40, 130}, {70, 4200}}) {
    const Index heads = 4, kv_heads = 2, d = 8;
    const auto q = random_buffer<float>(heads * n * d, 1), k = random_buffer<float>(kv_heads * m * d, 2);
    const View<const float, 3> Q(q.data(), {heads, n, d}), K(k.data(), {kv_heads, m, d});
    AttentionArgs<float> args;
    args.Q = Q;
    args.keys = tile_source(K);
    args.kv_heads = kv_heads;
    args.group = 2;
    args.n = n;
    args.d = d;
    args.m = m;
    args.causal = true;
    std::vector<float> lse[2], sum[2], first;
    for (const Index threads : {1, 3}) {
      Context ctx = Context::with_threads(threads);
      for (const std::size_t which : {0u, 1u}) {
        lse[which].assign(static_cast<std::size_t>(heads * n), 0.0f);
        sum[which].assign(static_cast<std::size_t>(kv_heads * 5000), 0.0f);
        const View<float, 2> to(lse[which].data(), {heads, n});
        const WeightVisitor<float> visitor{sum[which].data(), &Sum::add};
        if (which == 0) {
          attention_lse<float>(ctx, args, to);
          visit_weights<float>(ctx, args, to, visitor);
        } else {
          visit_softmax<float>(ctx, args, to, visitor);
        }
      }
      EXPECT_EQ(lse[0], lse[1]) << n << " queries, " << m << " tokens";
      for (std::size_t j = 0; j < sum[0].size(); ++j) ASSERT_NEAR(sum[1][j], sum[0][j], 2e-6f * (1 + sum[0][j])) << j;
      if (threads == 1) first = sum[1];
      EXPECT_EQ(sum[1], first) << "the same bits for any number of threads";
    }
  }
}

TEST(AttentionColumns, SumsAreThoseOfTheSoftmax) {
  for (const bool causal : {false, true}) {
    expect_columns<float>(4, 2, 1, 300, 16, causal);
    expect_columns<float>(6, 2, 1, 5, 9, causal);
    expect_columns<float>(4, 2, 70, 70, 12, causal);
    expect_columns<float>(2, 1, 40, 290, 8, causal);
    expect_columns<float>(1, 1, 20, 7, 8, causal);  // the first queries see nothing
    expect_columns<double>(3, 3, 11, 20, 5, causal);
  }
  expect_columns<float>(2, 2, 0, 5, 4, true);
  expect_columns<float>(2, 2, 1, 0, 4, true);
  Context ctx;
  Buffer<float> x(24);
  const View<const float, 3> Q(x.data(), {2, 3, 4});
  View<float, 2> wrong(x.data(), {1, 3});
  EXPECT_THROW(attention_column_sums<float>(ctx, Q, Q, {.sum = wrong}), shape_error);
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::test
