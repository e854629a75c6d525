/// ALISA: a sparse window, and where the tokens of a long decode are held.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <vector>

#include "kv/scorers.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

using namespace scorers;  // NOLINT(google-build-using-namespace)

TEST(AttentionScorers, SparseWindowBeatsStridesAndRecency) {
  Context ctx;
  const Index n = 200;
  Prompt prompt(n, 2, 3);  // every tenth token is heavy
  auto& cache = prompt.serve(ctx, n, window_sums(16, 4));
  const KvProbe probe{.queries = prompt.Q.part(n - 10, 10)};
  KvCache<> dense = cache, sparse = cache, local = cache, strided = cache;
  EXPECT_EQ(*dense.compress(ctx, sparse_window(n), probe).output_error, 0);
  const double error = *sparse.compress(ctx, sparse_window(40), probe).output_error;
  const double of_local = *local.compress(ctx, window({.sinks = 0, .recent = 40}), probe).output_error;
  std::vector<Index> kept;
  for (Index t = 0; t < n; t += 5) kept.push_back(t);
  strided.retain(0, kept);
  const double of_stride = *compare(ctx, cache, strided, probe).output_error;
  std::printf("[ measured ] errors at 80%% sparsity: %.3f, local %.3f, strided %.3f\n", error, of_local, of_stride);
  EXPECT_LT(error, of_local);
  EXPECT_LT(error, of_stride);
  EXPECT_EQ(sparse.size(0), 40);
  EXPECT_EQ(sparse.bytes(), 40u * (2 * 16 + 1 + 4) * 4) << "keys, values, a position and four numbers tracked";

  KvCache<Int8> coded(1, 16);  // the paper's: a number is within half a step of its row, 1/254 of the largest
  coded.track(window_sums(16, 4));
  coded.append(ctx, prompt.K.view(), prompt.V.view());
  coded.attend(ctx, prompt.Q.view(), prompt.out.view());
  const double of_codes = *compare(ctx, cache, coded, probe).output_error;
  coded.compress(ctx, sparse_window(40));
  EXPECT_EQ(positions(coded, 0), positions(sparse, 0));
  EXPECT_EQ(coded.bytes(), 40u * (2 * (16 + 4) + (1 + 4) * 4));
  const double together = *compare(ctx, cache, coded, probe).output_error;
  std::printf("[ measured ] int8 %.4f, of 40 tokens %.3f\n", of_codes, together);
  EXPECT_LT(of_codes, 0.035);  // a heavy key holds a 12: its step is 0.09
  EXPECT_LT(together, error + 0.01);
}

TEST(AttentionScorers, ScheduleIsTheCheapestOfAll) {
  for (const double flops : {0.0, 100.0, 3000.0, 1e9})
    for (const Index slow : {20, 45, 1000}) {
      const CacheCosts costs{.prompt = 40,
                             .steps = 60,
                             .fast_tokens = 50,
                             .slow_tokens = slow,
                             .caching_ratio = 0.2,
                             .token_bytes = 1000,
                             .bytes_per_second = 1e6,
                             .token_flops = flops,
                             .flops_per_second = 1e6};
      double best = std::numeric_limits<double>::infinity();
      for (Index from = 0; from <= 60; ++from)
        for (int i = 0; i <= 8; ++i) {
          double seconds = 0;
          for (Index t = 0; t < 60; ++t) seconds += costs.step(t, t < from ? 0 : i / 8.0);
          best = std::min(best, seconds);
        }
      const auto found = best_schedule(costs, 8);
      EXPECT_NEAR(found.seconds, best, 1e-12 * (1 + best)) << flops << ' ' << slow;
      EXPECT_TRUE(found.dropped == 0 || flops != 1e9 || slow != 1000);
      EXPECT_TRUE(found.dropped == 1 || flops != 0);
      EXPECT_TRUE(found.dropped > 0 || slow != 20) << "slow memory is full";
    }
  EXPECT_EQ(best_schedule({}).seconds, 0);
  EXPECT_THROW(best_schedule({.steps = -1}), unsupported_error);
  EXPECT_THROW(best_schedule({.prompt = -2}), unsupported_error);
  EXPECT_THROW(best_schedule({.caching_ratio = std::nan("")}), unsupported_error);
  EXPECT_THROW(best_schedule({.bytes_per_second = 0}), unsupported_error);
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::test
