// Maps in every lane: one to eight views, tails, strides, in place, captured values, threads.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <string>
#include <type_traits>
#include <vector>

#include <support/oracle.hpp>
#include <tessera/kernels/map/map.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

using namespace tessera::simd;
using test::random_buffer;

template <class F>
void for_each_kernel(F&& f) {
  for (const auto& [name, isa] : {std::pair{"map:avx512", Isa::avx512}, std::pair{"map:avx2", Isa::avx2},
                                  std::pair{"map:xsimd", Isa::portable}, std::pair{"map:ref", Isa::portable}}) {
    if (!active_isa().has(isa)) continue;
    Context ctx;
    ctx.force(name);
    f(ctx, std::string(name));
  }
}

template <class T>
class Map : public ::testing::Test {};
using Reals = ::testing::Types<float, double>;
TYPED_TEST_SUITE(Map, Reals);

TYPED_TEST(Map, EveryLengthAlignmentAndStride) {
  using T = TypeParam;
  const Buffer<T> x = random_buffer<T>(500, 1);
  const auto f = [](auto& y, const auto& a) { y = y * T(2) + a; };  // exact in the order given, up to contraction
  for_each_kernel([&](Context& ctx, const std::string& name) {
    for (const Index n : {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 100})
      for (const Index step : {1, 2, -3, 0})
        for (const Index out : {1, 2, -1})
          for (const Index offset : {0, 1}) {
            Buffer<T> y(500);
            for (Index i = 0; i < 500; ++i) y[i] = T(1000 + i);
            const VectorView<const T> X(x.data() + (step < 0 ? 400 : offset), {n}, {step});
            const VectorView<T> Y(y.data() + 250 + offset, {n}, {out});
            map(ctx, f, Y, X);
            Buffer<T> expected(500);
            for (Index i = 0; i < 500; ++i) expected[i] = T(1000 + i);
            for (Index i = 0; i < n; ++i) {
              T& e = expected[250 + offset + i * out];
              e = e * T(2) + X[i];
            }
            for (Index i = 0; i < 500; ++i) ASSERT_EQ(y[i], expected[i]) << name << " n=" << n << " step=" << step;
          }
  });
}

TYPED_TEST(Map, OneToEightViews) {
  using T = TypeParam;
  for_each_kernel([&](Context& ctx, const std::string& name) {
    const Index n = 37;
    std::vector<Buffer<T>> b;
    for (int k = 0; k < 8; ++k) b.push_back(random_buffer<T>(n, static_cast<std::uint64_t>(k)));
    const auto out = [&](std::size_t k) { return VectorView<T>(b[k].data(), n); };
    const auto in = [&](std::size_t k) { return VectorView<const T>(b[k].data(), n); };
    const auto before = b;
    map(
        ctx, [](auto& y) { y = -y; }, out(0));
    map(
        ctx,
        [](auto& y, auto& z, const auto& c, const auto& d, const auto& e, const auto& f, const auto& g, const auto& h) {
          y = max(min(c, d), e);
          z = select(f < g, h, abs(f));
        },
        out(0), out(1), in(2), in(3), in(4), in(5), in(6), in(7));
    for (Index i = 0; i < n; ++i) {
      ASSERT_EQ(b[0][i], std::max(std::min(before[2][i], before[3][i]), before[4][i])) << name;
      ASSERT_EQ(b[1][i], before[5][i] < before[6][i] ? before[7][i] : std::abs(before[5][i])) << name;
      ASSERT_EQ(b[7][i], before[7][i]);
    }
  });
}

TYPED_TEST(Map, EveryOperationOfAVector) {
  using T = TypeParam;
  const Buffer<T> a = random_buffer<T>(51, 5), b = random_buffer<T>(51, 6);
  for_each_kernel([&](Context& ctx, const std::string& name) {
    Buffer<T> y(51), z(51), w(51);
    const VectorView<T> Y(y.data(), 51), Z(z.data(), 51), W(w.data(), 51);
    const VectorView<const T> A(a.data(), 51), B(b.data(), 51);
    map(
        ctx,
        [](auto& p, auto& q, auto& r, const auto& s, const auto& t) {
          using V = std::remove_cvref_t<decltype(s)>;
          p = V(T(3));
          p += s;
          p -= t;
          p *= s;
          p /= V(T(4));
          q = copysign(sqrt(abs(s)), t);
          const auto mask = ((s < t) & (s >= V(T(-1)))) | !(t <= V(T(1)));
          r = select(mask, nearest(s * T(4)), select(s == s, T(1) - t, T(0)));
          r = select(s != s, V(T(9)), r);
          r = select(t > V(T(2)), -r, r);
        },
        Y, Z, W, A, B);
    for (Index i = 0; i < 51; ++i) {
      const T s = a[i], t = b[i];
      ASSERT_NEAR(double(y[i]), double((T(3) + s - t) * s / T(4)), 1e-6) << name;
      ASSERT_EQ(z[i], std::copysign(std::sqrt(std::abs(s)), t)) << name;
      const bool mask = (s < t && s >= T(-1)) || !(t <= T(1));
      const T r = mask ? std::nearbyint(s * T(4)) : T(1) - t;
      ASSERT_EQ(w[i], t > T(2) ? -r : r) << name;
    }
  });
}

TYPED_TEST(Map, CapturesAndFunctions) {
  using T = TypeParam;
  const Buffer<T> x = random_buffer<T>(1000, 7);
  const T k = T(0.25);
  for_each_kernel([&](Context& ctx, const std::string& name) {
    Buffer<T> y(1000);
    map(
        ctx, [&k](auto& p, const auto& q) { p = q * sigmoid(q) + fma(q, k, exp(-q * q)) + tanh(q) * erf(q); },
        VectorView<T>(y.data(), 1000), VectorView<const T>(x.data(), 1000));
    for (Index i = 0; i < 1000; ++i) {
      const long double q = static_cast<long double>(x[i]);
      const long double e =
          q / (1 + std::exp(-q)) + q * static_cast<long double>(k) + std::exp(-q * q) + std::tanh(q) * std::erf(q);
      ASSERT_NEAR(double(y[i]), double(e), test::gamma<T>(20) * (4 + double(std::abs(q)))) << name << " at " << q;
    }
  });
}

TYPED_TEST(Map, SameElementsTwice) {
  using T = TypeParam;
  for_each_kernel([&](Context& ctx, const std::string& name) {
    Buffer<T> y = random_buffer<T>(45, 8);
    const Buffer<T> before = y;
    map(
        ctx, [](auto& p, const auto& q) { p = q + q; }, VectorView<T>(y.data(), 45), VectorView<const T>(y.data(), 45));
    for (Index i = 0; i < 45; ++i) ASSERT_EQ(y[i], before[i] + before[i]) << name;
  });
}

TYPED_TEST(Map, SameBitsForAnyThreads) {
  using T = TypeParam;
  const Index n = 200001;
  const Buffer<T> x = random_buffer<T>(n, 9);
  for (const char* kernel : {"map:avx512", "map:avx2", "map:xsimd"}) {
    const std::string name = kernel;
    if (!active_isa().has(name == "map:avx512" ? Isa::avx512 : name == "map:avx2" ? Isa::avx2 : Isa::portable))
      continue;
    std::vector<Buffer<T>> results;
    for (const Index threads : {1, 2, 3}) {
      Context ctx = Context::with_threads(threads);
      ctx.force(kernel);
      results.emplace_back(n);
      map(
          ctx, [](auto& y, const auto& a) { y = gelu(a) + y; }, VectorView<T>(results.back().data(), n),
          VectorView<const T>(x.data(), n));
    }
    for (const auto& r : results)
      for (Index i = 0; i < n; ++i) ASSERT_EQ(r[i], results[0][i]) << name;
  }
}

// A callable of a kind that an optimizer's links are: state, and nested functions of vectors.
struct Momentum {
  float beta = 0.9f;
  template <class V>
  TESSERA_FLAT void operator()(V& step, V& m, const V& g) const {
    m = V(beta) * m + g;
    step = m;
  }
};
struct Scale {
  float by = -0.1f;
  template <class V>
  TESSERA_FLAT void operator()(V& step) const {
    step = step * V(by);
  }
};

TEST(MapChain, LinksFuse) {
  const Momentum momentum;
  const Scale scale;
  const Buffer<float> g = random_buffer<float>(77, 10);
  for_each_kernel([&](Context& ctx, const std::string& name) {
    Buffer<float> p(77), m(77);
    for (int i = 0; i < 2; ++i)
      map(
          ctx,
          [&](auto& pp, auto& mm, const auto& gg) {
            std::remove_cvref_t<decltype(gg)> step;
            momentum(step, mm, gg);
            scale(step);
            pp = pp + step;
          },
          VectorView<float>(p.data(), 77), VectorView<float>(m.data(), 77), VectorView<const float>(g.data(), 77));
    for (Index i = 0; i < 77; ++i) {
      ASSERT_NEAR(m[i], 1.9f * g[i], 1e-6f) << name;
      ASSERT_NEAR(p[i], -0.29f * g[i], 1e-6f) << name;
    }
  });
}

TEST(MapErrors, NameTheViews) {
  Context ctx;
  Buffer<float> x(10);
  try {
    map(
        ctx, [](auto& y, const auto&) { y = y + y; }, VectorView<float>(x.data(), 10),
        VectorView<const float>(x.data(), 9));
    FAIL();
  } catch (const shape_error& e) {
    EXPECT_STREQ(e.what(), "tessera: map: view 0 has 10 elements, view 1 has 9");
  }
}

}  // namespace
}  // namespace tessera
