#include <gtest/gtest.h>

#include <cstdio>
#include <limits>
#include <new>
#include <numeric>
#include <type_traits>
#include <utility>

#include "kv/memory.hpp"
#include "kv/support.hpp"
#if defined(__linux__)
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace tessera::test {
namespace TESSERA_TEST_FILE {

std::vector<Index> every(Index step, Index n) {
  std::vector<Index> some;
  for (Index j = 0; j < n; j += step) some.push_back(j);
  return some;
}
void expect_same(const KvCacheBase& cache, const KvCacheBase& expected) {
  ASSERT_EQ(cache.next_position(), expected.next_position());
  for (Index h = 0; h < cache.kv_heads(); ++h) {
    ASSERT_EQ(positions(cache, h), positions(expected, h));
    for (const bool keys : {true, false}) ASSERT_EQ(decoded(cache, h, keys), decoded(expected, h, keys));
  }
}

template <class Pair>
class StorageLaws : public testing::Test {
 protected:
  using C = typename Pair::first_type;
  using Storage = typename Pair::second_type;
  static constexpr Index d = 32;
  Context ctx;
  Tokens K{2, 700, d, 1}, V{2, 700, d, 2};
  KvCache<C, Storage> cache{2, d};
  KvCache<C> expected{2, d};

  void append(KvCacheBase& to, Index begin, Index count) { to.append(ctx, K.part(begin, count), V.part(begin, count)); }
  template <class F>
  void both(const F& f) {
    f(static_cast<KvCacheBase&>(cache));
    f(static_cast<KvCacheBase&>(expected));
  }
};
using Storages = testing::Types<std::pair<F32, Virtual>, std::pair<F16, Virtual>, std::pair<Int8, Virtual>,
                                std::pair<Kivi<2>, Virtual>, std::pair<Stairs, Virtual>, std::pair<F32, Paged>,
                                std::pair<Int8, PagedBy<16>>, std::pair<Kivi<2>, PagedBy<16>>>;
TYPED_TEST_SUITE(StorageLaws, Storages);

TYPED_TEST(StorageLaws, HoldsWhatContiguousHolds) {
  auto& t = *this;
  const auto expect_equal = [&] {
    expect_same(t.cache, t.expected);
    const Tokens Q(4, 3, t.d, 3);
    Tokens out(4, 3, t.d, 0), wanted(4, 3, t.d, 0);
    t.cache.attend(t.ctx, Q.view(), out.view());
    t.expected.attend(t.ctx, Q.view(), wanted.view());
    for (Index i = 0; i < out.buffer.size(); ++i) ASSERT_EQ(out.buffer[i], wanted.buffer[i]);
  };
  t.both([&](KvCacheBase& c) { t.append(c, 0, 300); });
  expect_equal();
  t.both([&](KvCacheBase& c) {
    for (Index i = 300; i < 400; ++i) t.append(c, i, 1);
  });
  expect_equal();
  t.both([&](KvCacheBase& c) {
    c.reserve(5000);
    c.retain(0, every(3, 400));
    c.truncate(350);
    t.append(c, 400, 70);
  });
  expect_equal();
  t.both([&](KvCacheBase& c) {
    c.retain(1, {});
    t.append(c, 470, 5);
    c.clear();
    t.append(c, 475, 200);
  });
  expect_equal();
}

TYPED_TEST(StorageLaws, ForksAreIndependentInAnyOrder) {
  auto& t = *this;
  t.both([&](KvCacheBase& c) { t.append(c, 0, 300); });
  const auto child = t.cache.fork(), as_child = t.expected.fork();
  expect_same(*child, *as_child);
  t.append(*child, 300, 90);
  t.append(*as_child, 300, 90);
  const auto grandchild = child->fork(), as_grandchild = as_child->fork();
  t.both([&](KvCacheBase& c) {  // other tokens, where the child put its own
    t.append(c, 500, 150);
    c.retain(0, every(2, 450));
  });
  expect_same(*child, *as_child);
  for (KvCacheBase* c : {child.get(), as_child.get()}) {
    c->truncate(200);
    t.append(*c, 650, 40);
  }
  expect_same(t.cache, t.expected);
  expect_same(*child, *as_child);
  expect_same(*grandchild, *as_grandchild);
  const auto again = t.cache.fork(), as_again = t.expected.fork();
  t.both([&](KvCacheBase& c) { c.clear(); });
  EXPECT_EQ(t.cache.bytes(), 0u);
  for (KvCacheBase* c : {grandchild.get(), as_grandchild.get()}) {
    c->retain(0, every(7, 390));
    c->retain(1, every(390, 390));
    t.append(*c, 0, 33);
  }
  expect_same(*grandchild, *as_grandchild);
  expect_same(*child, *as_child);
  expect_same(*again, *as_again);
  t.both([&](KvCacheBase& c) { t.append(c, 600, 10); });
  expect_same(t.cache, t.expected);
}

#if defined(__linux__)
std::size_t whole_pages(Index bytes) { return (static_cast<std::size_t>(bytes) + page() - 1) / page() * page(); }
/// Bytes of [data, data + size) that are in memory.
std::size_t resident(const void* data, std::size_t size) {
  std::vector<unsigned char> there(size / page());
  EXPECT_EQ(mincore(const_cast<void*>(data), size, there.data()), 0);  // NOLINT: nothing is written
  return page() * static_cast<std::size_t>(std::accumulate(
                      there.begin(), there.end(), 0, [](int sum, unsigned char flags) { return sum + (flags & 1); }));
}
TEST(Virtual, PagesComeWithContentAndGoWithIt) {
  constexpr std::size_t most = std::size_t{64} << 20;
  Virtual::Array<float> array;
  array.reserve(Index{64} << 18);
  EXPECT_EQ(array.bytes(), 0u);
  const auto fill_to = [&](Index size) {
    const Index before = array.size();
    array.resize(size);
    for (Index i = before; i < size; i += i < 2000 ? 1 : 100) array[i] = static_cast<float>(i % 1000);
    ASSERT_EQ(array.bytes(), whole_pages(4 * size));
    ASSERT_EQ(resident(array.data(), most), array.bytes());
  };
  for (const Index size : {1, 1024, 1025, 100000, 100100, 3000000, 3000100, 16777216}) fill_to(size);
  for (const Index size : {16777215, 9000000, 4000000, 1000}) {
    array.resize(size);
    ASSERT_EQ(array.bytes(), whole_pages(4 * size));
    ASSERT_EQ(resident(array.data(), most), array.bytes());
  }
  const float* const begin = array.data();
  fill_to(2000);
  EXPECT_EQ(array.data(), begin);
  for (Index i = 0; i < 2000; ++i) ASSERT_EQ(array[i], static_cast<float>(i % 1000));
  array.resize(0);
  EXPECT_EQ(resident(begin, most), 0u);
  array.fit();
  EXPECT_EQ(array.bytes(), 0u);
}

TEST(Virtual, MovesPagesWithoutCopyingWhenTheRangeIsFull) {
  Virtual::Array<float> array;  // 16 MiB are reserved at first, then 128
  Index size = 0;
  const Index chunk = 700000;
  std::vector<const float*> bases;
  for (; size < Index{36} << 18; size += chunk) {
    array.resize(size + chunk);
    for (Index i = size; i < size + chunk; i += 100) array[i] = static_cast<float>(i % 4099);
    if (bases.empty() || bases.back() != array.data()) bases.push_back(array.data());
  }
  EXPECT_LE(bases.size(), 2u);
  for (Index i = 0; i < size; i += 100) ASSERT_EQ(array[i], static_cast<float>(i % 4099)) << i;
  const Virtual::Fork sharing;  // the same of pages that are shared
  Virtual::Array<float> fork = array;
  for (Virtual::Array<float>* one : {&fork, &array}) {
    one->reserve(Index{200} << 18);
    one->resize(size + 10);
    one->data()[0] = one->data()[size + 9] = one == &fork ? -1.0f : -2.0f;
    one->reserve(Index{300} << 18);
    for (Index i = 100; i < size; i += 100) ASSERT_EQ(one->data()[i], static_cast<float>(i % 4099)) << i;
  }
  EXPECT_EQ(fork[0], -1.0f);
  EXPECT_EQ(fork[size + 9], -1.0f);
  EXPECT_EQ(array[0], -2.0f);
}

TEST(Virtual, WhatCannotBeHadIsAnErrorAndChangesNothing) {
  Virtual::Array<float> array;
  array.resize(1000);
  array[999] = 3;
  constexpr Index most = std::numeric_limits<Index>::max();
  EXPECT_THROW(array.resize(most), shape_error);
  EXPECT_THROW(array.resize(-1), shape_error);
  EXPECT_THROW(array.resize(most / 4), std::bad_alloc);
  EXPECT_THROW(array.reserve(most / 8), std::bad_alloc);
  EXPECT_EQ(array.size(), 1000);
  EXPECT_EQ(array[999], 3.0f);
  array.resize(1001);
  KvCache<F32, Virtual> cache(1, 64);
  EXPECT_THROW(cache.reserve(Index{1} << 50), shape_error);
  EXPECT_EQ(cache.bytes(), 0u);
}

TEST(Virtual, ResidentMemoryFollowsTokensAndForksShareIt) {
  Context ctx;
  const Index n = 4096, d = 128;  // 4 heads: 16 MiB of f32
  const Tokens K(4, n, d, 5);
  const Index files = open_files();
  KvCache<F32, Virtual> cache(4, d);
  cache.reserve(Index{1} << 22);
  const double before = resident_mib();
  const auto held = [&] { return resident_mib() - before; };
  for (Index t = 0; t < n; t += 1024) {
    cache.append(ctx, K.part(t, 1024), K.part(t, 1024));
    EXPECT_NEAR(held(), static_cast<double>(t + 1024) / 256, 1.5) << t;
  }
  EXPECT_EQ(cache.bytes(), std::size_t{16} << 20);
  std::vector<std::unique_ptr<KvCacheBase>> forks;
  for (int i = 0; i < 5; ++i) forks.push_back(cache.fork());
  const auto read = [&](const KvCacheBase& one) {  // a file's pages count when they are mapped, which reading does
    Index stride = 0, wrong = 0;
    for (Index h = 0; h < 4; ++h)
      for (Index t = 0; t < n; t += 8)
        for (const float* row :
             {one.key_tile(h, t, 1, nullptr, stride, nullptr), one.value_tile(h, t, 1, nullptr, stride, nullptr)})
          wrong += row[7] == K.view()(h, t, 7) ? 0 : 1;
    EXPECT_EQ(wrong, 0);
  };
  read(cache);
  for (const auto& fork : forks) read(*fork);
  EXPECT_NEAR(held(), 16, 2);
  for (const auto& fork : forks) {
    fork->append(ctx, K.part(0, 256), K.part(0, 256));
    fork->truncate(n + 128);
  }
  EXPECT_NEAR(held(), 16 + 5 * 0.5, 2);
  cache.clear();
  read(*forks[4]);
  EXPECT_NEAR(held(), 16 + 5 * 0.5, 2);
  forks.resize(1);
  for (Index h = 0; h < 4; ++h) forks[0]->retain(h, every(4, n));  // no one shares now: the frozen pages go
  EXPECT_EQ(open_files(), files);
  EXPECT_NEAR(held(), 4, 2);
  EXPECT_NEAR(static_cast<double>(forks[0]->bytes()) / 0x1p20, 4, 0.5);
  forks.clear();
  EXPECT_NEAR(held(), 0, 2);
}

TEST(Virtual, FrozenPagesOfDroppedArraysAreGivenBack) {
  const auto in_files = [] { return static_cast<double>(frozen_bytes()) / 0x1p20; };
  Context ctx;
  const Index n = 1024, d = 128;  // half a MiB of f32 an array
  const Tokens K(4, n, d, 6);
  const double before = in_files();
  KvCache<F32, Virtual> cache(4, d);
  cache.append(ctx, K.view(), K.view());
  const auto fork = cache.fork();
  EXPECT_NEAR(in_files() - before, 4, 0.1);
  cache.clear();
  EXPECT_NEAR(in_files() - before, 4, 0.1);
  for (Index h = 0; h < 3; ++h) {
    fork->retain(h, {});
    EXPECT_NEAR(in_files() - before, static_cast<double>(3 - h), 0.1) << h;
  }
  KvCache<F32, Virtual> same(4, d);
  same.append(ctx, K.view(), K.view());
  EXPECT_EQ(decoded(*fork, 3, true), decoded(same, 3, true));
}

#endif

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::test
