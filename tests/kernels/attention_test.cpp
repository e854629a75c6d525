#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <tessera/core/executor.hpp>
#include <tessera/kernels/attention/attention.hpp>
#include <vector>

#include "attention/reference.hpp"
#include "support/oracle.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

constexpr double infinity = std::numeric_limits<double>::infinity();

struct Case {
  Index heads, kv_heads, n, m, d;
  bool causal = false;
  double spread = 1;  // of the queries
  Index pad = 0;      // elements between rows beyond d
};

template <class T>
struct Problem {
  explicit Problem(const Case& c, std::uint64_t seed = 1)
      : shape(c),
        ld(c.d + c.pad),
        q(random_buffer<T>(c.heads * c.n * ld + 1, seed)),
        k(random_buffer<T>(c.kv_heads * c.m * ld + 1, seed + 1)),
        v(random_buffer<T>(c.kv_heads * c.m * ld + 1, seed + 2)),
        out(c.heads * c.n * ld + 1),
        lse(c.heads * c.n) {
    for (auto& x : q) x = static_cast<T>(static_cast<double>(x) * c.spread);
    std::fill(out.begin(), out.end(), std::numeric_limits<T>::quiet_NaN());
  }
  // (token, head, d) in memory where rows are padded: heads interleave as projections leave them.
  template <class U>
  View<U, 3> view(U* data, Index heads, Index n) const {
    if (shape.pad == 0) return View<U, 3>(data, {heads, n, shape.d});
    return View<U, 3>(data + 1, {heads, n, shape.d}, {ld, heads * ld, 1});
  }
  View<const T, 3> Q() const { return view(q.data(), shape.heads, shape.n); }
  View<const T, 3> K() const { return view(k.data(), shape.kv_heads, shape.m); }
  View<const T, 3> V() const { return view(v.data(), shape.kv_heads, shape.m); }
  View<T, 3> O() { return view(out.data(), shape.heads, shape.n); }
  View<T, 2> L() { return {lse.data(), shape.heads, shape.n}; }

  Case shape;
  Index ld;
  Buffer<T> q, k, v, out, lse;
};

/// The softmax in double of every query, and how far rounding in T may take the result. With u the unit roundoff and A
/// the largest Σ|q||k|·scale: a score is off by γ_(d+2)·A, the two scores of an exponent's difference and its rounding
/// (telescoping over the tiles) make (2(d+2) + 6)·u·A, exponentials 4u a tile, sums (m + 8)·u; the quotient doubles it.
template <class T>
void expect_attention(const Problem<T>& p, double scale, View<const T, 3> out, View<const T, 2> lse) {
  const auto [heads, kv_heads, n, m, d, causal, spread, pad] = p.shape;
  const double u = static_cast<double>(std::numeric_limits<T>::epsilon()) / 2;
  int shown = 0;
  for (Index h = 0; h < heads; ++h)
    for (Index i = 0; i < n; ++i) {
      const Index g = h / (heads / kv_heads), end = causal ? std::clamp<Index>(m - n + i + 1, 0, m) : m;
      std::vector<double> score(static_cast<std::size_t>(end));
      double top = -infinity, size = 0, total = 0;
      for (Index j = 0; j < end; ++j) {
        double dot = 0, absolute = 0;
        for (Index c = 0; c < d; ++c) {
          const double term = static_cast<double>(p.Q()(h, i, c)) * static_cast<double>(p.K()(g, j, c)) * scale;
          dot += term;
          absolute += std::abs(term);
        }
        score[static_cast<std::size_t>(j)] = dot;
        top = std::max(top, dot);
        size = std::max(size, absolute);
      }
      for (const double s : score) total += std::exp(s - top);
      const double dd = static_cast<double>(d), mm = static_cast<double>(m);
      const double weight = std::expm1(2 * u * ((2 * (dd + 2) + 6) * size + 4 * (mm / 64 + 4) + mm + 8));
      const double expected_lse = end == 0 ? -infinity : top + std::log(total);
      const double got_lse = static_cast<double>(lse(h, i));
      if (end == 0 ? got_lse != -infinity : !(std::abs(got_lse - expected_lse) <= weight + 2 * u * std::abs(top))) {
        ADD_FAILURE() << "lse(" << h << ", " << i << ") = " << got_lse << ", expected " << expected_lse;
        if (++shown == 5) return;
      }
      for (Index c = 0; c < d; ++c) {
        double sum = 0, absolute = 0;
        for (Index j = 0; j < end; ++j) {
          const double term =
              std::exp(score[static_cast<std::size_t>(j)] - top) / total * static_cast<double>(p.V()(g, j, c));
          sum += term;
          absolute += std::abs(term);
        }
        const double got = static_cast<double>(out(h, i, c));
        if (!(std::abs(got - sum) <= weight * absolute + 1e-38)) {
          ADD_FAILURE() << "out(" << h << ", " << i << ", " << c << ") = " << got << ", expected " << sum << " within "
                        << weight * absolute;
          if (++shown == 5) return;
        }
      }
    }
}

std::string text(const Case& c) {
  return std::to_string(c.heads) + "h" + std::to_string(c.kv_heads) + "kv n" + std::to_string(c.n) + " m" +
         std::to_string(c.m) + " d" + std::to_string(c.d) + (c.causal ? " causal" : "") + " pad" +
         std::to_string(c.pad);
}

const std::vector<Case>& cases() {
  static const std::vector<Case> all = [] {
    std::vector<Case> list{
        {1, 1, 1, 1, 1},           {1, 1, 1, 0, 8},           {2, 1, 3, 0, 5, true},    {4, 2, 1, 63, 32},
        {4, 2, 1, 65, 64, true},   {8, 1, 1, 200, 128},       {6, 2, 1, 130, 31},       {7, 1, 1, 77, 17},
        {9, 1, 1, 128, 40},        {16, 1, 1, 66, 33, true},  {3, 3, 17, 17, 32, true}, {2, 2, 64, 64, 64, true},
        {4, 2, 65, 65, 24, true},  {2, 1, 130, 130, 7, true}, {1, 1, 200, 64, 32},      {1, 1, 70, 64, 16, true},
        {2, 2, 5, 300, 48, true},  {12, 4, 33, 129, 20},      {1, 1, 63, 65, 128},      {2, 1, 3, 4200, 16},
        {4, 2, 1, 4100, 64, true}, {1, 1, 129, 200, 100},     {8, 2, 40, 40, 1, true},
    };
    const std::size_t plain = list.size();
    for (std::size_t i = 0; i < plain; ++i) {
      Case strided = list[i];
      strided.pad = 3;
      list.push_back(strided);
    }
    for (const Index m : {1, 2, 15, 16, 17, 63, 64, 65}) list.push_back({2, 1, m, m, m, true});
    return list;
  }();
  return all;
}

template <class T>
void all_shapes() {
  for_each_attention_kernel<T>([](Context& ctx) {
    for (const Case& c : cases()) {
      SCOPED_TRACE(text(c));
      Problem<T> p(c);
      attention(ctx, p.Q(), p.K(), p.V(), p.O(), {.causal = c.causal}, p.L());
      expect_attention<T>(p, 1 / std::sqrt(static_cast<double>(c.d)), p.O(), p.L());
      if (c.pad > 0)  // nothing is written between the rows
        for (Index h = 0; h < c.heads; ++h) {
          if (c.n == 0) continue;
          const T* const row = &p.O()(h, Index{0}, Index{0});
          for (Index x = 0; x < c.pad; ++x) EXPECT_TRUE(std::isnan(row[c.d + x]));
        }
    }
  });
}

TEST(Attention, EveryKernelF32) { all_shapes<float>(); }
TEST(Attention, EveryKernelF64) { all_shapes<double>(); }

TEST(Attention, LargeScoresAreSafe) {
  for_each_attention_kernel<float>([](Context& ctx) {
    for (const Index n : {1, 20}) {
      const Case c{2, 1, n, 150, 64, true, 400};
      Problem<float> p(c);
      attention(ctx, p.Q(), p.K(), p.V(), p.O(), {.scale = 1.0, .causal = true}, p.L());
      float most = 0;
      for (const float x : p.lse) most = std::max(most, std::abs(x));
      EXPECT_GT(most, n == 1 ? 1e3f : 1e4f);
      expect_attention<float>(p, 1.0, p.O(), p.L());
    }
  });
}

TEST(Attention, UnseenKeysMayHoldNaN) {  // beyond the tile of the last key that is seen
  for_each_attention_kernel<float>([](Context& ctx) {
    const Case c{2, 2, 40, 200, 32};
    Problem<float> p(c);
    for (Index j = 64; j < 200; ++j)
      for (Index x = 0; x < 32; ++x) p.k[j * 32 + x] = p.v[(200 + j) * 32 + x] = std::nanf("");
    const auto part = [](View<const float, 3> all) { return all.slice(1, 0, 64); };
    attention(ctx, p.Q(), part(p.K()), part(p.V()), p.O(), {}, p.L());
    for (const float x : p.lse) EXPECT_TRUE(std::isfinite(x));
    attention(ctx, p.Q(), p.K(), p.V(), p.O(), {}, p.L());  // seen: NaN reaches the result
    EXPECT_TRUE(std::isnan(p.O()(0, 0, 0)));
    EXPECT_TRUE(std::isnan(p.O()(1, 0, 0)));
    EXPECT_TRUE(std::isnan(p.L()(0, 0)));
  });
}

TEST(Attention, MinusInfinityScoresGetNoWeight) {
  for_each_attention_kernel<float>([](Context& ctx) {
    for (const Index n : {1, 30}) {
      Problem<float> p({1, 1, n, 3, 4});
      for (Index i = 0; i < n * 4; ++i) p.q[i] = 1;
      p.k[4] = -std::numeric_limits<float>::infinity();
      attention(ctx, p.Q(), p.K(), p.V(), p.O(), {}, p.L());
      const double a = std::exp(static_cast<double>(p.k[0] + p.k[1] + p.k[2] + p.k[3]) / 2);
      const double b = std::exp(static_cast<double>(p.k[8] + p.k[9] + p.k[10] + p.k[11]) / 2);
      EXPECT_NEAR(static_cast<double>(p.O()(0, n - 1, 2)),
                  (a * static_cast<double>(p.v[2]) + b * static_cast<double>(p.v[10])) / (a + b), 1e-6);
      for (Index i = 0; i < 12; ++i) p.k[i] = -std::numeric_limits<float>::infinity();
      attention(ctx, p.Q(), p.K(), p.V(), p.O(), {}, p.L());
      EXPECT_EQ(p.O()(0, n - 1, 2), 0.0f);
      EXPECT_EQ(p.L()(0, n - 1), -std::numeric_limits<float>::infinity());
    }
  });
}

TEST(Attention, SameBitsForAnyNumberOfThreads) {
  for_each_attention_kernel<float>([](Context& one) {
    for (const Case& c : {Case{8, 2, 70, 150, 32, true}, Case{2, 1, 1, 5000, 32}, Case{4, 4, 3, 50, 20}}) {
      Problem<float> a(c);
      attention(one, a.Q(), a.K(), a.V(), a.O(), {.causal = c.causal}, a.L());
      for (const Index threads : {2, 3}) {
        Context ctx = Context::with_threads(threads);
        ctx.force(one.forced("attention"));
        Problem<float> b(c);
        attention(ctx, b.Q(), b.K(), b.V(), b.O(), {.causal = c.causal}, b.L());
        for (Index i = 0; i + 1 < a.out.size(); ++i) ASSERT_EQ(a.out[i], b.out[i]) << i;
        for (Index i = 0; i < a.lse.size(); ++i) ASSERT_EQ(a.lse[i], b.lse[i]) << i;
      }
    }
  });
}

TEST(Attention, MergedSplitsAreTheWhole) {
  const Case c{4, 2, 6, 90, 24};
  Context ctx;
  for (const Index cut : {0, 1, 45, 64, 89, 90}) {
    Problem<float> left(c), right(c);
    const auto part = [&](View<const float, 3> all, bool first) {
      return first ? all.slice(1, 0, cut) : all.slice(1, cut, 90 - cut);
    };
    attention(ctx, left.Q(), part(left.K(), true), part(left.V(), true), left.O(), {}, left.L());
    attention(ctx, right.Q(), part(right.K(), false), part(right.V(), false), right.O(), {}, right.L());
    merge_states(ctx, left.O(), left.L(), right.O(), right.L());
    expect_attention<float>(right, 1 / std::sqrt(24.0), right.O(), right.L());
  }
}

TEST(Attention, RefusesShapesThatDoNotFit) {
  Context ctx;
  Problem<float> p({4, 2, 3, 5, 8});
  const auto says = [&](auto&& call, const std::string& words) {
    try {
      call();
      ADD_FAILURE() << "expected: " << words;
    } catch (const shape_error& e) {
      EXPECT_NE(std::string(e.what()).find(words), std::string::npos) << e.what();
    }
  };
  says([&] { attention(ctx, p.Q().slice(0, 0, 3), p.K(), p.V(), p.O().slice(0, 0, 3)); }, "3 heads");
  says([&] { attention(ctx, p.Q(), p.K(), p.V().slice(1, 0, 4), p.O()); }, "(2, 5, 8)");
  says([&] { attention(ctx, p.Q().slice(2, 0, 7), p.K(), p.V(), p.O().slice(2, 0, 7)); }, "(kv_heads, m, 7)");
  says([&] { attention(ctx, p.Q(), p.K(), p.V(), p.O().slice(1, 0, 2)); }, "(4, 2, 8)");
  says([&] { attention(ctx, p.Q(), p.K(), p.V(), p.O(), {}, p.L().slice(1, 0, 2)); }, "4x2");
  View<float, 3> apart(p.out.data(), {4, 3, 8}, {8, 32, 4});
  says([&] { attention(ctx, p.Q(), p.K(), p.V(), apart); }, "1, 1, 1, 4");
  attention(ctx, p.Q().slice(1, 0, 0), p.K(), p.V(), p.O().slice(1, 0, 0));
}

}  // namespace
}  // namespace tessera::test
