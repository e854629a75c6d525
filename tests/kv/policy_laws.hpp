/// What the laws of policies over every store share.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "kv/stores.hpp"

namespace tessera::test {

class PolicyLaws : public testing::TestWithParam<Store> {
 protected:
  Context ctx;
  AnyKvCache filled(Index heads, Index n, Index d = 32) {
    AnyKvCache cache = GetParam().make(heads, d);
    cache.append(ctx, Tokens(heads, n, d, 1).view(), Tokens(heads, n, d, 2).view());
    return cache;
  }
};

/// Of a cache that tracks AttentionSums.
inline void expect_sound(const KvCacheBase& cache) {
  for (Index h = 0; h < cache.kv_heads(); ++h) {
    const auto held = positions(cache, h);
    ASSERT_TRUE(std::is_sorted(held.begin(), held.end(), std::less_equal<>()));
    ASSERT_TRUE(held.empty() || (held.front() >= 0 && held.back() < cache.next_position()));
    ASSERT_EQ(cache.tracked<AttentionSums>(h).size(), cache.size(h));
    for (const bool keys : {true, false})
      for (const float x : decoded(cache, h, keys)) ASSERT_TRUE(std::isfinite(x));
    for (Index j = 0; j < cache.size(h); ++j) ASSERT_TRUE(std::isfinite(cache.count_bias(h, j)));
  }
}

}  // namespace tessera::test
