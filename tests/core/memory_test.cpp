// Buffer and Workspace.
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <tessera/core/buffer.hpp>
#include <tessera/core/workspace.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

bool aligned(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % cache_line == 0; }

TEST(Buffer, IsAlignedAndZero) {
  for (const Index n : {1, 2, 15, 16, 17, 1000}) {
    const Buffer<float> b(n);
    EXPECT_TRUE(aligned(b.data()));
    EXPECT_EQ(b.size(), n);
    EXPECT_EQ(b.bytes(), static_cast<std::size_t>(n) * 4);
    for (const float x : b) EXPECT_EQ(x, 0.0f);
  }
}

TEST(Buffer, EmptyHoldsNothing) {
  const Buffer<int> a, b(0);
  EXPECT_EQ(a.data(), nullptr);
  EXPECT_EQ(b.data(), nullptr);
  EXPECT_EQ(b.begin(), b.end());
  const Buffer<int> c = b;
  EXPECT_EQ(c.size(), 0);
}

TEST(Buffer, CopiesAreDeepAndMovesKeepTheMemory) {
  Buffer<int> a(3);
  a[1] = 7;
  Buffer<int> b = a;
  b[1] = 8;
  EXPECT_EQ(a[1], 7);
  const int* memory = b.data();
  Buffer<int> c = std::move(b);
  EXPECT_EQ(c.data(), memory);
  a = c;
  EXPECT_EQ(a[1], 8);
  EXPECT_NE(a.data(), c.data());
  a = std::move(c);
  EXPECT_EQ(a.data(), memory);
  Buffer<int>& self = a;
  a = self;
  EXPECT_EQ(a[1], 8);
  const std::span<const int> span = a;
  EXPECT_EQ(span.size(), 3u);
}

TEST(Buffer, BadSizesAreNamed) {
  try {
    const Buffer<double> b(-3);
    FAIL();
  } catch (const shape_error& e) {
    EXPECT_NE(std::string(e.what()).find("-3 elements of 8 bytes"), std::string::npos) << e.what();
  }
  EXPECT_THROW((void)Buffer<double>(std::numeric_limits<Index>::max()), shape_error);
  EXPECT_THROW((void)Buffer<double>(std::numeric_limits<Index>::max() / 8 + 1), shape_error);
}

TEST(Workspace, ScopesNestAndGiveBack) {
  Workspace w;
  Workspace::Scope outer(w);
  char* a = outer.take<char>(100);
  char* b = nullptr;
  {
    Workspace::Scope inner(w);
    b = inner.take<char>(10);
    EXPECT_GE(b, a + 100);
  }
  Workspace::Scope again(w);
  EXPECT_EQ(again.take<char>(10), b) << "what the inner scope took is free again";
}

TEST(Workspace, IsAlignedAndDisjoint) {
  Workspace w;
  Workspace::Scope scope(w);
  std::vector<std::pair<char*, Index>> taken;
  for (Index i = 1; i < 200; ++i) {
    const Index n = i * i * 7 % 5000;
    char* p = scope.take<char>(n);
    EXPECT_TRUE(aligned(p));
    std::fill_n(p, n, static_cast<char>(i));
    taken.emplace_back(p, n);
  }
  for (std::size_t i = 0; i < taken.size(); ++i)
    for (Index k = 0; k < taken[i].second; ++k) ASSERT_EQ(taken[i].first[k], static_cast<char>(i + 1));
  EXPECT_TRUE(aligned(scope.take<double>(0)));
}

TEST(Workspace, SteadyStateDoesNotGrow) {
  Workspace w;
  const auto work = [&] {
    Workspace::Scope a(w);
    a.take<float>(30000);
    for (int i = 0; i < 5; ++i) {
      Workspace::Scope b(w);
      b.take<double>(20000);
      b.take<double>(50000);
    }
    a.take<float>(100);
  };
  work();
  const std::size_t first = w.capacity();
  for (int i = 0; i < 100; ++i) work();
  EXPECT_EQ(w.capacity(), first);
  w.release();
  EXPECT_EQ(w.capacity(), 0u);
  work();
}

TEST(Workspace, GrowingKeepsWhatIsInUse) {
  Workspace w;
  Workspace::Scope scope(w);
  int* small = scope.take<int>(10);
  small[9] = 42;
  int* large = scope.take<int>(1 << 20);
  large[0] = 1;
  EXPECT_EQ(small[9], 42);
}

TEST(Workspace, ImpossibleSizesThrow) {
  Workspace w;
  Workspace::Scope scope(w);
  EXPECT_THROW(scope.take<double>(-1), std::bad_alloc);
  EXPECT_THROW(scope.take<double>(std::numeric_limits<Index>::max()), std::bad_alloc);
  EXPECT_THROW(scope.take<char>(std::numeric_limits<Index>::max()), std::bad_alloc);
}

}  // namespace
}  // namespace tessera
