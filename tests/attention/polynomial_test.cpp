#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <span>
#include <tessera/attention/kronecker_backward.hpp>
#include <tessera/attention/lora_gradient.hpp>
#include <vector>

#include "nn/gradient_check.hpp"
#include "support/oracle.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

using test::random_buffer;
using Heads = View<double, 3>;

/// Inputs, result and gradients of attention over pairs, in memory of their own.
struct Pairs {
  Index heads, n, n1, n2, d, dv;
  std::vector<Buffer<double>> memory;
  Heads Q, K1, K2, V1, V2, out, dO, dQ, dK1, dK2, dV1, dV2;
  View<double, 2> lse;

  Pairs(Index h, Index n_, Index first, Index second, Index d_, Index dv_, double size = 1)
      : heads(h), n(n_), n1(first), n2(second), d(d_), dv(dv_) {
    memory.reserve(16);
    const auto take = [&](Index rows, Index cols) {
      memory.push_back(random_buffer<double>(heads * rows * cols, memory.size() + 1));
      return Heads(memory.back().data(), {heads, rows, cols});
    };
    for (auto* x : {&Q, &dQ}) *x = take(n, d);
    for (auto* x : {&K1, &dK1}) *x = take(n1, d);
    for (auto* x : {&K2, &dK2}) *x = take(n2, d);
    for (auto* x : {&V1, &dV1}) *x = take(n1, dv);
    for (auto* x : {&V2, &dV2}) *x = take(n2, dv);
    for (auto* x : {&out, &dO}) *x = take(n, dv);
    lse = take(n, 1)[0].data() ? View<double, 2>(memory.back().data(), heads, n) : View<double, 2>();
    for (Index i = 0; i < heads * n * d; ++i) Q.data()[i] *= size;
  }
  void forward(Context& ctx) { kron_attention<double>(ctx, Q, K1, K2, V1, V2, out, {}, lse); }
  void backward(Context& ctx) {
    kron_attention_backward<double>(ctx, Q, K1, K2, V1, V2, out, lse, dO, dQ, dK1, dK2, dV1, dV2);
  }
  double loss(Context& ctx) {
    forward(ctx);
    return test::inner(VectorView<double>(dO.data(), dO.size()), VectorView<double>(out.data(), out.size()));
  }
  static std::span<double> span(Heads x) { return {x.data(), static_cast<std::size_t>(x.size())}; }

  double score(Index h, Index i, Index j, Index k) const {
    double s = 0;
    for (Index c = 0; c < d; ++c) s += Q(h, i, c) * K1(h, j, c) * K2(h, k, c);
    return s / static_cast<double>(d);
  }
  /// The n × n1·n2 matrix and its product, row by row: the largest difference from out, and from lse.
  double distance() const {
    double worst = 0;
    std::vector<double> a(static_cast<std::size_t>(n1 * n2)), row(static_cast<std::size_t>(dv));
    for (Index h = 0; h < heads; ++h)
      for (Index i = 0; i < n; ++i) {
        double most = -std::numeric_limits<double>::infinity(), total = 0;
        for (Index jk = 0; jk < n1 * n2; ++jk)
          most = std::max(most, a[static_cast<std::size_t>(jk)] = score(h, i, jk / n2, jk % n2));
        std::fill(row.begin(), row.end(), 0.0);
        for (Index jk = 0; jk < n1 * n2; ++jk) {
          const double p = std::exp(a[static_cast<std::size_t>(jk)] - most);
          total += p;
          for (Index c = 0; c < dv; ++c) row[static_cast<std::size_t>(c)] += p * V1(h, jk / n2, c) * V2(h, jk % n2, c);
        }
        for (Index c = 0; c < dv; ++c)
          worst = std::max(worst, std::abs(out(h, i, c) - row[static_cast<std::size_t>(c)] / total));
        if (lse.data() != nullptr) worst = std::max(worst, std::abs(lse(h, i) - most - std::log(total)));
      }
    return worst;
  }
};

TEST(KronAttention, IsTheExplicitMatrix) {
  Context ctx;
  for (auto [n, n1, n2, d, dv] : {std::array<Index, 5>{1, 1, 1, 1, 1},
                                  {5, 3, 7, 4, 6},
                                  {1, 150, 3, 2, 1},
                                  {33, 9, 130, 7, 5},
                                  {20, 20, 20, 8, 8}})
    for (const double size : {1.0, 300.0}) {
      Pairs x(n == 33 ? 1 : 2, n, n1, n2, d, dv, size);
      x.forward(ctx);
      EXPECT_LT(x.distance(), 1e-11) << n << ' ' << n1 << ' ' << n2 << ' ' << d << ' ' << dv;
    }
  Pairs none(2, 3, 0, 4, 2, 2);
  none.forward(ctx);
  EXPECT_EQ(none.out(1, 2, 1), 0.0);
  EXPECT_EQ(none.lse(1, 2), -std::numeric_limits<double>::infinity());
  none.backward(ctx);
  EXPECT_EQ(none.dQ(1, 2, 1), 0.0);
  EXPECT_EQ(none.dV2(1, 3, 1), 0.0);
}

TEST(KronAttention, HasItsGradient) {
  Context ctx;
  Pairs x(2, 5, 4, 3, 3, 2);
  x.forward(ctx);
  x.backward(ctx);
  const auto loss = [&] { return x.loss(ctx); };
  test::expect_gradient("Q", x.span(x.Q), x.span(x.dQ), loss);
  test::expect_gradient("K1", x.span(x.K1), x.span(x.dK1), loss);
  test::expect_gradient("K2", x.span(x.K2), x.span(x.dK2), loss);
  test::expect_gradient("V1", x.span(x.V1), x.span(x.dV1), loss);
  test::expect_gradient("V2", x.span(x.V2), x.span(x.dV2), loss);

  Pairs tiles(1, 35, 11, 131, 5, 4);  // over the edges of tiles, in one direction
  tiles.forward(ctx);
  tiles.backward(ctx);
  double t = 0, slope = 0, last = 0;
  const std::array<std::array<Heads, 2>, 5> all{{{tiles.Q, tiles.dQ},
                                                 {tiles.K1, tiles.dK1},
                                                 {tiles.K2, tiles.dK2},
                                                 {tiles.V1, tiles.dV1},
                                                 {tiles.V2, tiles.dV2}}};
  for (const auto& [at, grad] : all)
    for (std::size_t i = 0; i < tiles.span(at).size(); ++i) slope += grad.data()[i] * std::cos(static_cast<double>(i));
  test::expect_gradient("direction", {&t, 1}, std::span<const double>(&slope, 1), [&] {
    for (const auto& [at, grad] : all)
      for (std::size_t i = 0; i < tiles.span(at).size(); ++i)
        at.data()[i] += (t - last) * std::cos(static_cast<double>(i));
    last = t;
    return tiles.loss(ctx);
  });
}

TEST(KronAttention, SameBitsForAnyThreadsInBoundedMemory) {
  Context one, three = Context::with_threads(3);
  Pairs a(1, 70, 20, 30, 4, 4), b(1, 70, 20, 30, 4, 4);
  const auto all = [](Context& ctx, Pairs& x) {
    x.forward(ctx);
    x.backward(ctx);
  };
  all(one, a);
  all(three, b);
  for (std::size_t m = 0; m < a.memory.size(); ++m)
    EXPECT_TRUE(std::equal(a.memory[m].begin(), a.memory[m].end(), b.memory[m].begin())) << m;
  kron_attention_poly<double>(one, a.Q, a.K1, a.K2, a.V1, a.V2, a.out, {3});
  kron_attention_poly<double>(three, b.Q, b.K1, b.K2, b.V1, b.V2, b.out, {3});
  EXPECT_TRUE(std::equal(a.span(a.out).begin(), a.span(a.out).end(), b.out.data()));

  std::size_t exact[2], poly[2];
  for (const int twice : {0, 1}) {
    Context ctx;
    Pairs x(1, 32 << twice, 10, 130 << twice, 4, 4), line(1, 260 << twice, 3, 260 << twice, 4, 4);
    x.forward(ctx);
    exact[twice] = ctx.workspace.capacity();
    ctx.workspace.release();
    kron_attention_poly<double>(ctx, line.Q, line.K1, line.K2, line.V1, line.V2, line.out, {4});
    poly[twice] = ctx.workspace.capacity();
  }
  EXPECT_EQ(exact[0], exact[1]);
  EXPECT_EQ(poly[0], poly[1]);
  const auto growth = [](auto flops) { return std::log2(flops(8192) / flops(4096)); };
  EXPECT_NEAR(growth([](Index n) { return kron_attention_flops(1, n, n, n, 8, 8); }), 3, 0.01);
  EXPECT_NEAR(growth([](Index n) { return kron_attention_poly_flops(1, n, n, n, 8, 8, 4); }), 1, 0.01);
}

TEST(KronAttention, PolynomialIsWithinItsBoundOfExp) {
  Context ctx;
  double before_bound = 0;
  for (const double bound : {0.25, 1.0, 3.0}) {
    Pairs x(1, 6, 5, 7, 3, 2), exact(1, 6, 5, 7, 3, 2);
    double most = 0;
    const auto scores = [&](auto&& f) {
      for (Index i = 0; i < x.n; ++i)
        for (Index j = 0; j < x.n1; ++j)
          for (Index k = 0; k < x.n2; ++k) f(i, j, k, x.score(0, i, j, k));
    };
    scores([&](Index, Index, Index, double s) { most = std::max(most, std::abs(s)); });
    for (auto* p : {&x, &exact})
      for (auto& q : p->span(p->Q)) q *= bound / most;
    exact.forward(ctx);
    double before[2] = {1e9, 1e9}, before_out = 1e9;
    for (const Index degree : {1, 2, 3, 4, 6, 8}) {
      double error[2] = {0, 0};
      for (const bool chebyshev : {false, true}) {
        const ExpPolynomial p{degree, chebyshev ? std::optional(bound) : std::nullopt};
        const detail::PolynomialFeatures f("test", x.d, p, 1 / static_cast<double>(x.d));
        ASSERT_EQ(f.count(), detail::PolynomialFeatures::count_of(x.d, degree));
        std::vector<double> u2(static_cast<std::size_t>(f.count())), u3 = u2, u23 = u2;
        scores([&](Index i, Index j, Index k, double s) {  // A = U1 (U2 ⊙ U3)ᵀ entry by entry
          f.row<double>(x.K1[0].row(j), u2.data());
          f.row<double>(x.K2[0].row(k), u3.data());
          for (std::size_t a = 0; a < u2.size(); ++a) u23[a] = u2[a] * u3[a];
          double entry = 0;
          const auto one = [&](Index, double* to) { to[0] = 1; };
          const MatrixView<double> M(u2.data(), f.count(), 1);
          f.gather<double>(ctx, x.Q[0].slice(0, i, 1), true, M, one);  // the weighted features of one query
          for (std::size_t a = 0; a < u2.size(); ++a) entry += u2[a] * u23[a];
          error[chebyshev] = std::max(error[chebyshev], std::abs(entry - std::exp(s)));
        });
        EXPECT_LT(error[chebyshev], before[chebyshev]) << bound << ' ' << degree;
        before[chebyshev] = error[chebyshev];
      }
      // |Taylor's remainder| <= e^b b^(g+1)/(g+1)!, |Chebyshev's| <= 2 Σ_k>g I_k(b), I_k(b) <= (b/2)^k/k!
      // e^(b²/4(k+1)).
      const auto g = static_cast<double>(degree);
      EXPECT_LE(error[0], std::exp(bound) * std::pow(bound, g + 1) / std::tgamma(g + 2) + 1e-14);
      double tail = 0;
      for (double k = g + 1; k < g + 30; ++k)
        tail += 2 * std::pow(bound / 2, k) / std::tgamma(k + 1) * std::exp(bound * bound / (4 * (k + 1)));
      EXPECT_LE(error[1], tail + 1e-14);
      EXPECT_TRUE(kron_attention_poly<double>(ctx, x.Q, x.K1, x.K2, x.V1, x.V2, x.out, {degree, bound}) || degree < 4);
      double out = 0;
      for (std::size_t i = 0; i < x.span(x.out).size(); ++i)
        out = std::max(out, std::abs(x.out.data()[i] - exact.out.data()[i]));
      if (degree > 2) {
        EXPECT_LT(out, before_out) << bound << ' ' << degree;
      }
      before_out = out;
      if (degree == 8) {
        EXPECT_GT(out, before_bound);
        EXPECT_LT(out, bound <= 1 ? 1e-7 : 1e-2);
        before_bound = out;
      }
    }
  }
}

TEST(KronAttention, RefusesWhatItCannotDo) {
  Context ctx;
  Pairs x(1, 4, 3, 5, 2, 2), wide(1, 4, 3, 5, 64, 2);
  const auto message = [](auto&& f) -> std::string {
    try {
      f();
    } catch (const error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_THROW(kron_attention<double>(ctx, x.Q, x.K1, x.K2, x.V2, x.V1, x.out), shape_error);
  EXPECT_THROW(kron_attention<double>(ctx, x.Q, x.K1, wide.K2, x.V1, x.V2, x.out), shape_error);
  const auto poly = [&](Pairs& p, ExpPolynomial e) {
    kron_attention_poly<double>(ctx, p.Q, p.K1, p.K2, p.V1, p.V2, p.out, e);
  };
  const std::string absurd = message([&] { poly(wide, {6}); });
  EXPECT_NE(absurd.find("degree 6 over d = 64 has 131115985 features; expected at most 262144"), std::string::npos)
      << absurd;
  EXPECT_NE(message([&] { poly(wide, {32}); }).find("more than"), std::string::npos);
  EXPECT_THROW(poly(x, {-1}), unsupported_error);
  EXPECT_THROW(poly(x, {33}), unsupported_error);
  EXPECT_THROW(poly(x, {2, 0.0}), unsupported_error);
  EXPECT_FALSE(kron_attention_poly<double>(ctx, x.Q, x.K1, x.K2, x.V1, x.V2, x.out, {1}, {.scale = 100.0}));
}

/// Sequences of n residues, and for each token whether some one or two tokens (it among them) bring its sum to 0.
struct Matches {
  Index modulus, n;
  Philox draws{7};
  std::uint64_t next = 0;
  std::vector<Index> x{};
  std::vector<bool> pair{}, triple{};

  void draw(Index sequences) {
    x.resize(static_cast<std::size_t>(sequences * n));
    pair.assign(x.size(), false);
    triple = pair;
    for (auto& v : x) v = static_cast<Index>(draws.below(next++, static_cast<std::uint64_t>(modulus)));
    for (std::size_t i = 0; i < x.size(); ++i) {
      const std::size_t first = i / static_cast<std::size_t>(n) * static_cast<std::size_t>(n);
      for (std::size_t j = first; j < first + static_cast<std::size_t>(n); ++j) {
        if ((x[i] + x[j]) % modulus == 0) pair[i] = true;
        for (std::size_t k = first; k <= j; ++k)
          if ((x[i] + x[j] + x[k]) % modulus == 0) triple[i] = true;
      }
    }
  }
};

/// One head of plain attention with tables for queries, keys, values and a readout of its own for every residue, which
/// says yes where readout(x_i)·out_i > 0. Trained by Adam on the logistic loss, classes of equal weight. Its loops are
/// plain: sequences are so short that unoptimised kernels would take all of the test's time.
struct PlainFit {
  Index modulus, n, d;
  std::vector<double> table, grad, mu, nu;  // queries, keys, values, readout: (modulus, d) each

  PlainFit(Index m, Index tokens, Index width) : modulus(m), n(tokens), d(width) {
    const auto start = random_buffer<double>(4 * m * d, 3);
    table.assign(start.begin(), start.end());
    grad.assign(table.size(), 0.0);
    mu = nu = grad;
  }

  /// The share right, the mean over both classes. A step of training where rate > 0.
  double run(const std::vector<Index>& x, const std::vector<bool>& yes, double rate, Index step) {
    const Index tokens = static_cast<Index>(x.size());
    const double positives = static_cast<double>(std::count(yes.begin(), yes.end(), true));
    const double of_class[2] = {static_cast<double>(tokens) - positives, positives};
    const double scale = 1 / std::sqrt(static_cast<double>(d));
    const auto row = [&](std::vector<double>& of, Index which, Index token) {
      return of.data() + (which * modulus + x[static_cast<std::size_t>(token)]) * d;
    };
    const auto add = [&](double* to, double factor, const double* from) {
      for (Index c = 0; c < d; ++c) to[c] += factor * from[c];
    };
    const auto dot = [&](const double* a, const double* b) {
      double sum = 0;
      for (Index c = 0; c < d; ++c) sum += a[c] * b[c];
      return sum;
    };
    std::vector<double> p(static_cast<std::size_t>(n)), out(static_cast<std::size_t>(d)), dout = out;
    double right = 0;
    std::fill(grad.begin(), grad.end(), 0.0);
    for (Index i = 0; i < tokens; ++i) {
      const Index first = i / n * n;
      double total = 0, z = 0, D = 0;
      for (Index j = 0; j < n; ++j)
        total += p[static_cast<std::size_t>(j)] = std::exp(scale * dot(row(table, 0, i), row(table, 1, first + j)));
      std::fill(out.begin(), out.end(), 0.0);
      for (Index j = 0; j < n; ++j) add(out.data(), p[static_cast<std::size_t>(j)] /= total, row(table, 2, first + j));
      z = dot(row(table, 3, i), out.data());
      const bool y = yes[static_cast<std::size_t>(i)];
      if ((z > 0) == y) right += 0.5 / of_class[y];
      if (rate == 0) continue;
      const double dz = (1 / (1 + std::exp(-z)) - (y ? 1.0 : 0.0)) * 0.5 / of_class[y];
      std::fill(dout.begin(), dout.end(), 0.0);
      add(dout.data(), dz, row(table, 3, i));
      add(row(grad, 3, i), dz, out.data());
      D = dot(dout.data(), out.data());
      for (Index j = 0; j < n; ++j) {
        const double weight = p[static_cast<std::size_t>(j)];
        const double ds = scale * weight * (dot(dout.data(), row(table, 2, first + j)) - D);
        add(row(grad, 0, i), ds, row(table, 1, first + j));
        add(row(grad, 1, first + j), ds, row(table, 0, i));
        add(row(grad, 2, first + j), weight, dout.data());
      }
    }
    const double t = static_cast<double>(step + 1), b1 = 1 - std::pow(0.9, t), b2 = 1 - std::pow(0.98, t);
    for (std::size_t a = 0; a < table.size() && rate > 0; ++a) {
      mu[a] = 0.9 * mu[a] + 0.1 * grad[a];
      nu[a] = 0.98 * nu[a] + 0.02 * grad[a] * grad[a];
      table[a] -= rate * (mu[a] / b1) / (std::sqrt(nu[a] / b2) + 1e-8);
    }
    return right;
  }
};

// Three tokens whose sum is 0: C. Sanford et al., "Representational Strengths and Limitations of Transformers" (2023).
TEST(KronAttention, SeesTriplesThatPlainAttentionMisses) {
  Context ctx;
  const Index modulus = 31, n = 8, width = 8, batch = 8, steps = 300;
  Matches m{modulus, n};
  double plain[2];
  for (const bool triple : {false, true}) {
    PlainFit fit(modulus, n, width);
    for (Index s = 0; s < steps; ++s) {
      m.draw(batch);
      fit.run(m.x, triple ? m.triple : m.pair, s < steps / 2 ? 0.05 : 0.01, s);
    }
    m.draw(100);
    plain[triple] = fit.run(m.x, triple ? m.triple : m.pair, 0, 0);
  }
  EXPECT_GT(plain[0], 0.9);  // it can be trained, and finds pairs; of chance is 0.5
  EXPECT_LT(plain[1], 0.8);

  // cos(a + b + c) as four products of a cosine or sine of each: the best triple's weight is 1 where it is sharp.
  const double sharp = 3000, turn = 2 * std::numbers::pi / static_cast<double>(modulus);
  const Index tokens = static_cast<Index>(m.x.size());
  Buffer<double> q(tokens * 4), k1(tokens * 4), k2(tokens * 4), out(tokens * 4);
  for (Index i = 0; i < tokens; ++i) {
    const double c = std::cos(turn * static_cast<double>(m.x[static_cast<std::size_t>(i)]));
    const double s = std::sin(turn * static_cast<double>(m.x[static_cast<std::size_t>(i)]));
    const double of_q[] = {c, -c, -s, -s}, of_k1[] = {c, s, c, s}, of_k2[] = {c, s, s, c};
    std::copy_n(of_q, 4, &q[i * 4]);
    std::copy_n(of_k1, 4, &k1[i * 4]);
    std::copy_n(of_k2, 4, &k2[i * 4]);
  }
  const auto heads = [&](Buffer<double>& x) { return Heads(x.data(), {tokens / n, n, 4}); };
  kron_attention<double>(ctx, heads(q), heads(k1), heads(k2), heads(k1), heads(k2), heads(out), {.scale = sharp});
  Index right = 0;
  for (Index i = 0; i < tokens; ++i) {
    double score = 0;  // q_i·out_i: the mean of cos(a + b + c)
    for (Index c = 0; c < 4; ++c) score += q[i * 4 + c] * out[i * 4 + c];
    right += (score > (1 + std::cos(turn)) / 2) == m.triple[static_cast<std::size_t>(i)];
  }
  EXPECT_EQ(right, tokens);
}

/// A layer with its factors and gradients; weights of a given size.
struct Lora {
  Index n, in, d, r;
  std::vector<Buffer<double>> memory;
  MatrixView<double> X, dO, out;
  nn::LoraAttention<double> layer;
  nn::LoraAttentionGradient<double> to;
  MatrixView<double> factors[6], gradients[6];

  Lora(Index batch, Index heads, Index tokens, Index inputs, Index width, Index rank, double size)
      : n(batch * tokens), in(inputs), d(heads * width), r(rank) {
    memory.reserve(32);
    const auto take = [&](Index rows, Index cols, double scale) {
      memory.push_back(random_buffer<double>(rows * cols, memory.size() + 1));
      for (auto& v : memory.back()) v *= scale;
      return MatrixView<double>(memory.back().data(), rows, cols);
    };
    const double even = size / std::sqrt(static_cast<double>(in));
    X = take(n, in, 1);
    dO = take(n, d, 1);
    out = take(n, d, 1);
    const auto projection = [&](nn::LoraProjection<double>& p, nn::LoraGradient<double>& g, int at) {
      p = {take(d, in, even), factors[at] = take(r, in, even), factors[at + 1] = take(d, r, 1)};
      g = {gradients[at] = take(r, in, 1), gradients[at + 1] = take(d, r, 1)};
    };
    projection(layer.q, to.q, 0);
    projection(layer.k, to.k, 2);
    projection(layer.v, to.v, 4);
    layer.alpha = 0.7;
    layer.batch = batch;
    layer.heads = heads;
  }
  static std::span<double> span(MatrixView<double> x) { return {x.data(), static_cast<std::size_t>(x.size())}; }
};

TEST(AttentionLora, ExactGradient) {
  Context ctx;
  for (const bool causal : {false, true}) {
    Lora x(2, 2, 5, 6, 3, 2, 1.5);
    x.layer.attention.causal = causal;
    nn::attention_lora_grad<double>(ctx, x.X, x.layer, x.dO, x.to);
    for (int f = 0; f < 6; ++f)
      test::expect_gradient("factor", x.span(x.factors[f]), x.span(x.gradients[f]), [&] {
        nn::attention_lora<double>(ctx, x.X, x.layer, x.out);
        return test::inner(VectorView<double>(x.dO.data(), x.dO.size()),
                           VectorView<double>(x.out.data(), x.out.size()));
      });
  }
}

TEST(AttentionLora, LowRankChainIsNearWhereNormsAreSmall) {
  Context one, three = Context::with_threads(3);
  const auto error = [&](double size, Index degree) {  // relative, the largest entry of all factors
    Lora exact(2, 2, 20, 6, 3, 2, size), poly(2, 2, 20, 6, 3, 2, size);
    nn::attention_lora_grad<double>(one, exact.X, exact.layer, exact.dO, exact.to);
    nn::attention_lora_grad_poly<double>(three, poly.X, poly.layer, poly.dO, poly.to, {degree});
    double worst = 0, most = 0;
    for (int f = 0; f < 6; ++f)
      for (std::size_t i = 0; i < exact.span(exact.gradients[f]).size(); ++i) {
        most = std::max(most, std::abs(exact.gradients[f].data()[i]));
        worst = std::max(worst, std::abs(exact.gradients[f].data()[i] - poly.gradients[f].data()[i]));
      }
    Lora again(2, 2, 20, 6, 3, 2, size);
    nn::attention_lora_grad_poly<double>(one, again.X, again.layer, again.dO, again.to, {degree});
    for (int f = 0; f < 6; ++f)
      EXPECT_TRUE(std::ranges::equal(poly.span(poly.gradients[f]), again.span(again.gradients[f])));
    return worst / most;
  };
  const double tiny = error(0.2, 6), small = error(0.4, 6), large = error(1, 6), past = error(1.6, 6);
  EXPECT_LT(tiny, 1e-9);
  EXPECT_LT(small, 1e-5);
  EXPECT_GT(small, 10 * tiny);
  EXPECT_GT(large, 10 * small);
  EXPECT_GT(past, 2 * large);
  EXPECT_LT(error(0.4, 9), small / 10);
  EXPECT_LT(small, error(0.4, 3) / 10);

  std::size_t memory[3];
  for (const int i : {0, 1, 2}) {
    Context ctx;
    Lora x(1, 1, 300 << i, 3, 2, 1, 0.2);
    nn::attention_lora_grad_poly<double>(ctx, x.X, x.layer, x.dO, x.to, {3});
    memory[i] = ctx.workspace.capacity();
  }
  EXPECT_LE(memory[2], 4 * memory[0] + (std::size_t{1} << 16));  // the projected tokens, not their square
  EXPECT_NEAR(nn::attention_lora_poly_flops(8192, 8, 4) / nn::attention_lora_poly_flops(4096, 8, 4), 2, 1e-12);
  EXPECT_NEAR(nn::attention_lora_flops(8192, 8) / nn::attention_lora_flops(4096, 8), 4, 1e-12);

  Lora x(2, 2, 5, 6, 3, 2, 1), other(2, 2, 5, 7, 3, 2, 1);
  EXPECT_THROW(nn::attention_lora_grad<double>(one, other.X, x.layer, x.dO, x.to), shape_error);
  EXPECT_THROW(nn::attention_lora_grad<double>(one, x.X, x.layer, x.dO, other.to), shape_error);
  x.layer.attention.causal = true;
  EXPECT_THROW(nn::attention_lora_grad_poly<double>(one, x.X, x.layer, x.dO, x.to, {3}), unsupported_error);
}

}  // namespace
}  // namespace tessera
