/// Requests that are decoded together.
#include <gtest/gtest.h>

#include <algorithm>
#include <initializer_list>
#include <tessera/kv/batch.hpp>
#include <vector>

#include "kv/support.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

std::vector<AnyKvCache> requests(Context& ctx, std::initializer_list<Index> lengths) {
  std::vector<AnyKvCache> all;
  for (const Index n : lengths) {
    AnyKvCache& cache =
        all.size() % 2 == 0 ? all.emplace_back(KvCache<F32, Virtual>(2, 24)) : all.emplace_back(KvCache<F16>(2, 24));
    const Tokens K(2, n, 24, static_cast<std::uint64_t>(n));
    cache.append(ctx, K.view(), K.view());
  }
  return all;
}
std::vector<Index> lengths_of(const std::vector<AnyKvCache>& caches) {
  std::vector<Index> lengths;
  for (const AnyKvCache& cache : caches) lengths.push_back(cache.size(0));
  return lengths;
}

TEST(Batch, DecodesAsEachRequestByItself) {
  Context one = Context::with_threads(1), two = Context::with_threads(2);
  const auto wanted = [&](Index b, std::vector<AnyKvCache>& caches, const Tokens& Q, const Tokens& K, Tokens& out) {
    Tokens q(6, 1, 24, 0), k(2, 1, 24, 0), result(6, 1, 24, 0);
    std::copy_n(&Q.view()(b, 0, 0), 6 * 24, q.buffer.data());
    std::copy_n(&K.view()(b, 0, 0), 2 * 24, k.buffer.data());
    caches[static_cast<std::size_t>(b)].append(one, k.view(), k.view());
    caches[static_cast<std::size_t>(b)].attend(one, q.view(), result.view());
    std::copy_n(result.buffer.data(), 6 * 24, &out.view()(b, 0, 0));
  };
  auto apart = requests(one, {0, 1, 63, 64, 500}), together = requests(two, {0, 1, 63, 64, 500});
  for (int step = 0; step < 3; ++step) {
    const Tokens Q(5, 6, 24, 8), K(5, 2, 24, 9);
    Tokens out(5, 6, 24, 0), expected(5, 6, 24, 0);
    ragged_batch_decode(two, Q.view(), K.view(), K.view(), together, out.view());
    for (Index b = 0; b < 5; ++b) wanted(b, apart, Q, K, expected);
    for (Index i = 0; i < out.buffer.size(); ++i) ASSERT_EQ(out.buffer[i], expected.buffer[i]);
  }
  EXPECT_EQ(lengths_of(together), (std::vector<Index>{3, 4, 66, 67, 503}));
  const Tokens Q(5, 6, 24, 8), K(5, 2, 24, 9), few(4, 2, 24, 9), narrow(5, 1, 24, 9);
  Tokens out(5, 6, 24, 0);
  EXPECT_THROW(ragged_batch_decode(two, Q.view(), few.view(), few.view(), together, out.view()), shape_error);
  EXPECT_THROW(ragged_batch_decode(two, Q.view(), narrow.view(), narrow.view(), together, out.view()), shape_error);
  EXPECT_THROW(ragged_batch_decode(two, Q.view(), K.view(), K.view(), together, Tokens(5, 5, 24, 0).view()),
               shape_error);
  EXPECT_EQ(lengths_of(together), (std::vector<Index>{3, 4, 66, 67, 503}));
}

TEST(Batch, ReorderFillsHolesFromTheEnd) {
  Context ctx;
  const auto after = [&](std::vector<Index> finished, std::vector<SlotMove> moves, std::vector<Index> left) {
    auto caches = requests(ctx, {10, 11, 12, 13, 14, 15});
    EXPECT_EQ(reorder(caches, finished), moves);
    EXPECT_EQ(lengths_of(caches), left);
  };
  after({}, {}, {10, 11, 12, 13, 14, 15});
  after({5, 4}, {}, {10, 11, 12, 13});
  after({0, 5}, {{4, 0}}, {14, 11, 12, 13});
  after({1, 2, 2}, {{5, 1}, {4, 2}}, {10, 15, 14, 13});
  after({0, 1, 2, 4}, {{5, 0}, {3, 1}}, {15, 13});
  after({0, 1, 2, 3, 4, 5}, {}, {});
  auto caches = requests(ctx, {10, 11});
  EXPECT_THROW(reorder(caches, std::vector<Index>{2}), shape_error);
  EXPECT_THROW(gather(caches, std::vector<Index>{0, -1}), shape_error);
  const auto first = decoded(caches[0].base(), 1, true), second = decoded(caches[1].base(), 1, true);
  gather(caches, std::vector<Index>{1, 0, 0, 1, 0});
  EXPECT_EQ(lengths_of(caches), (std::vector<Index>{11, 10, 10, 11, 10}));
  caches[2].clear();
  caches[0].truncate(3);
  EXPECT_EQ(decoded(caches[1].base(), 1, true), first);
  EXPECT_EQ(decoded(caches[3].base(), 1, true), second);
  EXPECT_EQ(decoded(caches[4].base(), 1, true), first);
  gather(caches, std::vector<Index>{});
  EXPECT_TRUE(caches.empty());
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::test
