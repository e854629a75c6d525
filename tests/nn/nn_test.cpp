#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <tessera/matrix/dense.hpp>
#include <tessera/nn/nn.hpp>
#include <vector>

#include "nn/gradient_check.hpp"
#include "support/oracle.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

using test::expect_gradient;
using test::inner;
using test::random_buffer;

MatrixView<double> matrix(Buffer<double>& x, Index rows) { return {x.data(), rows, rows == 0 ? 0 : x.size() / rows}; }
VectorView<double> vector(Buffer<double>& x) { return {x.data(), x.size()}; }

TEST(Linear, Gradient) {
  Context ctx;
  Dense<double> W(5, 7);
  const auto draws = random_buffer<double>(35, 1);
  std::copy(draws.begin(), draws.end(), W.parameters().begin());
  auto X = random_buffer<double>(21, 2), dY = random_buffer<double>(15, 3), dX = random_buffer<double>(21, 4);
  Buffer<double> Y(15), dW(35);
  const auto loss = [&] {
    nn::linear(ctx, W, matrix(X, 3), matrix(Y, 3));
    return inner(dY, Y);
  };
  nn::linear_backward(ctx, W, matrix(X, 3), matrix(dY, 3), matrix(dX, 3), 0, dW);
  expect_gradient("X", X, dX, loss);
  expect_gradient("W", W.parameters(), dW, loss);
  const auto once = dX;
  nn::linear_backward(ctx, W, matrix(X, 3), matrix(dY, 3), matrix(dX, 3), 1, dW, 1);
  for (Index i = 0; i < dX.size(); ++i) EXPECT_NEAR(dX[i], 2 * once[i], 1e-12);
}

TEST(Linear, ResidualAndBias) {
  Context ctx;
  Dense<double> W(4, 4);
  for (Index i = 0; i < 4; ++i) W(i, i) = 2;
  auto X = random_buffer<double>(12, 5);
  Buffer<double> Y = X, b(4), db(4);
  nn::linear(ctx, W, matrix(X, 3), matrix(Y, 3), 1);
  for (Index i = 0; i < 12; ++i) EXPECT_DOUBLE_EQ(Y[i], 3 * X[i]);
  for (Index j = 0; j < 4; ++j) b[j] = static_cast<double>(j);
  nn::add_bias<double>(ctx, vector(b), matrix(Y, 3));
  for (Index i = 0; i < 12; ++i) EXPECT_DOUBLE_EQ(Y[i], 3 * X[i] + static_cast<double>(i % 4));
  nn::bias_backward<double>(ctx, matrix(X, 3), 0, vector(db));
  for (Index j = 0; j < 4; ++j) EXPECT_NEAR(db[j], X[j] + X[4 + j] + X[8 + j], 1e-15);
}

TEST(Rmsnorm, Gradient) {
  Context ctx;
  for (Index d : {1, 7, 16, 33}) {
    auto X = random_buffer<double>(3 * d, 1), w = random_buffer<double>(d, 2), dY = random_buffer<double>(3 * d, 3);
    Buffer<double> Y(3 * d), inv(3), dX(3 * d), dw(d);
    const auto loss = [&] {
      nn::rmsnorm<double>(ctx, matrix(X, 3), vector(w), 1e-5, matrix(Y, 3), vector(inv));
      return inner(dY, Y);
    };
    loss();
    nn::rmsnorm_backward<double>(ctx, matrix(X, 3), vector(w), vector(inv), matrix(dY, 3), 0, matrix(dX, 3), 0,
                                 vector(dw));
    expect_gradient("X", X, dX, loss);
    expect_gradient("weight", w, dw, loss);
  }
}

TEST(Layernorm, Gradient) {
  Context ctx;
  for (Index d : {2, 7, 16, 33}) {
    auto X = random_buffer<double>(3 * d, 1), w = random_buffer<double>(d, 2), b = random_buffer<double>(d, 4),
         dY = random_buffer<double>(3 * d, 3);
    Buffer<double> Y(3 * d), mean(3), inv(3), dX(3 * d), dw(d), db(d);
    const auto loss = [&] {
      nn::layernorm<double>(ctx, matrix(X, 3), vector(w), vector(b), 1e-5, matrix(Y, 3), vector(mean), vector(inv));
      return inner(dY, Y);
    };
    loss();
    nn::layernorm_backward<double>(ctx, matrix(X, 3), vector(w), vector(mean), vector(inv), matrix(dY, 3), 0,
                                   matrix(dX, 3), 0, vector(dw), vector(db));
    expect_gradient("X", X, dX, loss);
    expect_gradient("weight", w, dw, loss);
    expect_gradient("bias", b, db, loss);
  }
}

TEST(Rope, MatchesItsDefinitionAndTurnsBack) {
  Context ctx;
  for (Index d : {2, 8, 32, 36}) {
    const Index heads = 3, n = 10, period = 5, offset = 2;
    const nn::RopeTable<double> table(d, 16);
    auto X = random_buffer<double>(n * heads * d, 1);
    const auto before = X;
    nn::rope(ctx, table, matrix(X, n), offset, period);
    for (Index r = 0; r < n; ++r)
      for (Index h = 0; h < heads; ++h)
        for (Index i = 0; i < d / 2; ++i) {
          const double angle = static_cast<double>(offset + r % period) *
                               std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(d));
          const Index at = (r * heads + h) * d + 2 * i;
          EXPECT_NEAR(X[at], before[at] * std::cos(angle) - before[at + 1] * std::sin(angle), 1e-14);
          EXPECT_NEAR(X[at + 1], before[at] * std::sin(angle) + before[at + 1] * std::cos(angle), 1e-14);
        }
    const std::vector<Index> positions{2, 3, 4, 5, 6, 2, 3, 4, 5, 6};
    nn::rope_backward(ctx, table, matrix(X, n), positions);
    for (Index i = 0; i < X.size(); ++i) EXPECT_NEAR(X[i], before[i], 1e-14);
  }
}

TEST(Rope, PositionsOutsideTheTableThrow) {
  Context ctx;
  const nn::RopeTable<double> table(4, 8);
  Buffer<double> X(5 * 4);
  const auto at = [&](Index offset, Index period) { nn::rope(ctx, table, matrix(X, 5), offset, period); };
  EXPECT_NO_THROW(at(3, 0));
  EXPECT_NO_THROW(at(6, 2));
  for (const Index offset : {Index{-1}, Index{4}, Index{8}, std::numeric_limits<Index>::max()})
    EXPECT_THROW(at(offset, 0), shape_error) << offset;
  EXPECT_THROW(nn::rope(ctx, table, matrix(X, 5), std::vector<Index>{0, 1, 2, 3, 8}), shape_error);
  EXPECT_THROW(nn::rope(ctx, table, matrix(X, 5), std::vector<Index>{0, 1, 2, 3}), shape_error);
  EXPECT_THROW(nn::RopeTable<double>(4, Index{1} << 62), shape_error);  // 4 * 2^62 would wrap to 0
}

TEST(Swiglu, Gradient) {
  Context ctx;
  auto g = random_buffer<double>(22, 1), u = random_buffer<double>(22, 2), dY = random_buffer<double>(22, 3);
  Buffer<double> Y(22), dg(22), du(22);
  const auto loss = [&] {
    nn::swiglu<double>(ctx, matrix(g, 2), matrix(u, 2), matrix(Y, 2));
    return inner(dY, Y);
  };
  nn::swiglu_backward<double>(ctx, matrix(g, 2), matrix(u, 2), matrix(dY, 2), matrix(dg, 2), matrix(du, 2));
  expect_gradient("gate", g, dg, loss);
  expect_gradient("up", u, du, loss);
  // Rows with gaps: gate and up side by side in one activation.
  auto both = random_buffer<double>(44, 4);
  const auto sides = matrix(both, 2);
  Buffer<double> Z(22);
  nn::swiglu<double>(ctx, sides.block(0, 0, 2, 11), sides.block(0, 11, 2, 11), matrix(Z, 2));
  for (Index i = 0; i < 2; ++i)
    for (Index j = 0; j < 11; ++j)
      EXPECT_NEAR(Z[i * 11 + j], sides(i, j) / (1 + std::exp(-sides(i, j))) * sides(i, 11 + j), 1e-14);
}

TEST(Embedding, GathersAndScatters) {
  for (Index threads : {1, 2, 3}) {
    auto ctx = Context::with_threads(threads);
    const Index d = 150, n = 40;
    auto table = random_buffer<double>(6 * d, 1), dX = random_buffer<double>(n * d, 2);
    std::vector<nn::Token> tokens;
    for (Index i = 0; i < n; ++i) tokens.push_back(static_cast<nn::Token>(i * i % 6));
    Buffer<double> X(n * d), dT(6 * d), expected(6 * d);
    nn::embedding(ctx, matrix(table, 6), tokens, matrix(X, n));
    nn::embedding_backward<double>(ctx, tokens, matrix(dX, n), matrix(dT, 6));
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < d; ++j) {
        EXPECT_EQ(X[i * d + j], table[tokens[static_cast<std::size_t>(i)] * d + j]);
        expected[tokens[static_cast<std::size_t>(i)] * d + j] += dX[i * d + j];
      }
    for (Index i = 0; i < 6 * d; ++i) EXPECT_EQ(dT[i], expected[i]);
    tokens[3] = 6;
    EXPECT_THROW(nn::embedding(ctx, matrix(table, 6), tokens, matrix(X, n)), shape_error);
  }
}

TEST(CrossEntropy, Gradient) {
  Context ctx;
  auto Z = random_buffer<double>(4 * 9, 1);
  const std::vector<nn::Token> targets{3, 0, -1, 8};
  Buffer<double> dZ(36);
  const auto loss = [&] { return nn::cross_entropy<double>(ctx, matrix(Z, 4), targets).loss; };
  const auto result = nn::cross_entropy<double>(ctx, matrix(Z, 4), targets, matrix(dZ, 4));
  EXPECT_EQ(result.count, 3);
  EXPECT_DOUBLE_EQ(result.loss, loss());
  expect_gradient("logits", Z, dZ, loss);
  for (Index j = 0; j < 9; ++j) EXPECT_EQ(dZ[18 + j], 0);
}

TEST(CrossEntropy, KeepsPrecisionFarFromTheTarget) {
  Context ctx;
  Buffer<float> Z(2);
  Z[0] = 500;
  const std::vector<nn::Token> targets{1};
  EXPECT_EQ(nn::cross_entropy<float>(ctx, {Z.data(), 1, 2}, targets).loss, 500);
}

TEST(CrossEntropy, FusedEqualsPlainOverBlocks) {
  Context ctx;
  const Index n = 150, d = 6, vocabulary = 5000;  // blocks of 64 rows
  Dense<double> W(vocabulary, d);
  const auto draws = random_buffer<double>(vocabulary * d, 1);
  std::copy(draws.begin(), draws.end(), W.parameters().begin());
  auto H = random_buffer<double>(n * d, 2);
  std::vector<nn::Token> targets;
  for (Index i = 0; i < n; ++i) targets.push_back(static_cast<nn::Token>(i % 7 == 3 ? -1 : i * 31 % vocabulary));
  Buffer<double> logits(n * vocabulary), dH(n * d), dW(vocabulary * d), dH2(n * d), dW2(vocabulary * d);
  nn::linear(ctx, W, matrix(H, n), matrix(logits, n));
  const auto plain = nn::cross_entropy<double>(ctx, matrix(logits, n), targets, matrix(logits, n), 0.5);
  nn::linear_backward(ctx, W, matrix(H, n), matrix(logits, n), matrix(dH, n), 0, dW);
  dW2[0] = std::numeric_limits<double>::quiet_NaN();  // beta 0 does not read
  const auto fused = nn::fused_linear_cross_entropy(ctx, W, matrix(H, n), targets, matrix(dH2, n), 0.5, 0, dW2);
  EXPECT_EQ(fused.count, plain.count);
  EXPECT_NEAR(fused.loss, plain.loss, 1e-9);
  for (Index i = 0; i < dH.size(); ++i) ASSERT_NEAR(dH2[i], dH[i], 1e-12);
  for (Index i = 0; i < dW.size(); ++i) ASSERT_NEAR(dW2[i], dW[i], 1e-12);
  const auto forward = nn::fused_linear_cross_entropy(ctx, W, matrix(H, n), targets);
  EXPECT_EQ(forward.loss, fused.loss);
}

TEST(CrossEntropy, FusedGradient) {
  Context ctx;
  Dense<double> W(7, 5);
  const auto draws = random_buffer<double>(35, 1);
  std::copy(draws.begin(), draws.end(), W.parameters().begin());
  auto H = random_buffer<double>(20, 2);
  const std::vector<nn::Token> targets{6, 0, 3, 3};
  Buffer<double> dH(20), dW(35);
  nn::fused_linear_cross_entropy(ctx, W, matrix(H, 4), targets, matrix(dH, 4), 1, 0, dW);
  const auto loss = [&] { return nn::fused_linear_cross_entropy(ctx, W, matrix(H, 4), targets).loss; };
  expect_gradient("H", H, dH, loss);
  expect_gradient("W", W.parameters(), dW, loss);
}

struct AttentionCase {
  Index batch, heads, kv_heads, n, m, d;
  bool causal;
  double scale = 0.4;
};

void PrintTo(const AttentionCase& c, std::ostream* out) {
  *out << c.batch << 'x' << c.heads << '/' << c.kv_heads << 'x' << c.n << '/' << c.m << 'x' << c.d
       << (c.causal ? " causal" : "");
}

class AttentionGradient : public testing::TestWithParam<AttentionCase> {};

TEST_P(AttentionGradient, MatchesDifferences) {
  const auto c = GetParam();
  Context ctx;
  auto Q = random_buffer<double>(c.batch * c.n * c.heads * c.d, 1), dO = random_buffer<double>(Q.size(), 4);
  auto K = random_buffer<double>(c.batch * c.m * c.kv_heads * c.d, 2), V = random_buffer<double>(K.size(), 3);
  Buffer<double> O(Q.size()), dQ(Q.size()), dK(K.size()), dV(K.size()), L(c.batch * c.heads * c.n);
  const auto heads = [&](Buffer<double>& x, Index n, Index count) {
    return nn::split_heads(matrix(x, c.batch * n), c.batch, count);
  };
  const View<double, 3> lse(L.data(), {c.batch, c.heads, c.n});
  const AttentionOptions options{.scale = c.scale, .causal = c.causal};
  const auto loss = [&] {
    nn::attention<double>(ctx, heads(Q, c.n, c.heads), heads(K, c.m, c.kv_heads), heads(V, c.m, c.kv_heads),
                          heads(O, c.n, c.heads), options, lse);
    return inner(dO, O);
  };
  loss();
  for (double& x : dQ) x = std::numeric_limits<double>::quiet_NaN();
  nn::attention_backward<double>(ctx, heads(Q, c.n, c.heads), heads(K, c.m, c.kv_heads), heads(V, c.m, c.kv_heads),
                                 heads(O, c.n, c.heads), lse, heads(dO, c.n, c.heads), heads(dQ, c.n, c.heads),
                                 heads(dK, c.m, c.kv_heads), heads(dV, c.m, c.kv_heads), options);
  expect_gradient("Q", Q, dQ, loss);
  expect_gradient("K", K, dK, loss);
  expect_gradient("V", V, dV, loss);
}

INSTANTIATE_TEST_SUITE_P(Shapes, AttentionGradient,
                         testing::Values(AttentionCase{1, 1, 1, 5, 5, 4, false}, AttentionCase{2, 4, 2, 9, 9, 3, true},
                                         AttentionCase{1, 2, 1, 4, 7, 8, true}, AttentionCase{1, 2, 2, 6, 3, 5, true},
                                         AttentionCase{1, 1, 1, 3, 140, 2, false},
                                         AttentionCase{1, 2, 1, 140, 140, 2, true},
                                         AttentionCase{1, 1, 1, 150, 133, 1, true},
                                         AttentionCase{1, 2, 1, 4, 5, 3, true, 0},
                                         AttentionCase{1, 2, 1, 4, 5, 18, false, -0.3}));

}  // namespace
}  // namespace tessera
