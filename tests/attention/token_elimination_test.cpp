// LeMo: products of kept rows where they lie, blocks in which some tokens take part, predictors of which.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <tessera/attention/token_eliminated_block.hpp>
#include <tessera/attention/token_predictor.hpp>
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
using Bytes = std::vector<std::uint8_t>;

MatrixView<double> matrix(Numbers& x, Index rows) { return {x.data(), rows, rows == 0 ? 0 : x.size() / rows}; }
std::span<double> span(Numbers& x) { return {x.data(), static_cast<std::size_t>(x.size())}; }
/// Runs of `kept` tokens with `gap` dropped between them.
Bytes runs(Index n, Index kept, Index gap, Index first = 0) {
  Bytes mask(static_cast<std::size_t>(n), 0);
  for (Index i = first; i < n; ++i) mask[static_cast<std::size_t>(i)] = (i - first) % (kept + gap) < kept;
  return mask;
}
Bytes joined(Bytes a, const Bytes& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// ---- scores and masks

TEST(ReceivedAttention, IsTheColumnSumsOfTheSoftmax) {
  Context ctx;
  const Index heads = 4, kv_heads = 2, d = 5;
  struct Case {
    Index n, m;
    bool causal;
  };
  for (const auto& [n, m, causal] : {Case{7, 9, true}, Case{131, 140, true}, Case{9, 7, true}, Case{130, 6, false}}) {
    auto q = random_buffer<double>(heads * n * d, 1), k = random_buffer<double>(kv_heads * m * d, 2);
    const View<const double, 3> Q(q.data(), {heads, n, d}), K(k.data(), {kv_heads, m, d});
    Numbers out(heads * n * d), lse(heads * n), got(m), per_query(m), expected(m), seen(m);
    const View<double, 2> L(lse.data(), {heads, n});
    const AttentionOptions options{.scale = {}, .causal = causal};
    attention<double>(ctx, Q, K, K, View<double, 3>(out.data(), {heads, n, d}), options, L);
    double queries = 0;
    for (Index h = 0; h < heads; ++h)
      for (Index i = 0; i < n; ++i) {
        std::vector<double> p;
        double total = 0;
        for (Index j = 0; j < m && (!causal || j <= m - n + i); ++j) {
          double score = 0;
          for (Index c = 0; c < d; ++c) score += Q(h, i, c) * K(h / 2, j, c);
          p.push_back(std::exp(score / std::sqrt(5.0)));
          total += p.back();
        }
        for (std::size_t j = 0; j < p.size(); ++j) expected[static_cast<Index>(j)] += p[j] / total / 4;
        for (std::size_t j = 0; j < p.size() && h == 0; ++j) seen[static_cast<Index>(j)] += 1;
        queries += p.empty() ? 0 : 0.25;
      }
    received_attention<double>(ctx, Q, K, L, VectorView<double>(got.data(), m), options);
    expect_near(got, expected, 1e-12 * static_cast<double>(n), std::to_string(n));
    double sum = 0;
    for (const double x : got) sum += x;
    EXPECT_NEAR(sum, queries, 1e-11 * static_cast<double>(n));
    received_attention<double>(ctx, Q, K, L, VectorView<double>(per_query.data(), m), options, true);
    for (Index j = 0; j < m; ++j) EXPECT_NEAR(per_query[j] * std::max(seen[j], 1.0), got[j], 1e-12);
  }
}

TEST(ReceivedAttention, HoldsNoBufferOfQueriesTimesKeys) {
  std::size_t bytes = 0;
  for (const Index n : {256, 512}) {
    Context one, three = Context::with_threads(3);
    auto q = random_buffer<double>(n * 4, 1);
    const View<const double, 3> Q(q.data(), {1, n, 4});
    Numbers lse(n), a(n), b(n);
    for (auto& x : lse) x = 10;
    const View<const double, 2> L(lse.data(), {1, n});
    received_attention<double>(one, Q, Q, L, VectorView<double>(a.data(), n));
    received_attention<double>(three, Q, Q, L, VectorView<double>(b.data(), n));
    expect_near(a, b, 0);
    EXPECT_TRUE(bytes == 0 || bytes == one.workspace.capacity());
    bytes = one.workspace.capacity();
    EXPECT_LT(bytes, static_cast<std::size_t>(n * n) * sizeof(double));
  }
}

TEST(KeepTokens, TopOfEveryBlockOrWholeBlocks) {
  Numbers s(11);
  const double values[] = {1, 5, 5, 2, 9, 8, 7, std::nan(""), 0, 3, -1};
  std::copy_n(values, 11, s.data());
  const VectorView<const double> scores(s.data(), 11);
  EXPECT_EQ(keep_top(scores, 4, 0.5), (Bytes{0, 1, 1, 0, 1, 1, 0, 0, 1, 1, 0}));
  EXPECT_EQ(keep_top(scores, 4, 0.75), (Bytes{0, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1}));
  EXPECT_EQ(keep_top(scores, 100, 0.1), (Bytes{0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0}));
  EXPECT_EQ(keep_top(scores, 3, 0.0), Bytes(11, 0));
  EXPECT_EQ(keep_top(scores, 3, 1.0), Bytes(11, 1));
  EXPECT_EQ(keep_above(scores, 2, 3.5), (Bytes{0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0}));
  EXPECT_EQ(keep_above(scores, 1, 5.0), (Bytes{0, 1, 1, 0, 1, 1, 1, 0, 0, 0, 0}));
  expect_shape_error("11 scores in blocks of 0", [&] { keep_top(scores, 0, 0.5); });
  expect_shape_error("blocks of 4 with nan", [&] { keep_top(scores, 4, std::nan("")); });
}

TEST(KeptTokens, AreSegments) {
  const KeptTokens kept(Bytes{1, 1, 0, 1, 0, 0, 1, 1});
  const TokenSegment expected[] = {{0, 2}, {3, 1}, {6, 2}}, apart[] = {{0, 1}, {1, 1}, {3, 1}, {6, 2}};
  EXPECT_TRUE(std::equal(kept.segments().begin(), kept.segments().end(), std::begin(expected), std::end(expected)));
  const KeptTokens same(8, apart);
  EXPECT_TRUE(std::equal(kept.segments().begin(), kept.segments().end(), same.segments().begin()));
  EXPECT_EQ(std::vector<Index>(same.rows().begin(), same.rows().end()), (std::vector<Index>{0, 1, 3, 6, 7}));
  const auto refused = [](const std::string& part, Index tokens, std::vector<TokenSegment> segments) {
    expect_shape_error(part, [&] { KeptTokens(tokens, segments); });
  };
  constexpr Index huge = std::numeric_limits<Index>::max();
  refused("segment 1 of 2 from 3 begins before the end of segment 0 of 3 from 1", 8, {{1, 3}, {3, 2}});
  refused("segment 1 of 1 from 0 begins before the end of segment 0 of 1 from 5", 8, {{5, 1}, {0, 1}});
  refused("segment 0 of 3 from 6 is not within 8 tokens", 8, {{6, 3}});
  refused("is not within 8 tokens", 8, {{1, huge}});
  refused("is not within 8 tokens", 8, {{-huge, 2}});
  refused("segment 0 of 0 from 1", 8, {{1, 0}});
}

// ---- products

/// Masks on both sides of the tile of 128 and the 64 rows of a segment that is a product of its own.
std::vector<Bytes> masks() {
  return {Bytes(),
          Bytes(9, 0),
          Bytes(9, 1),
          runs(300, 1, 1),
          runs(300, 2, 1, 1),
          joined(runs(70, 70, 1), joined(runs(150, 1, 2, 1), joined(runs(66, 64, 2), runs(40, 3, 1, 2)))),
          joined(runs(131, 63, 1), runs(90, 1, 5, 4))};
}

TEST(SegmentGatherGemm, IsGatherGemmScatter) {
  Context ctx;
  const Index d = 5, c = 3;
  auto W = random_buffer<double>(d * c, 1);
  for (const auto& mask : masks()) {
    const KeptTokens kept(mask);
    const Index n = kept.tokens(), k = kept.kept();
    auto X = random_buffer<double>(n * d, 2), dY = random_buffer<double>(n * c, 3),
         Xk = random_buffer<double>(k * d, 0);
    Numbers dYk(k * c);
    const auto view = [](Numbers& x, Index rows, Index cols) { return MatrixView<double>(x.data(), rows, cols); };
    for (Index r = 0; r < k; ++r) {
      const Index i = kept.rows()[static_cast<std::size_t>(r)];
      std::copy_n(&X[i * d], d, &Xk[r * d]);
      std::copy_n(&dY[i * c], c, &dYk[r * c]);
    }
    for (const double beta : {0.0, 0.5}) {
      const double fill = beta == 0 ? std::nan("") : 2;  // not read
      Numbers product(k * c), dx(k * d), dw(d * c);
      for (Index i = 0; i < product.size(); ++i) product[i] = beta == 0 ? 0 : beta * fill;
      for (Index i = 0; i < dx.size(); ++i) dx[i] = beta == 0 ? 0 : beta * fill;
      for (Index i = 0; i < dw.size(); ++i) dw[i] = beta == 0 ? 0 : beta * fill;
      gemm<double>(ctx, 1.5, view(Xk, k, d), matrix(W, d), 1, view(product, k, c));
      gemm<double>(ctx, 1, view(dYk, k, c), matrix(W, d).transposed(), 1, view(dx, k, d));
      gemm<double>(ctx, 1, view(Xk, k, d).transposed(), view(dYk, k, c), 1, matrix(dw, d));
      const auto expect_rows = [&](const Numbers& got, bool whole, const Numbers& expected, Index cols) {
        Numbers all(got.size());
        std::fill(all.begin(), all.end(), 7.0);  // rows that pass
        for (Index r = 0; r < k; ++r)
          std::copy_n(expected.data() + r * cols, cols,
                      all.data() + (whole ? kept.rows()[static_cast<std::size_t>(r)] : r) * cols);
        expect_near(got, all, 1e-12, std::to_string(n) + ", " + std::to_string(k));
      };
      const auto start = [&](bool whole, Index cols) {
        Numbers x((whole ? n : k) * cols);
        std::fill(x.begin(), x.end(), 7.0);
        for (Index r = 0; r < k; ++r)
          std::fill_n(x.data() + (whole ? kept.rows()[static_cast<std::size_t>(r)] : r) * cols, cols, fill);
        return x;
      };
      for (const bool x_whole : {true, false})
        for (const bool y_whole : {true, false}) {
          const auto x = view(x_whole ? X : Xk, x_whole ? n : k, d);
          auto y = start(y_whole, c), dX = start(x_whole, d), dW = Numbers(d * c);
          segment_gather_gemm<double>(ctx, 1.5, x, kept, matrix(W, d), beta, view(y, y_whole ? n : k, c));
          expect_rows(y, y_whole, product, c);
          std::fill(dW.begin(), dW.end(), fill);
          segment_gather_gemm_backward<double>(ctx, x, kept, matrix(W, d), view(y_whole ? dY : dYk, y_whole ? n : k, c),
                                               beta, view(dX, x_whole ? n : k, d), beta, matrix(dW, d));
          expect_rows(dX, x_whole, dx, d);
          expect_near(dW, dw, 1e-11, "dW");
        }
    }
  }
}

TEST(SegmentGatherGemm, HoldsNoPermutedCopyAndHasTheSameBitsForAnyThreads) {
  std::size_t bytes = 0;
  for (const Index n : {1000, 3000}) {
    const Index d = 64, c = 64;
    const KeptTokens kept(joined(runs(500, 500, 1), runs(n - 500, 1, 1, 1)));
    auto W = random_buffer<double>(d * c, 1), X = random_buffer<double>(n * d, 2);
    Numbers Y[2], dX[2], dW[2];
    for (const Index threads : {1, 3}) {
      Context ctx = Context::with_threads(threads);
      auto &y = Y[threads / 2], &dx = dX[threads / 2], &dw = dW[threads / 2];
      y = Numbers(n * c);
      dx = Numbers(n * d);
      dw = Numbers(d * c);
      segment_gather_gemm<double>(ctx, 1, matrix(X, n), kept, matrix(W, d), 0, matrix(y, n));
      segment_gather_gemm_backward<double>(ctx, matrix(X, n), kept, matrix(W, d), matrix(y, n), 0, matrix(dx, n), 0,
                                           matrix(dw, d));
      if (threads > 1) continue;
      EXPECT_TRUE(bytes == 0 || bytes == ctx.workspace.capacity());
      bytes = ctx.workspace.capacity();
    }
    expect_near(Y[0], Y[1], 0);
    expect_near(dX[0], dX[1], 0);
    expect_near(dW[0], dW[1], 0);
  }
}

// ---- the block

struct Block {
  nn::EliminatedBlockShape shape;
  Bytes mask;
  bool causal = true;
  const nn::RopeTable<double>* rope = nullptr;
  KeptTokens kept{mask};
  Numbers w = random_buffer<double>(shape.parameter_count(), 5),
          X = random_buffer<double>(kept.tokens() * shape.channels, 6), Y = X;
  nn::KeptActivations<double> saved = {};

  Index n() const { return kept.tokens(); }
  nn::EliminatedBlockOptions<double> options() const { return {causal, rope}; }
  void run(Context& ctx) {  // in place of X's copy
    Y = X;
    nn::token_eliminated_block<double>(ctx, shape, span(w), matrix(Y, n()), kept, matrix(Y, n()), saved, options());
  }
  /// Dense attention in which a query sees the kept keys alone.
  Numbers naive() {
    const auto& s = shape;
    const nn::EliminatedBlockParameters<double> p(s, span(w));
    const Index width = s.projected(), group = s.heads / s.kv_heads;
    Numbers qkv(n() * width), y = X;
    for (Index i = 0; i < n(); ++i)
      for (Index o = 0; o < width; ++o)
        for (Index c = 0; c < s.channels; ++c) qkv[i * width + o] += p.Wqkv(o, c) * X[i * s.channels + c];
    const auto part = [&](Index i, Index head) { return &qkv[i * width + head * s.width]; };
    const auto keeps = [&](Index i) { return mask[static_cast<std::size_t>(i)] != 0; };
    for (Index i = 0; i < n(); ++i)
      for (Index h = 0; h < s.heads && keeps(i); ++h) {
        std::vector<double> o(static_cast<std::size_t>(s.width));
        double total = 0;
        for (Index j = 0; j < (causal ? i + 1 : n()); ++j) {
          if (!keeps(j)) continue;
          double score = 0;
          for (Index e = 0; e < s.width; ++e) score += part(i, h)[e] * part(j, s.heads + h / group)[e];
          const double weight = std::exp(score / std::sqrt(static_cast<double>(s.width)));
          total += weight;
          for (Index e = 0; e < s.width; ++e)
            o[static_cast<std::size_t>(e)] += weight * part(j, s.heads + s.kv_heads + h / group)[e];
        }
        for (Index c = 0; c < s.channels; ++c)
          for (Index e = 0; e < s.width; ++e)
            y[i * s.channels + c] += p.Wo(c, h * s.width + e) * o[static_cast<std::size_t>(e)] / total;
      }
    return y;
  }
};

TEST(TokenEliminatedBlock, IsDenseAttentionRestrictedToKeptKeys) {
  Context ctx;
  for (const bool causal : {true, false})
    for (const auto& mask : {runs(40, 2, 1), Bytes(9, 1), Bytes(9, 0), joined(runs(70, 70, 1), runs(30, 1, 2, 2))}) {
      Block block{{6, 4, 2, 3}, mask, causal};
      block.run(ctx);
      expect_near(block.Y, block.naive(), 1e-10, std::to_string(block.n()));
      for (Index i = 0; i < block.n(); ++i)
        for (Index c = 0; c < 6 && mask[static_cast<std::size_t>(i)] == 0; ++c)
          EXPECT_EQ(block.Y[i * 6 + c], block.X[i * 6 + c]);
      EXPECT_EQ(block.saved.bytes(),
                sizeof(double) * static_cast<std::size_t>(block.kept.kept() * (6 + 2 * (4 + 2) * 3 + 4)));
    }
}

TEST(TokenEliminatedBlock, OfAllTokensIsTheDenseBlock) {
  Context ctx;
  const nn::RopeTable<double> rope(4, 50);
  Block block{{6, 4, 2, 4}, Bytes(50, 1), true, &rope};
  block.run(ctx);
  const nn::EliminatedBlockParameters<double> w(block.shape, span(block.w));
  Numbers qkv(50 * 32), O(50 * 16), Y = block.X;
  gemm<double>(ctx, 1, matrix(block.X, 50), w.Wqkv.transposed(), 0, matrix(qkv, 50));
  nn::rope<double>(ctx, rope, matrix(qkv, 50).slice(1, 0, 24));
  const auto heads = [&](Index first, Index count) {
    return nn::split_heads(matrix(qkv, 50).slice(1, first * 4, count * 4), 1, count);
  };
  nn::attention<double>(ctx, heads(0, 4), heads(4, 2), heads(6, 2), nn::split_heads(matrix(O, 50), 1, 4),
                        AttentionOptions{.scale = {}, .causal = true});
  gemm<double>(ctx, 1, matrix(O, 50), w.Wo.transposed(), 1, matrix(Y, 50));
  expect_near(block.Y, Y, 0);
}

TEST(TokenEliminatedBlock, GradientsAreDerivatives) {
  Context ctx;
  const nn::RopeTable<double> rope(2, 9);
  for (const bool causal : {true, false}) {
    Block block{{3, 4, 2, 2}, {1, 0, 1, 1, 0, 1, 0, 0, 1}, causal, causal ? &rope : nullptr};
    const auto dY = random_buffer<double>(block.X.size(), 7);
    auto dX = dY, dw = random_buffer<double>(block.w.size(), 8);
    const auto before = dw;
    block.run(ctx);
    nn::token_eliminated_block_backward<double>(ctx, block.shape, span(block.w), block.kept, block.saved, matrix(dX, 9),
                                                matrix(dX, 9), 0.5, span(dw), block.options());
    for (Index i = 0; i < dw.size(); ++i) dw[i] -= 0.5 * before[i];
    const auto loss = [&] {
      block.run(ctx);
      return test::inner(dY, block.Y);
    };
    test::expect_gradient("parameters", span(block.w), span(dw), loss);
    test::expect_gradient("X", span(block.X), span(dX), loss);
  }
  Block none{{3, 2, 1, 2}, Bytes(4, 0)};
  auto dX = none.X, dw = none.w;
  none.run(ctx);
  nn::token_eliminated_block_backward<double>(ctx, none.shape, span(none.w), none.kept, none.saved, matrix(dX, 4),
                                              matrix(dX, 4), 2, span(dw));
  expect_near(dX, none.X, 0);
  for (Index i = 0; i < dw.size(); ++i) EXPECT_EQ(dw[i], 2 * none.w[i]);
}

TEST(TokenEliminatedBlock, HasTheSameBitsForAnyThreads) {
  Numbers Y[2], dX[2], dw[2];
  for (const Index threads : {1, 3}) {
    Context ctx = Context::with_threads(threads);
    Block block{{256, 2, 1, 8}, joined(runs(260, 260, 1), runs(30, 1, 1))};
    for (auto& x : block.w) x *= 0.1;
    block.run(ctx);
    auto &dx = dX[threads / 2], &grads = dw[threads / 2];
    dx = Y[threads / 2] = block.Y;
    grads = Numbers(block.w.size());
    nn::token_eliminated_block_backward<double>(ctx, block.shape, span(block.w), block.kept, block.saved,
                                                matrix(dx, 290), matrix(dx, 290), 0, span(grads));
  }
  expect_near(Y[0], Y[1], 0);
  expect_near(dX[0], dX[1], 0);
  expect_near(dw[0], dw[1], 0);
}

// ---- predictors

TEST(TokenPredictor, GradientsAreDerivatives) {
  Context ctx;
  for (const auto unit : {nn::PredictorUnit::silu, nn::PredictorUnit::relu})
    for (const Index rank : {1, 3}) {
      const nn::PredictorShape shape{4, rank, unit};
      auto w = random_buffer<double>(shape.parameter_count(), 11), X = random_buffer<double>(7 * 4, 12);
      const Bytes mask{1, 0, 0, 1, 1, 0, 1};
      Numbers dw(w.size()), dX(X.size()), p(7), unused(w.size());
      const auto loss = [&] {
        return nn::token_predictor_loss<double>(ctx, shape, span(w), matrix(X, 7), mask, 0, span(unused));
      };
      const double at =
          nn::token_predictor_loss<double>(ctx, shape, span(w), matrix(X, 7), mask, 0, span(dw), matrix(dX, 7));
      test::expect_gradient("parameters", span(w), span(dw), loss);
      test::expect_gradient("X", span(X), span(dX), loss);
      nn::token_predictor<double>(ctx, shape, span(w), matrix(X, 7), VectorView<double>(p.data(), 7));
      double expected = 0;
      for (Index i = 0; i < 7; ++i) expected -= std::log(mask[static_cast<std::size_t>(i)] ? p[i] : 1 - p[i]) / 7;
      EXPECT_NEAR(at, expected, 1e-12);
      nn::token_predictor_loss<double>(ctx, shape, span(w), matrix(X, 7), mask, 2, span(dw));
      nn::token_predictor_loss<double>(ctx, shape, span(w), matrix(X, 7), mask, 0, span(unused));
      for (Index i = 0; i < dw.size(); ++i) EXPECT_NEAR(dw[i], 3 * unused[i], 1e-12);
    }
}

/// Every fourth token has a key that all queries like; the mask is who receives the most attention in a dense block.
struct Pattern {
  static constexpr Index n = 200, channels = 8;
  Numbers X;
  Bytes mask;
  Pattern(Context& ctx, std::uint64_t seed) : X(random_buffer<double>(n * channels, seed)) {
    Block block{{channels, 2, 1, 4}, Bytes(static_cast<std::size_t>(n), 1)};
    for (Index i = 0; i < n; ++i) {
      X[i * channels] = 1;  // of which queries are made
      X[i * channels + 1] = (i + static_cast<Index>(seed)) % 4 == 0 ? 3 : 0;
    }
    const nn::EliminatedBlockParameters<double> w(block.shape, span(block.w));
    for (auto& x : block.w) x *= 0.1;
    for (const Index head : {0, 1}) w.Wqkv(head * 4, 0) = 2;
    w.Wqkv(8, 1) = 2;
    block.X = X;
    block.run(ctx);
    Numbers received(n);
    const VectorView<double> scores(received.data(), n);
    received_attention<double>(ctx, block.saved.q()[0], block.saved.k()[0], block.saved.lse[0], scores,
                               {.scale = {}, .causal = true}, true);
    mask = keep_top<double>(scores, 100, 0.25);
  }
};

TEST(TokenPredictor, LearnsWhoReceivesAttention) {
  Context ctx;
  Pattern train(ctx, 21), fresh(ctx, 22);
  const nn::PredictorShape shape{Pattern::channels, 2};
  auto w = random_buffer<double>(shape.parameter_count(), 23);
  for (auto& x : w) x *= 0.3;
  Numbers dw(w.size()), p(Pattern::n);
  double first = 0, last = 0;
  for (int step = 0; step < 150; ++step) {
    last = nn::token_predictor_loss<double>(ctx, shape, span(w), matrix(train.X, Pattern::n), train.mask, 0, span(dw));
    if (step == 0) first = last;
    for (Index i = 0; i < w.size(); ++i) w[i] -= 2 * dw[i];
  }
  EXPECT_LT(last, 0.5 * first);
  nn::token_predictor<double>(ctx, shape, span(w), matrix(fresh.X, Pattern::n), VectorView<double>(p.data(), p.size()));
  const auto predicted = keep_top<double>(VectorView<const double>(p.data(), p.size()), 100, 0.25);
  Index found = 0;
  for (std::size_t i = 0; i < predicted.size(); ++i) found += predicted[i] != 0 && fresh.mask[i] != 0;
  EXPECT_GE(found, 45) << "of 50";
}

TEST(TokenPredictor, HasTheSameBitsForAnyThreads) {
  Context one, three = Context::with_threads(3);
  const nn::PredictorShape shape{5, 3};
  auto w = random_buffer<double>(shape.parameter_count(), 31), X = random_buffer<double>(600 * 5, 32);
  Numbers p(600), q(600);
  nn::token_predictor<double>(one, shape, span(w), matrix(X, 600), VectorView<double>(p.data(), 600));
  nn::token_predictor<double>(three, shape, span(w), matrix(X, 600), VectorView<double>(q.data(), 600));
  expect_near(p, q, 0);
}

TEST(TokenElimination, ErrorsNameBothOperands) {
  Context ctx;
  Block block{{6, 4, 2, 2}, {1, 0, 1, 0, 1}};
  Numbers x(5 * 6), y(4 * 3), W(6 * 3);
  expect_shape_error("(5x6) * (6x3) and (4x3) with 3 of 5 tokens kept", [&] {
    segment_gather_gemm<double>(ctx, 1, matrix(x, 5), block.kept, matrix(W, 6), 0, matrix(y, 4));
  });
  expect_shape_error("(30x1) into (30x1) with a mask of 5 tokens", [&] {
    nn::token_eliminated_block<double>(ctx, block.shape, span(block.w), matrix(x, 30), block.kept, matrix(x, 30),
                                       block.saved);
  });
  expect_shape_error("3 of 5 tokens kept and activations of 0", [&] {
    nn::token_eliminated_block_backward<double>(ctx, block.shape, span(block.w), block.kept, block.saved, matrix(x, 5),
                                                matrix(x, 5), 0, span(block.w));
  });
  expect_shape_error("4 heads and 3 kv heads", [] { nn::EliminatedBlockShape{6, 4, 3, 2}.parameter_count(); });
  expect_shape_error("size of 1099511627776", [] {
    nn::EliminatedBlockShape{6, Index{1} << 20, 1, Index{1} << 20}.parameter_count();
  });
  expect_shape_error("of 144 parameters: expected 15", [&] {
    nn::token_predictor<double>(ctx, {6, 2}, span(block.w), matrix(x, 5), VectorView<double>(y.data(), 5));
  });
  expect_shape_error("queries (3, 5, 2) over keys (2, 5, 2)", [&] {
    received_attention<double>(ctx, View<const double, 3>(x.data(), {3, 5, 2}),
                               View<const double, 3>(x.data(), {2, 5, 2}), View<const double, 2>(x.data(), {3, 5}),
                               VectorView<double>(y.data(), 5));
  });
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera
