/// Policies where memory is counted, and where there is none.
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <new>
#include <numeric>
#include <thread>
#include <vector>

#include "kv/memory.hpp"
#include "kv/policy_laws.hpp"

// Every aligned allocation of this program, which all buffers are, is counted: what a cache says it holds is compared
// with what it really took. Sizes stand in front of the block. When `allocations_left` is 0 there is no memory.
namespace {
std::atomic<long> live_bytes{0}, allocations_left{-1};
}
void* operator new(std::size_t size, std::align_val_t align) {
  const auto gap = static_cast<std::size_t>(align);
  if (allocations_left == 0) throw std::bad_alloc();
  if (allocations_left > 0) --allocations_left;
  void* const block = std::aligned_alloc(gap, gap + (size + gap - 1) / gap * gap);
  if (block == nullptr) throw std::bad_alloc();
  *static_cast<std::size_t*>(block) = size;
  live_bytes += static_cast<long>(size);
  return static_cast<char*>(block) + gap;
}
void operator delete(void* memory, std::align_val_t align) noexcept {
  if (memory == nullptr) return;
  void* const block = static_cast<char*>(memory) - static_cast<std::size_t>(align);
  live_bytes -= static_cast<long>(*static_cast<std::size_t*>(block));
  std::free(block);
}
void operator delete(void* memory, std::size_t, std::align_val_t align) noexcept { ::operator delete(memory, align); }

namespace tessera::test {
namespace TESSERA_TEST_FILE {

TEST_P(PolicyLaws, EvictionReturnsMemory) {
  AnyKvCache cache = GetParam().make(2, 64);
  default_context().workspace.release();
  const long before = live_bytes;  // maps of channels are the model's
  const auto expect_held = [&] {
    ctx.workspace.release();
    default_context().workspace.release();
    if (GetParam().contiguous) {
      EXPECT_EQ(live_bytes - before, static_cast<long>(cache.bytes())) << "bytes() is what is held";
    }
  };
  {
    const Tokens K(2, 1024, 64, 1), V(2, 1024, 64, 2);
    cache.append(ctx, K.view(), V.view());
  }
  expect_held();
  const auto report = cache.compress(ctx, score(KeyNorm{}) | keep(0.25) | evict());
  expect_held();
  EXPECT_EQ(report.bytes_after, cache.bytes());
  EXPECT_EQ(report.tokens_after, 512);
  EXPECT_LT(report.bytes_after, report.bytes_before * (GetParam().contiguous ? 45 : 85) / 100);
  const auto merged = cache.compress(ctx, score(KeyNorm{}) | keep(0.5) | merge(MergeSets{.threshold = -1}));
  expect_held();
  if (!GetParam().window) {
    EXPECT_LE(merged.bytes_after, merged.bytes_before + (GetParam().contiguous ? 0 : 4 * page()));
  }
  EXPECT_TRUE(cache.base().counted(0));
  cache.clear();
  expect_held();
  EXPECT_EQ(cache.bytes(), 0u);
}

TEST_P(PolicyLaws, WithoutMemoryHeadsStayWhole) {
  const Index n = 130;
  const Tokens K(2, n, 32, 9), V(2, n, 32, 10);
  std::vector<Index> places(40);
  std::iota(places.begin(), places.end(), Index{7});
  const std::vector<float> counts(40, 2);
  for (int what = 0; what < 3; ++what) {
    bool failed = true;
    for (long after = 0; failed && after < 10000; after += 1 + after / 8) {
      AnyKvCache cache = GetParam().make(2, 32);
      cache.track(AttentionSums{});
      cache.append(ctx, K.part(0, 100), V.part(0, 100));
      default_context().workspace.release();
      allocations_left = after;
      try {
        if (what == 0) cache.append(ctx, K.part(0, n), V.part(0, n));
        if (what == 1) cache.base().retain(1, places);
        if (what == 2)
          cache.base().rewrite(1, K.view()[0].slice(0, 0, 40), V.view()[0].slice(0, 0, 40), places, counts);
        failed = false;
      } catch (const std::bad_alloc&) {
      }
      allocations_left = -1;
      ASSERT_EQ(cache.size(0), what == 0 && !failed ? 100 + n : 100);
      ASSERT_TRUE(cache.size(1) == (what == 0 ? cache.size(0) : 40) || (what != 0 && failed)) << cache.size(1);
      expect_sound(cache.base());
      const Index held = cache.size(1);
      cache.append(ctx, K.part(0, 70), V.part(0, 70));
      ASSERT_EQ(cache.size(1), held + 70);
      expect_sound(cache.base());
    }
    EXPECT_FALSE(failed);
  }
}

TEST_P(PolicyLaws, DecodingWithoutMemoryIsRightOrNotANumber) {  // attention decodes where nothing may throw
  const auto cache = filled(1, 300);
  const auto right = decoded(cache.base(), 0, true);
  std::vector<float> got(right.size());
  const auto unpack = KvCacheBase::unpack_kernel(ctx);
  std::thread([&] {  // with a workspace of its own, empty
    default_context();
    allocations_left = 0;
    for (Index t = 0; t < 300; t += 50) cache.base().copy_rows(KvPart::keys, 0, t, 50, got.data() + t * 32, unpack);
    allocations_left = -1;
  })
      .join();
  for (std::size_t i = 0; i < got.size(); ++i)
    if (!std::isnan(got[i])) {
      ASSERT_NEAR(got[i], right[i], 1e-5) << i;
    }
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::test
