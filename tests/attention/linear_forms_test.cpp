// Attention forms whose cost is linear in the tokens, against the obvious loops.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <tessera/attention/additive_token_mixer_backward.hpp>
#include <tessera/attention/cross.hpp>
#include <tessera/attention/scc_linear.hpp>
#include <tessera/attention/slot_backward.hpp>
#include <vector>

#include "attention/expectations.hpp"
#include "nn/gradient_check.hpp"
#include "support/oracle.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

using test::expect_near;
using test::expect_shape_error;
using test::random_buffer;
using Numbers = Buffer<double>;

MatrixView<double> matrix(Numbers& x, Index rows) { return {x.data(), rows, x.size() / rows}; }
View<double, 3> cube(Numbers& x, Index a, Index b) { return {x.data(), {a, b, x.size() / a / b}}; }
std::span<double> span(Numbers& x) { return {x.data(), static_cast<std::size_t>(x.size())}; }
double sigma(double x) { return 1 / (1 + std::exp(-x)); }
void expect_same_bits(const Numbers& a, const Numbers& b) { expect_near(a, b, 0); }

// ---- spectral correlation

struct Scc {
  Index heads, n, d, dv;
  nn::SccKeys kind;
  Numbers Q = random_buffer<double>(heads * n * d, 1), K = random_buffer<double>(heads * n * d, 2),
          V = random_buffer<double>(heads * n * dv, 3), out = Numbers(V.size());

  View<double, 3> view(Numbers& x) { return cube(x, heads, n); }
  void run(Context& ctx) { nn::scc_linear_attention<double>(ctx, view(Q), view(K), view(V), view(out), kind); }
  std::vector<double> features(const Numbers& x, Index h, bool unit) const {
    std::vector<double> f;
    for (Index i = 0; i < n; ++i) {
      const double* const row = x.data() + (h * n + i) * d;
      double mean = 0, size = 0;
      for (Index c = 0; c < d; ++c) mean += row[c] / static_cast<double>(d);
      for (Index c = 0; c < d; ++c) size += std::pow(row[c] - mean, unit ? 4 : 2);
      for (Index c = 0; c < d; ++c) f.push_back(std::pow(row[c] - mean, 2) / (unit ? std::sqrt(size) : size));
    }
    return f;
  }
  Numbers quadratic() const {
    Numbers y(V.size());
    for (Index h = 0; h < heads; ++h) {
      const bool unit = kind == nn::SccKeys::per_token;
      const auto q = features(Q, h, true);
      auto k = features(K, h, unit);
      for (Index c = 0; c < d && !unit; ++c) {
        double size = 0;
        for (Index i = 0; i < n; ++i) size += std::pow(k[static_cast<std::size_t>(i * d + c)], 2);
        for (Index i = 0; i < n; ++i) k[static_cast<std::size_t>(i * d + c)] /= std::sqrt(size);
      }
      for (Index i = 0; i < n; ++i)
        for (Index j = 0; j < n; ++j) {
          double weight = 0;
          for (Index c = 0; c < d; ++c)
            weight += q[static_cast<std::size_t>(i * d + c)] * k[static_cast<std::size_t>(j * d + c)];
          for (Index e = 0; e < dv; ++e)
            y[(h * n + i) * dv + e] += weight * V[(h * n + j) * dv + e] / std::sqrt(static_cast<double>(n));
        }
    }
    for (Index i = 0; i < V.size(); ++i) y[i] += V[i];
    return y;
  }
};
constexpr nn::SccKeys scc_kinds[] = {nn::SccKeys::per_token, nn::SccKeys::over_tokens};

TEST(SccLinearAttention, IsTheQuadraticForm) {
  Context ctx;
  for (const auto kind : scc_kinds)
    for (Scc scc : {Scc{2, 1, 3, 2, kind}, Scc{1, 530, 7, 4, kind}, Scc{3, 33, 17, 5, kind}}) {
      scc.run(ctx);
      expect_near(scc.out, scc.quadratic(), 1e-11, std::to_string(scc.n));
    }
}

TEST(SccLinearAttention, SeesASpectrumUpToScaleAndOffset) {
  Context ctx;
  for (const auto kind : scc_kinds) {
    Scc scc{1, 40, 9, 3, kind};
    for (Index c = 0; c < 9; ++c) scc.Q[c] = 3;  // of no spectrum: only its value is left
    Scc changed = scc;
    for (Index i = 0; i < 40; ++i)
      for (Index c = 0; c < 9; ++c) {
        const double a = std::pow(10, static_cast<double>(i % 7) - 3) * (i % 2 == 0 ? 1 : -1);
        changed.Q[i * 9 + c] = a * scc.Q[i * 9 + c] + static_cast<double>(i % 3);
        changed.K[i * 9 + c] = -a * scc.K[i * 9 + c] - static_cast<double>(i % 5);
      }
    scc.run(ctx);
    changed.run(ctx);
    expect_near(scc.out, changed.out, kind == nn::SccKeys::per_token ? 1e-9 : 1e-5);
    for (Index e = 0; e < 3; ++e) EXPECT_EQ(scc.out[e], scc.V[e]);
  }
}

TEST(SccLinearAttention, GradientsAreDerivatives) {
  Context ctx;
  for (const auto kind : scc_kinds)
    for (Scc scc : {Scc{2, 6, 4, 3, kind}, Scc{1, 530, 5, 2, kind}}) {
      auto dO = random_buffer<double>(scc.V.size(), 4);
      Numbers dQ(scc.Q.size()), dK(scc.K.size()), dV(scc.V.size());
      nn::scc_linear_attention_backward<double>(ctx, scc.view(scc.Q), scc.view(scc.K), scc.view(scc.V), scc.view(dO),
                                                scc.view(dQ), scc.view(dK), scc.view(dV), kind);
      const auto loss = [&] {
        scc.run(ctx);
        return test::inner(dO, scc.out);
      };
      const auto check = [&](const char* name, Numbers& x, const Numbers& grad) {
        if (scc.n < 100) return test::expect_gradient(name, span(x), {grad.data(), span(x).size()}, loss);
        const auto start = x, way = random_buffer<double>(x.size(), 16);  // the long one along a line
        double at = 0;
        const double slope = test::inner(grad, way);
        test::expect_gradient(name, {&at, 1}, {&slope, 1}, [&] {
          for (Index i = 0; i < x.size(); ++i) x[i] = start[i] + at * way[i];
          return loss();
        });
        x = start;
      };
      check("Q", scc.Q, dQ);
      check("K", scc.K, dK);
      check("V", scc.V, dV);
    }
}

TEST(SccLinearAttention, ScratchIsTheSameForAnyLengthAndBitsForAnyThreads) {
  std::size_t bytes = 0;
  for (const Index n : {1024, 9000}) {
    Context one;
    Scc scc{1, n, 5, 3, nn::SccKeys::over_tokens};
    scc.run(one);
    EXPECT_TRUE(bytes == 0 || bytes == one.workspace.capacity());
    bytes = one.workspace.capacity();
  }
  for (const Index heads : {1, 7}) {
    Context one, three = Context::with_threads(3);
    Scc a{heads, 1000, 40, 3, nn::SccKeys::per_token}, b = a;
    a.run(one);
    b.run(three);
    expect_same_bits(a.out, b.out);
  }
  Context ctx;
  Scc scc{1, 4, 5, 3, nn::SccKeys::per_token};
  expect_shape_error("keys (4, 1, 5)", [&] {
    nn::scc_linear_attention<double>(ctx, scc.view(scc.Q), cube(scc.K, 4, 1), scc.view(scc.V), scc.view(scc.out));
  });
}

// ---- additive token mixer

struct Mixer {
  Index C, H, W;
  Numbers w = random_buffer<double>(nn::AdditiveMixer<double>::parameter_count(C), 5),
          X = random_buffer<double>(C * H * W, 6), Y = Numbers(X.size());

  Channels<double> image(Numbers& x) { return {x.data(), {C, H, W}}; }
  void run(Context& ctx) { nn::additive_token_mixer<double>(ctx, span(w), image(X), image(Y)); }

  using Planes = std::vector<std::vector<double>>;  // channel, pixel
  Planes depthwise(MatrixView<double> K, VectorView<double> b, const Planes& x) const {
    Planes y = x;
    for (Index c = 0; c < C; ++c)
      for (Index at = 0; at < H * W; ++at) {
        double sum = b[c];
        for (Index i = at / W - 1; i <= at / W + 1; ++i)
          for (Index j = at % W - 1; j <= at % W + 1; ++j)
            if (i >= 0 && i < H && j >= 0 && j < W)
              sum += K(c, (i - at / W + 1) * 3 + j - at % W + 1) *
                     x[static_cast<std::size_t>(c)][static_cast<std::size_t>(i * W + j)];
        y[static_cast<std::size_t>(c)][static_cast<std::size_t>(at)] = sum;
      }
    return y;
  }
  Planes pointwise(MatrixView<double> M, const Planes& x) const {
    Planes y(static_cast<std::size_t>(M.rows()), std::vector<double>(x[0].size()));
    for (Index r = 0; r < M.rows(); ++r)
      for (std::size_t c = 0; c < x.size(); ++c)
        for (std::size_t p = 0; p < x[0].size(); ++p)
          y[static_cast<std::size_t>(r)][p] += M(r, static_cast<Index>(c)) * x[c][p];
    return y;
  }
  Planes phi(const nn::AdditiveMixer<double>::Gates& u, Planes x) const {
    auto hidden = depthwise(u.kernel, u.bias, x);
    for (auto& plane : hidden)
      for (auto& v : plane) v = std::max(v, 0.0);
    const auto gate = pointwise(MatrixView<double>(u.gate.data(), 1, C), hidden);
    Planes mean(x.size(), {0.0});
    for (std::size_t c = 0; c < x.size(); ++c)
      for (std::size_t p = 0; p < x[c].size(); ++p) {
        x[c][p] *= sigma(gate[0][p]);
        mean[c][0] += x[c][p] / static_cast<double>(x[c].size());
      }
    const auto channel = pointwise(u.channel, mean);
    for (std::size_t c = 0; c < x.size(); ++c)
      for (auto& v : x[c]) v *= sigma(channel[c][0]);
    return x;
  }
  Numbers naive() {
    const nn::AdditiveMixer<double> m(C, span(w));
    Planes x;
    for (Index c = 0; c < C; ++c) x.emplace_back(X.data() + c * H * W, X.data() + (c + 1) * H * W);
    const auto qkv = pointwise(m.Wqkv, x);
    const auto q = phi(m.q, Planes(qkv.begin(), qkv.begin() + C)),
               k = phi(m.k, Planes(qkv.begin() + C, qkv.begin() + 2 * C));
    for (std::size_t c = 0; c < x.size(); ++c)
      for (std::size_t p = 0; p < x[c].size(); ++p) x[c][p] = q[c][p] + k[c][p];
    x = depthwise(m.dwc, m.dwc_bias, x);
    for (std::size_t c = 0; c < x.size(); ++c)
      for (std::size_t p = 0; p < x[c].size(); ++p) x[c][p] *= qkv[c + 2 * x.size()][p];
    x = depthwise(m.proj, m.proj_bias, x);
    Numbers y(X.size());
    for (Index i = 0; i < y.size(); ++i)
      y[i] = x[static_cast<std::size_t>(i / (H * W))][static_cast<std::size_t>(i % (H * W))];
    return y;
  }
};

TEST(AdditiveTokenMixer, IsItsLoops) {
  Context ctx;
  for (Mixer mixer : {Mixer{5, 6, 7}, Mixer{3, 1, 1}, Mixer{9, 11, 2}, Mixer{1, 1, 13}}) {
    mixer.run(ctx);
    expect_near(mixer.Y, mixer.naive(), 1e-10, std::to_string(mixer.C));
  }
  Mixer mixer{4, 3, 3};
  expect_shape_error("(4, 3, 3)", [&] {
    nn::additive_token_mixer<double>(ctx, span(mixer.w), mixer.image(mixer.X), {mixer.Y.data(), {4, 9, 1}});
  });
  expect_shape_error("AdditiveMixer of 36 parameters: expected 248", [&] {
    nn::additive_token_mixer<double>(ctx, span(mixer.X), mixer.image(mixer.X), mixer.image(mixer.Y));
  });
}

TEST(AdditiveTokenMixer, GradientsAreDerivatives) {
  Context ctx;
  for (Mixer mixer : {Mixer{3, 4, 5}, Mixer{2, 1, 1}}) {
    for (auto& v : mixer.w) v *= 0.5;
    auto dY = random_buffer<double>(mixer.X.size(), 7);
    Numbers dX(dY.size()), dw(mixer.w.size());
    const auto loss = [&] {
      mixer.run(ctx);
      return test::inner(dY, mixer.Y);
    };
    const auto backward = [&](double beta) {
      nn::additive_token_mixer_backward<double>(ctx, span(mixer.w), mixer.image(mixer.X), mixer.image(dY),
                                                mixer.image(dX), beta, span(dw));
    };
    for (auto& v : dw) v = NAN;
    backward(0);
    test::expect_gradient("X", span(mixer.X), span(dX), loss);
    test::expect_gradient("parameters", span(mixer.w), span(dw), loss);
    auto twice = dw;
    for (auto& v : twice) v *= 2;
    backward(1);
    expect_near(dw, twice, 1e-12 * 100);
  }
}

TEST(AdditiveTokenMixer, ScratchIsLinearInPixelsAndBitsTheSameForAnyThreads) {
  std::size_t bytes[2];
  for (const Index i : {0, 1}) {
    Context ctx;
    Mixer mixer{2, 64 + 64 * i, 64};
    mixer.run(ctx);
    bytes[i] = ctx.workspace.capacity();
    EXPECT_LT(bytes[i],
              static_cast<std::size_t>(4 * 7 * mixer.X.size()) * sizeof(double));  // an N x N takes 292 times that
  }
  EXPECT_LT(static_cast<double>(bytes[1]), 2.3 * static_cast<double>(bytes[0]));
  Context one, three = Context::with_threads(3);
  Mixer a{9, 70, 60}, b = a;
  a.run(one);
  b.run(three);
  expect_same_bits(a.Y, b.Y);
  Numbers dX(a.X.size()), dw(a.w.size()), dX3(a.X.size()), dw3(a.w.size());
  nn::additive_token_mixer_backward<double>(one, span(a.w), a.image(a.X), a.image(a.Y), a.image(dX), 0, span(dw));
  nn::additive_token_mixer_backward<double>(three, span(a.w), a.image(a.X), a.image(a.Y), a.image(dX3), 0, span(dw3));
  expect_same_bits(dX, dX3);
  expect_same_bits(dw, dw3);
}

// ---- slots

struct Slots {
  nn::SlotShape shape;
  Index N, S;
  nn::SlotOptions options = {};
  Numbers w = random_buffer<double>(shape.parameter_count(), 8), X = random_buffer<double>(N * shape.inputs, 9),
          slots = random_buffer<double>(S * shape.width, 10), result = Numbers(slots.size()), A = Numbers(S * N);

  void run(Context& ctx) {
    nn::slot_attention<double>(ctx, shape, span(w), matrix(X, N), matrix(slots, S), matrix(result, S), options,
                               matrix(A, S));
  }
  static std::vector<double> norm(const double* x, VectorView<double> gain, VectorView<double> bias, double eps) {
    const Index n = gain.extent(0);
    double mean = 0, variance = 0;
    for (Index i = 0; i < n; ++i) mean += x[i] / static_cast<double>(n);
    for (Index i = 0; i < n; ++i) variance += (x[i] - mean) * (x[i] - mean) / static_cast<double>(n);
    std::vector<double> y;
    for (Index i = 0; i < n; ++i) y.push_back((x[i] - mean) / std::sqrt(variance + eps) * gain[i] + bias[i]);
    return y;
  }
  static std::vector<double> times(MatrixView<double> M, const std::vector<double>& x, VectorView<double> b = {}) {
    std::vector<double> y;
    for (Index i = 0; i < M.rows(); ++i) {
      y.push_back(b.data() == nullptr ? 0 : b[i]);
      for (Index j = 0; j < M.cols(); ++j) y.back() += M(i, j) * x[static_cast<std::size_t>(j)];
    }
    return y;
  }
  /// One iteration on `slots`, as algorithm 1 says it.
  Numbers naive() {
    const nn::SlotParameters<double> p(shape, span(w));
    const auto d = static_cast<std::size_t>(shape.width);
    std::vector<std::vector<double>> queries, weights, values;
    for (Index s = 0; s < S; ++s)
      queries.push_back(times(p.Wq, norm(&slots[s * shape.width], p.slot_gain, p.slot_bias, options.norm_eps)));
    for (Index n = 0; n < N; ++n) {
      const auto x = norm(&X[n * shape.inputs], p.input_gain, p.input_bias, options.norm_eps);
      const auto key = times(p.Wk, x);
      values.push_back(times(p.Wv, x));
      std::vector<double> row;
      double sum = 0;
      for (const auto& q : queries) {
        double score = 0;
        for (std::size_t i = 0; i < d; ++i) score += q[i] * key[i];
        row.push_back(std::exp(score / std::sqrt(static_cast<double>(d))));
        sum += row.back();
      }
      for (auto& v : row) v = v / sum + options.eps;
      weights.push_back(row);
    }
    Numbers y(slots.size());
    for (std::size_t s = 0; s < static_cast<std::size_t>(S); ++s) {
      std::vector<double> u(d), h(&slots[0] + s * d, &slots[0] + (s + 1) * d);
      double mass = 0;
      for (const auto& row : weights) mass += row[s];
      for (std::size_t n = 0; n < values.size(); ++n)
        for (std::size_t i = 0; i < d; ++i) u[i] += weights[n][s] / mass * values[n][i];
      const auto a = times(p.Wi, u, p.bi), b = times(p.Wh, h, p.bh);
      for (std::size_t i = 0; i < d; ++i) {
        const double r = sigma(a[i] + b[i]), z = sigma(a[d + i] + b[d + i]);
        h[i] = (1 - z) * std::tanh(a[2 * d + i] + r * b[2 * d + i]) + z * h[i];
      }
      auto hidden = times(p.W1, norm(h.data(), p.mlp_gain, p.mlp_bias, options.norm_eps), p.b1);
      for (auto& v : hidden) v = std::max(v, 0.0);
      const auto more = times(p.W2, hidden, p.b2);
      for (std::size_t i = 0; i < d; ++i) y[static_cast<Index>(s * d + i)] = h[i] + more[i];
    }
    return y;
  }
};

TEST(SlotAttention, IsItsAlgorithm) {
  Context ctx;
  for (Slots slots : {Slots{{5, 4, 6}, 9, 3}, Slots{{1, 2, 1}, 1, 1}, Slots{{3, 17, 5}, 2050, 2}}) {
    slots.options.eps = 1e-3;
    Slots steps = slots;
    slots.options.iterations = 2;
    slots.run(ctx);
    for (int t = 0; t < 2; ++t) steps.slots = steps.naive();
    expect_near(slots.result, steps.slots, 1e-9, std::to_string(slots.N));
    for (Index n = 0; n < slots.N; ++n) {
      double sum = 0;
      for (Index s = 0; s < slots.S; ++s) sum += slots.A[s * slots.N + n];
      EXPECT_NEAR(sum, 1, 1e-14);
    }
  }
  Slots none{{3, 4, 5}, 6, 2};
  none.options.iterations = 0;
  none.run(ctx);
  expect_same_bits(none.slots, none.result);
  expect_shape_error("inputs (3x6), slots (2x4)", [&] {
    nn::slot_attention<double>(ctx, none.shape, span(none.w), matrix(none.X, 3), matrix(none.slots, 2),
                               matrix(none.result, 2));
  });
}

TEST(SlotAttention, PermutesWithItsSlotsAndNotWithItsInputs) {
  Context ctx;
  Slots slots{{5, 4, 6}, 12, 3}, turned = slots;
  for (Index i = 0; i < slots.slots.size(); ++i) turned.slots[i] = slots.slots[(i + 4) % slots.slots.size()];
  for (Index i = 0; i < slots.X.size(); ++i) turned.X[i] = slots.X[(i + 35) % slots.X.size()];
  slots.run(ctx);
  turned.run(ctx);
  for (Index i = 0; i < slots.slots.size(); ++i)
    EXPECT_NEAR(turned.result[i], slots.result[(i + 4) % slots.slots.size()], 1e-11);
}

TEST(SlotAttention, BindsASlotToACluster) {
  Context ctx;
  const Index d = 8, S = 4;
  Slots slots{{d, d, 1}, 80, S};
  const nn::SlotParameters<double> p(slots.shape, span(slots.w));
  slots.options.iterations = 5;
  for (auto& v : slots.w) v = 0;
  for (const auto& gain : {p.input_gain, p.slot_gain, p.mlp_gain})
    for (Index i = 0; i < d; ++i) gain[i] = 1;
  for (Index i = 0; i < d; ++i) {
    p.Wq(i, i) = p.Wk(i, i) = 3;
    p.Wv(i, i) = 0.3;
    p.Wi(2 * d + i, i) = 1;
    p.bi[d + i] = -4;  // the update gate lets the new state through
  }
  for (Index n = 0; n < slots.N; ++n)
    for (Index i = 0; i < d; ++i) slots.X[n * d + i] = 0.1 * slots.X[n * d + i] + (n % S == i / 2 ? 1.0 : 0.0);
  slots.run(ctx);
  std::vector<Index> owner;
  for (Index n = 0; n < slots.N; ++n) {
    Index best = 0;
    for (Index s = 1; s < S; ++s)
      if (slots.A[s * slots.N + n] > slots.A[best * slots.N + n]) best = s;
    EXPECT_GT(slots.A[best * slots.N + n], 0.9) << n;
    owner.push_back(best);
    EXPECT_EQ(best, owner[static_cast<std::size_t>(n % S)]) << n;
  }
  for (std::size_t a = 0; a < S; ++a)
    for (std::size_t b = 0; b < a; ++b) EXPECT_NE(owner[a], owner[b]);
}

TEST(SlotAttention, GradientsAreDerivatives) {
  Context ctx;
  Slots slots{{4, 3, 5}, 7, 3};
  slots.options.eps = 1e-2;
  auto dresult = random_buffer<double>(slots.result.size(), 11);
  Numbers dX(slots.X.size()), dslots(slots.slots.size()), dw(slots.w.size());
  const auto loss = [&] {
    slots.run(ctx);
    return test::inner(dresult, slots.result);
  };
  const auto backward = [&](double beta) {
    nn::slot_attention_backward<double>(ctx, slots.shape, span(slots.w), matrix(slots.X, 7), matrix(slots.slots, 3),
                                        matrix(dresult, 3), matrix(dX, 7), matrix(dslots, 3), beta, span(dw),
                                        slots.options);
  };
  for (auto& v : dw) v = NAN;
  backward(0);
  test::expect_gradient("X", span(slots.X), span(dX), loss);
  test::expect_gradient("slots", span(slots.slots), span(dslots), loss);
  test::expect_gradient("parameters", span(slots.w), span(dw), loss);
  auto twice = dw;
  for (auto& v : twice) v *= 2;
  backward(1);
  expect_near(dw, twice, 1e-12 * 100);
}

TEST(SlotAttention, BitsAreTheSameForAnyThreads) {
  Context one, three = Context::with_threads(3);
  Slots a{{9, 8, 4}, 5000, 3}, b = a;
  a.run(one);
  b.run(three);
  expect_same_bits(a.result, b.result);
  Numbers dX(a.X.size()), dslots(a.slots.size()), dw(a.w.size()), dX3 = dX, dslots3 = dslots, dw3 = dw;
  const auto backward = [&](Context& ctx, Numbers& x, Numbers& s, Numbers& p) {
    nn::slot_attention_backward<double>(ctx, a.shape, span(a.w), matrix(a.X, a.N), matrix(a.slots, 3),
                                        matrix(a.result, 3), matrix(x, a.N), matrix(s, 3), 0, span(p));
  };
  backward(one, dX, dslots, dw);
  backward(three, dX3, dslots3, dw3);
  expect_same_bits(dX, dX3);
  expect_same_bits(dw, dw3);
}

// ---- from one set to another

TEST(CrossAttention, IsItsFormulaWithItsGradient) {
  Context ctx;
  const nn::CrossShape shape{5, 3, 6, 2, 4};
  const Index n = 4, m = 7;
  auto w = random_buffer<double>(shape.parameter_count(), 12), X = random_buffer<double>(n * 5, 13),
       Y = random_buffer<double>(m * 3, 14), dout = random_buffer<double>(n * 4, 15);
  Numbers out(n * 4), dX(X.size()), dY(Y.size()), dw(w.size());
  const auto loss = [&] {
    nn::cross_attention<double>(ctx, shape, span(w), matrix(X, n), matrix(Y, m), matrix(out, n));
    return test::inner(dout, out);
  };
  loss();
  const nn::CrossParameters<double> p(shape, span(w));
  for (Index i = 0; i < n; ++i) {
    const auto row = [](Numbers& x, Index r, Index d) { return std::vector<double>(&x[r * d], &x[r * d] + d); };
    const auto q = Slots::times(p.Wq, row(X, i, 5));
    std::vector<double> mixed(6);
    for (std::size_t h = 0; h < 2; ++h) {
      double sum = 0;
      std::vector<double> part(3);
      for (Index j = 0; j < m; ++j) {
        const auto k = Slots::times(p.Wk, row(Y, j, 3)), v = Slots::times(p.Wv, row(Y, j, 3));
        double score = 0;
        for (std::size_t c = 0; c < 3; ++c) score += q[3 * h + c] * k[3 * h + c] / std::sqrt(3.0);
        sum += std::exp(score);
        for (std::size_t c = 0; c < 3; ++c) part[c] += std::exp(score) * v[3 * h + c];
      }
      for (std::size_t c = 0; c < 3; ++c) mixed[3 * h + c] = part[c] / sum;
    }
    const auto y = Slots::times(p.Wo, mixed);
    for (Index e = 0; e < 4; ++e) EXPECT_NEAR(out[i * 4 + e], y[static_cast<std::size_t>(e)], 1e-12);
  }
  nn::cross_attention_backward<double>(ctx, shape, span(w), matrix(X, n), matrix(Y, m), matrix(dout, n), matrix(dX, n),
                                       matrix(dY, m), 0, span(dw));
  test::expect_gradient("X", span(X), span(dX), loss);
  test::expect_gradient("Y", span(Y), span(dY), loss);
  test::expect_gradient("parameters", span(w), span(dw), loss);
  expect_shape_error("(4x5) to (3x7)", [&] {
    nn::cross_attention<double>(ctx, shape, span(w), matrix(X, n), matrix(Y, 3), matrix(out, n));
  });
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera
