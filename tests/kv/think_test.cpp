#include <gtest/gtest.h>

#include <algorithm>
#include <tessera/kv/codecs/think.hpp>

#include "kv/press.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

using namespace press;  // NOLINT(google-build-using-namespace)

TEST(Think, DropsTheKeyChannelsThatQueriesHardlyUse) {
  Held held;
  for (Index t = 0; t < n; ++t)
    for (Index c = 0; c < d; c += 2) held.K.view()(1, t, c) *= 0.01f;
  const auto channels = think_channels(held.Q.part(n - 8, 8), held.K.view(), d / 2);
  EXPECT_EQ(channels[1], (std::vector<Index>{1, 3, 5, 7, 9, 11, 13, 15}));
  const auto attended = [&](const auto& cache) {
    Tokens out(heads, 8, d, 0);
    cache.attend(held.ctx, held.Q.part(n - 8, 8), out.view());
    return out.buffer;
  };
  const auto thin = [&](Index kept, Index recent) {
    Think<F32> codec;
    codec.channels = think_channels(held.Q.part(n - 8, 8), held.K.view(), kept);
    codec.window = recent;
    codec.group = 1;
    KvCache<Think<F32>> cache(kv_heads, d, codec);
    cache.append(held.ctx, held.K.view(), held.V.view());
    return cache;
  };
  held.cache.clear();
  held.cache.append(held.ctx, held.K.view(), held.V.view());
  const auto exact = attended(held.cache), all = attended(thin(d, 0));
  for (Index i = 0; i < exact.size(); ++i) EXPECT_NEAR(all[i], exact[i], 1e-6) << "of all channels: full attention";
  const auto half = thin(d / 2, 8);
  EXPECT_EQ(half.bytes(), 4u * kv_heads * ((n - 8) * (d / 2) + 9 * d + n * d)) << "a window of 8, and room for one";
  Tokens zeroed = held.K;
  for (Index h = 0; h < kv_heads; ++h)
    for (Index t = 0; t < n - 8; ++t)
      for (Index c = 0; c < d; ++c) {
        const auto& own = channels[static_cast<std::size_t>(h)];
        if (!std::binary_search(own.begin(), own.end(), c)) zeroed.view()(h, t, c) = 0;
      }
  KvCache<> plain(kv_heads, d);
  plain.append(held.ctx, zeroed.view(), held.V.view());
  const auto got = attended(half), wanted = attended(plain);
  for (Index i = 0; i < exact.size(); ++i) EXPECT_NEAR(got[i], wanted[i], 1e-5) << "as if the others were 0";
  EXPECT_THROW(think_channels(held.Q.view(), held.K.view(), 0), unsupported_error);
  EXPECT_THROW(think_channels(held.Q.view(), held.K.view().slice(2, 0, 8), 4), shape_error);
  Think<F16> twice;
  twice.channels = {{1, 1}};
  EXPECT_THROW((KvCache<Think<F16>>(1, d, twice)), unsupported_error);
  twice.channels = {{}};
  EXPECT_THROW((KvCache<Think<F16>>(1, d, twice)), unsupported_error);
  twice.channels = {{d}};
  EXPECT_THROW((KvCache<Think<F16>>(1, d, twice)), shape_error);
  twice.channels = {{1}, {2}, {3}};
  EXPECT_THROW((KvCache<Think<F16>>(2, d, twice)), shape_error);
  EXPECT_THROW((KvCache<Rotated<Think<F16>>>(2, d, {.codec = twice})), shape_error);
  EXPECT_NO_THROW((KvCache<Think<F16>>(3, d, twice)));
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::test
