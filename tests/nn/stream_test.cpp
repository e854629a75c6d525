// The STREAM operations through `map`: no temporaries, the same bits whoever runs them.
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>

#include <support/oracle.hpp>
#include <tessera/kernels/map/map.hpp>

namespace {
std::atomic<long> allocations{0};

void* counted(std::size_t bytes, std::size_t alignment) {
  ++allocations;
  const std::size_t size = (bytes + alignment - 1) / alignment * alignment;
  if (void* memory = std::aligned_alloc(alignment, size == 0 ? alignment : size)) return memory;
  throw std::bad_alloc();
}
}  // namespace

// Not inlined, or g++ takes them for mismatched.
[[gnu::noinline]] void* operator new(std::size_t bytes) { return counted(bytes, alignof(std::max_align_t)); }
[[gnu::noinline]] void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return counted(bytes, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace tessera {
namespace TESSERA_TEST_FILE {

struct Copy {
  template <class V>
  TESSERA_INLINE void operator()(V& a, const V& b, const V&) const {
    a = b;
  }
};
struct Scale {
  template <class V>
  TESSERA_INLINE void operator()(V& a, const V& b, const V&) const {
    a = V(3.0f) * b;
  }
};
struct Add {
  template <class V>
  TESSERA_INLINE void operator()(V& a, const V& b, const V& c) const {
    a = b + c;
  }
};
struct Triad {
  template <class V>
  TESSERA_INLINE void operator()(V& a, const V& b, const V& c) const {
    a = b + V(3.0f) * c;
  }
};

TEST(Stream, AllocatesNothingAndGivesTheSameBits) {
  const Index n = 200001;
  const auto b = test::random_buffer<float>(n, 1), c = test::random_buffer<float>(n, 2);
  const VectorView<const float> B(b.data(), n), C(c.data(), n);
  const auto check = [&](const auto& operation, float bound, auto&& expected) {
    Buffer<float> first(n), a(n);
    for (const Index threads : {1, 2}) {
      Context ctx = Context::with_threads(threads);
      Buffer<float>& to = threads == 1 ? first : a;
      const VectorView<float> A(to.data(), n);
      map(ctx, operation, A, B, C);
      const long before = allocations;
      map(ctx, operation, A, B, C);
      if (threads == 1) {
        EXPECT_EQ(allocations, before);
        EXPECT_EQ(ctx.workspace.capacity(), 0u);
      }
    }
    EXPECT_EQ(0, std::memcmp(first.data(), a.data(), a.bytes()));
    for (Index i = 0; i < n; i += 997)
      EXPECT_NEAR(first[i], expected(b[i], c[i]), bound * (std::abs(b[i]) + 3 * std::abs(c[i])));
  };
  check(Copy{}, 0, [](float x, float) { return x; });
  check(Scale{}, 0, [](float x, float) { return 3 * x; });
  check(Add{}, 0, [](float x, float y) { return x + y; });
  check(Triad{}, 2e-7f, [](float x, float y) { return x + 3 * y; });  // fused or not
}

}  // namespace
}  // namespace tessera
