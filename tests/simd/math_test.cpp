// Every function in every lane against long double: over the whole range of float in strides, over the bits of double,
// and densely where the functions bend. The bounds are those of the docstrings in simd/math.hpp.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>

#include <tessera/core/buffer.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/kernels/map/map.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

/// |got - want| in units in the last place of `want` as a T.
template <class T>
double ulps(T got, long double want) {
  using L = std::numeric_limits<T>;
  const T rounded = static_cast<T>(want);
  if (std::isnan(rounded) || std::isinf(rounded) || std::isinf(got) || std::isnan(got)) {
    if (std::isnan(rounded) && std::isnan(got)) return 0;
    if (rounded == got) return 0;
    const bool edge = std::abs(want) > static_cast<long double>(L::max()) * 0.999999L && !std::isinf(want);
    return edge && std::abs(got) >= L::max() * T(0.999999) ? 1 : 1e30;
  }
  int exponent = 0;
  std::frexp(want, &exponent);
  const int unit = std::max(exponent - L::digits, L::min_exponent - L::digits);
  return static_cast<double>(std::abs(static_cast<long double>(got) - want) / std::ldexp(1.0L, unit));
}

long double sigmoid_of(long double x) { return 1 / (1 + std::exp(-x)); }

struct Exp {
  static constexpr double bound[] = {1.1, 1.0}, from = -1e30;
  template <class V>
  TESSERA_FLAT void operator()(V& y, const V& x) const {
    y = exp(x);
  }
  static long double exact(long double x) { return std::exp(x); }
};
struct Log {
  static constexpr double bound[] = {0.9, 0.9}, from = -1e30;
  template <class V>
  TESSERA_FLAT void operator()(V& y, const V& x) const {
    y = log(x);
  }
  static long double exact(long double x) { return x < 0 ? NAN : std::log(x); }
};
struct Tanh {
  static constexpr double bound[] = {2.5, 2.7}, from = -1e30;
  template <class V>
  TESSERA_FLAT void operator()(V& y, const V& x) const {
    y = tanh(x);
  }
  static long double exact(long double x) { return std::tanh(x); }
};
struct Sigmoid {
  static constexpr double bound[] = {2.4, 2.4}, from = -1e30;
  template <class V>
  TESSERA_FLAT void operator()(V& y, const V& x) const {
    y = sigmoid(x);
  }
  static long double exact(long double x) { return sigmoid_of(x); }
};
struct Silu {
  static constexpr double bound[] = {3.1, 3.0}, from = -87;
  template <class V>
  TESSERA_FLAT void operator()(V& y, const V& x) const {
    y = silu(x);
  }
  static long double exact(long double x) { return x * sigmoid_of(x); }
};
struct Erf {
  static constexpr double bound[] = {1.3, 1.4}, from = -1e30;
  template <class V>
  TESSERA_FLAT void operator()(V& y, const V& x) const {
    y = erf(x);
  }
  static long double exact(long double x) { return std::erf(x); }
};
struct Gelu {
  static constexpr double bound[] = {6.5, 6.0}, from = -12.5;
  template <class V>
  TESSERA_FLAT void operator()(V& y, const V& x) const {
    y = gelu(x);
  }
  static long double exact(long double x) { return x * (0.5L * std::erfc(x * -0.70710678118654752440084436210485L)); }
};
struct GeluTanh {
  static constexpr double bound[] = {40, 40}, from = -5;
  template <class V>
  TESSERA_FLAT void operator()(V& y, const V& x) const {
    y = gelu_tanh(x);
  }
  static long double exact(long double x) {
    return x * sigmoid_of(2 * 0.79788456080286535587989211986876L * (x + 0.044715L * x * x * x));
  }
};

template <class T>
using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;

/// n arguments: a stride through all bit patterns, and as many drawn from [-scale, scale].
template <class T>
Buffer<T> arguments(Index n, double scale, std::uint64_t seed) {
  Buffer<T> x(2 * n);
  const Bits<T> step = std::numeric_limits<Bits<T>>::max() / static_cast<Bits<T>>(n) | 1;
  const Philox draws(seed);
  for (Index i = 0; i < n; ++i) {
    x[i] = std::bit_cast<T>(static_cast<Bits<T>>(static_cast<Bits<T>>(i) * step + static_cast<Bits<T>>(seed)));
    const auto words = draws.block(static_cast<std::uint64_t>(i));
    x[n + i] = static_cast<T>((words[0] * 0x1p-31 + words[1] * 0x1p-63 - 1) * scale);
  }
  return x;
}

template <class F>
class Math : public ::testing::Test {
 protected:
  template <class T>
  void expect_bound(Index n) {
    for (const double scale : {1.0, 6.0, 30.0, sizeof(T) == 4 ? 110.0 : 760.0}) {
      const Buffer<T> x = arguments<T>(n, scale, static_cast<std::uint64_t>(scale));
      Buffer<long double> exact(x.size());
      for (Index i = 0; i < x.size(); ++i) exact[i] = F::exact(static_cast<long double>(x[i]));
      for (const char* kernel : {"map:avx512", "map:avx2", "map:xsimd"}) {
        const std::string name = kernel;
        const Isa isa = name == "map:avx512" ? Isa::avx512 : name == "map:avx2" ? Isa::avx2 : Isa::portable;
        if (!active_isa().has(isa)) continue;
        Context ctx;
        ctx.force(kernel);
        Buffer<T> y(x.size());
        map(ctx, F(), VectorView<T>(y.data(), y.size()), VectorView<const T>(x.data(), x.size()));
        double worst = 0;
        T at = 0;
        for (Index i = 0; i < x.size(); ++i) {
          if (x[i] < static_cast<T>(F::from)) continue;
          const double error = ulps(y[i], exact[i]);
          if (error > worst) {
            worst = error;
            at = x[i];
          }
        }
        EXPECT_LE(worst, F::bound[sizeof(T) / 8]) << name << " of " << sizeof(T) << " bytes at " << at;
      }
    }
  }
};
using Functions = ::testing::Types<Exp, Log, Tanh, Sigmoid, Silu, Erf, Gelu, GeluTanh>;
TYPED_TEST_SUITE(Math, Functions);

TYPED_TEST(Math, FloatIsWithinItsBound) { this->template expect_bound<float>(40000); }
TYPED_TEST(Math, DoubleIsWithinItsBound) { this->template expect_bound<double>(20000); }
TYPED_TEST(Math, SlowFloatIsWithinItsBound) { this->template expect_bound<float>(500000); }

// One value through every lane of every kernel.
template <class F, class T>
void expect_value(F f, T x, T expected) {
  for (const char* kernel : {"map:avx512", "map:avx2", "map:xsimd", "map:ref"}) {
    const std::string name = kernel;
    const Isa isa = name == "map:avx512" ? Isa::avx512 : name == "map:avx2" ? Isa::avx2 : Isa::portable;
    if (!active_isa().has(isa)) continue;
    Context ctx;
    ctx.force(kernel);
    Buffer<T> xs(19), ys(19);
    for (T& v : xs) v = x;
    map(ctx, f, VectorView<T>(ys.data(), 19), VectorView<const T>(xs.data(), 19));
    for (Index i = 0; i < 19; ++i) {
      if (std::isnan(expected)) {
        EXPECT_TRUE(std::isnan(ys[i])) << name << " " << x;
      } else {
        EXPECT_EQ(ys[i], expected) << name << " " << x;
        EXPECT_EQ(std::signbit(ys[i]), std::signbit(expected)) << name << " " << x;
      }
    }
  }
}

template <class T>
class MathSpecial : public ::testing::Test {};
using Reals = ::testing::Types<float, double>;
TYPED_TEST_SUITE(MathSpecial, Reals);

TYPED_TEST(MathSpecial, InfinitiesZerosAndNaN) {
  using T = TypeParam;
  using L = std::numeric_limits<T>;
  const T inf = L::infinity(), nan = L::quiet_NaN(), tiny = L::denorm_min();
  expect_value(Exp(), inf, inf);
  expect_value(Exp(), -inf, T(0));
  expect_value(Exp(), L::max(), inf);
  expect_value(Exp(), L::lowest(), T(0));
  expect_value(Exp(), T(0), T(1));
  expect_value(Exp(), tiny, T(1));
  expect_value(Log(), T(0), -inf);
  expect_value(Log(), -T(0), -inf);
  expect_value(Log(), inf, inf);
  expect_value(Log(), T(-1), nan);
  expect_value(Log(), -inf, nan);
  expect_value(Log(), T(1), T(0));
  expect_value(Tanh(), inf, T(1));
  expect_value(Tanh(), -inf, T(-1));
  expect_value(Tanh(), -T(0), -T(0));
  expect_value(Tanh(), tiny, tiny);
  expect_value(Sigmoid(), inf, T(1));
  expect_value(Sigmoid(), -inf, T(0));
  expect_value(Sigmoid(), T(0), T(0.5));
  expect_value(Silu(), inf, inf);
  expect_value(Silu(), -inf, -T(0));
  expect_value(Silu(), -T(0), -T(0));
  expect_value(Erf(), inf, T(1));
  expect_value(Erf(), -inf, T(-1));
  expect_value(Erf(), -T(0), -T(0));
  expect_value(Gelu(), inf, inf);
  expect_value(Gelu(), -inf, -T(0));
  expect_value(Gelu(), T(0), T(0));
  expect_value(GeluTanh(), inf, inf);
  expect_value(GeluTanh(), -inf, -T(0));
  expect_value(Exp(), nan, nan);
  expect_value(Log(), nan, nan);
  expect_value(Tanh(), nan, nan);
  expect_value(Sigmoid(), nan, nan);
  expect_value(Silu(), nan, nan);
  expect_value(Erf(), nan, nan);
  expect_value(Gelu(), nan, nan);
  expect_value(GeluTanh(), nan, nan);
}

}  // namespace
}  // namespace tessera
