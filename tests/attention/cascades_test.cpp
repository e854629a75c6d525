// Exact attention by cascades of einsums, by a plan of words moved, and in blocks.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <tessera/attention/block_transformer.hpp>
#include <tessera/attention/cascades.hpp>
#include <tessera/attention/io_planner.hpp>
#include <tessera/core/executor.hpp>
#include <vector>

#include "support/oracle.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

struct Problem {
  Problem(Index heads_, Index kv_heads_, Index n_, Index m_, Index d_)
      : heads(heads_),
        kv_heads(kv_heads_),
        n(n_),
        m(m_),
        d(d_),
        q(random_buffer<double>(heads * n * d, 1)),
        k(random_buffer<double>(kv_heads * m * d, 2)),
        v(random_buffer<double>(kv_heads * m * d, 3)),
        out(heads * n * d) {}
  View<const double, 3> Q() const { return {q.data(), {heads, n, d}}; }
  View<const double, 3> K() const { return {k.data(), {kv_heads, m, d}}; }
  View<const double, 3> V() const { return {v.data(), {kv_heads, m, d}}; }
  View<double, 3> O() { return {out.data(), {heads, n, d}}; }
  Buffer<double> dense(bool causal) const {
    Buffer<double> result(out.size());
    Context ctx;
    attention(ctx, Q(), K(), V(), View<double, 3>(result.data(), {heads, n, d}), {.scale = {}, .causal = causal});
    return result;
  }
  Index heads, kv_heads, n, m, d;
  Buffer<double> q, k, v, out;
};

double distance(const Buffer<double>& a, const Buffer<double>& b) {
  double worst = 0;
  for (Index i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
  return worst;
}

bool equal(const Buffer<double>& a, const Buffer<double>& b) { return std::equal(a.begin(), a.end(), b.begin()); }

template <int Passes>
void expect_cascade(bool causal) {
  Context one, three = Context::with_threads(3);
  const EinsumCascade cascade = attention_cascade<Passes>();
  EXPECT_EQ(count_passes(cascade), Passes);
  for (const Index m : {0, 1, 63, 130}) {
    Problem p(4, 2, 3, m, 7);
    const auto expected = p.dense(causal);
    const CascadeCounts counts = attention_einsum_cascade<Passes>(one, p.Q(), p.K(), p.V(), p.O(), {{}, causal}, 16);
    EXPECT_LT(distance(p.out, expected), 1e-12) << Passes << " passes over " << m;
    const auto first = p.out;
    attention_einsum_cascade<Passes>(three, p.Q(), p.K(), p.V(), p.O(), {{}, causal}, 16);
    EXPECT_TRUE(equal(p.out, first));
    if (m == 0) continue;
    EXPECT_EQ(counts.passes, Passes);  // one loop nest a pass
    EXPECT_EQ(counts.divisions, Passes == 3 ? m : p.d);
    if (Passes == 3) continue;  // its sequence rank is m, not (m1, m0)
    EXPECT_EQ(counts.held, cascade.live_words({{"m1", (m + 15) / 16}, {"m0", 16}, {"p", 1}, {"f", p.d}}));
  }
}

TEST(EinsumCascade, ThreeTwoAndOnePassAgree) {
  for (const bool causal : {false, true}) {
    expect_cascade<3>(causal);
    expect_cascade<2>(causal);
    expect_cascade<1>(causal);
  }
}

TEST(EinsumCascade, OnePassHoldsTheSameWhateverTheLength) {
  const auto held = [](auto run) {
    std::vector<Index> words;
    for (const Index m : {16, 160, 800}) {
      Problem p(1, 1, 1, m, 4);
      Context ctx;
      words.push_back(run(ctx, p).held);
    }
    return words;
  };
  const auto three =
      held([](auto& ctx, auto& p) { return attention_einsum_cascade<3>(ctx, p.Q(), p.K(), p.V(), p.O(), {}, 16); });
  const auto two =
      held([](auto& ctx, auto& p) { return attention_einsum_cascade<2>(ctx, p.Q(), p.K(), p.V(), p.O(), {}, 16); });
  const auto one =
      held([](auto& ctx, auto& p) { return attention_einsum_cascade<1>(ctx, p.Q(), p.K(), p.V(), p.O(), {}, 16); });
  EXPECT_EQ(one[0], 2 * 16 + 4 + 4);  // QK, SLN; RNV; LM, RM, PRM, RD
  EXPECT_EQ(one[1], one[0]);
  EXPECT_EQ(one[2], one[0]);
  for (std::size_t i = 0; i < 3; ++i) {
    const Index m = std::vector<Index>{16, 160, 800}[i];
    EXPECT_EQ(two[i], m + 2 * (m / 16) + 2 * 16 + 4 + 3);  // SLN; LM, SLD; QK, SN; SNV; GM, PRM, SD
    EXPECT_EQ(three[i], 2 * m + 3);                        // QK, SN; GM, SD, A
  }
}

TEST(EinsumCascade, PassesFollowFromWhatReadsWhat) {
  const auto passes = [](std::vector<std::string> einsums) {
    return count_passes(EinsumCascade("m", std::move(einsums)));
  };
  EXPECT_EQ(passes({}), 0);
  EXPECT_EQ(passes({"S[p] = sum A[p,k] B[k]"}), 0);
  EXPECT_EQ(passes({"S[p] = sum A[m,p]", "R[p] = S[p] S[p]"}), 1);
  EXPECT_EQ(passes({"S[] = sum A[m]", "B[m] = A[m] - S[]", "V[] = sum B[m] B[m]", "C[m] = B[m] / V[]"}), 3);
  EXPECT_EQ(passes({"S[m+1] = S[m] + A[m]", "B[m] = A[m] S[m+1]"}), 1);  // a running sum
  EXPECT_EQ(passes({"S[m+1] = S[m] + A[m]", "B[m] = A[m] / S[M]"}), 2);  // its end
  // Dividing the sums instead of every weight saves the first cascade a pass.
  EXPECT_EQ(passes({"QK[m,p] = sum Q[e,p] K[e,m]", "GM[p] = max QK[m,p]", "SN[m,p] = exp(QK[m,p] - GM[p])",
                    "SD[p] = sum SN[m,p]", "SNV[f,p] = sum SN[m,p] V[f,m]", "AV[f,p] = SNV[f,p] / SD[p]"}),
            2);
  const auto error = [&](std::vector<std::string> einsums) -> std::string {
    try {
      passes(std::move(einsums));
    } catch (const tessera::error& e) {
      return e.what();
    }
    return "nothing";
  };
  for (const auto& [einsums, part] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"S[p = A[p]"}, "expected a rank"},
           {{"S[p] = A[p"}, "expected ] after ["},
           {{"S[p] = [p]"}, "expected a tensor's name"},
           {{"S[p]"}, "expected OUT"},
           {{""}, "expected OUT"},
           {{"B[m] = S[]", "S[] = A[m]"}, "S is read by \"B[m] = S[]\" before \"S[] = A[m]\" makes it"},
           {{"S[] = A[m]", "S[] = B[m]"}, "S is made by \"S[] = A[m]\" and by \"S[] = B[m]\""},
           {{"S[m] = S[m] + A[m]"}, "S is read by"}})
    EXPECT_NE(error(einsums).find(part), std::string::npos) << error(einsums);
  EXPECT_THROW(attention_cascade<1>().live_words({{"m1", 2}}), unsupported_error);
}

template <class T>
void expect_exp(T from, T to, Index steps) {
  using L = std::numeric_limits<T>;
  double worst = 0;
  for (Index i = 0; i <= steps; ++i) {
    const T x = from + (to - from) * static_cast<T>(i) / static_cast<T>(steps);
    const long double exact = std::exp(static_cast<long double>(x));
    int exponent = 0;
    std::frexp(exact, &exponent);
    const long double ulp = std::ldexp(1.0L, std::max(exponent, L::min_exponent) - L::digits);
    worst = std::max(worst, static_cast<double>(std::abs(exp_by_multiply_adds(x) - exact) / ulp));
  }
  EXPECT_LT(worst, 2.0) << from << " to " << to;
  EXPECT_LT(worst, 1.1);
  EXPECT_EQ(exp_by_multiply_adds(T(0)), T(1));
  EXPECT_EQ(exp_by_multiply_adds(-L::infinity()), T(0));
  EXPECT_EQ(exp_by_multiply_adds(L::infinity()), L::infinity());
  EXPECT_EQ(exp_by_multiply_adds(L::lowest()), T(0));
  EXPECT_TRUE(std::isnan(exp_by_multiply_adds(L::quiet_NaN())));
}

TEST(EinsumCascade, ExpByMultiplyAddsIsWithinTwoUlp) {
  expect_exp<float>(-110, 88.7f, 200000);
  expect_exp<float>(-1, 1, 50000);
  expect_exp<double>(-750, 709.7, 100000);
  expect_exp<double>(-1, 1, 20000);
}

TEST(AttentionIo, WordsMovedAreThoseOfThePlanAndResultsThoseOfAttention) {
  Context one, three = Context::with_threads(3);
  for (const bool causal : {false, true})
    for (const auto& [n, m, d] : std::vector<std::array<Index, 3>>{{23, 34, 10}, {1, 41, 9}, {20, 1, 3}, {5, 0, 4}}) {
      Problem p(4, 2, n, m, d);
      const auto expected = p.dense(causal);
      for (const Index words :
           {Index{6}, Index{7}, Index{30}, d * d - 1, d * d, 2 * d * d, Index{1000}, Index{100000}}) {
        if (words < io_least_words) continue;
        const IoPlan plan = plan_attention_io(n, m, d, words);
        EXPECT_LE(plan.fast_words, words);
        if (words >= 24) {
          EXPECT_EQ(plan.regime == IoRegime::flash, words >= d * d);
        }
        const IoCount moved = attention_io_tiled(one, p.Q(), p.K(), p.V(), p.O(), words, {{}, causal});
        EXPECT_LT(distance(p.out, expected), 1e-12) << n << ' ' << m << ' ' << d << ", words " << words;
        EXPECT_EQ(moved.loads, 4 * io_words(plan, n, m, d).loads);
        EXPECT_EQ(moved.stores, 4 * io_words(plan, n, m, d).stores);
        const auto first = p.out;
        EXPECT_EQ(attention_io_tiled(three, p.Q(), p.K(), p.V(), p.O(), words, {{}, causal}).words(), moved.words());
        EXPECT_TRUE(equal(p.out, first));
      }
    }
}

/// Words that are moved, counted by running where that is quick: io_words equals it (above).
double moved(Index n, Index d, Index words) {
  return static_cast<double>(io_words(plan_attention_io(n, n, d, words), n, n, d).words());
}

double slope(double x0, double y0, double x1, double y1) { return std::log(y1 / y0) / std::log(x1 / x0); }

TEST(AttentionIo, FollowsTheTwoBoundsAndCrossesNearDSquared) {
  for (const Index d : {64, 128, 256}) {
    const Index n = 1 << 20, square = d * d;
    const double nn = static_cast<double>(n) * static_cast<double>(n), dd = static_cast<double>(d);
    for (Index words = square; words <= 64 * square; words *= 2) {
      const double ratio = moved(n, d, words) / (nn * dd * dd / static_cast<double>(words));
      EXPECT_GT(ratio, 4.0) << d << ' ' << words;
      EXPECT_LT(ratio, 4.4) << d << ' ' << words;
    }
    for (Index words = square / 2; words >= 128; words /= 2) {
      const double root = std::sqrt(static_cast<double>(words));
      const double ratio = (moved(n, d, words) - nn) / (nn * dd / root);  // one word a score is spilled besides
      EXPECT_GT(ratio, 4.0) << d << ' ' << words;
      EXPECT_LT(ratio, 6.1) << d << ' ' << words;
    }
    const double sq = static_cast<double>(square);
    EXPECT_NEAR(slope(sq, moved(n, d, square), 16 * sq, moved(n, d, 16 * square)), -1, 0.02);
    EXPECT_NEAR(slope(sq / 64, moved(n, d, square / 64), sq / 2, moved(n, d, square / 2)), -0.5, 0.09);
    EXPECT_NEAR(slope(1, moved(n, d, square / 4), 2, moved(2 * n, d, square / 4)), 2, 0.01);
    EXPECT_NEAR(slope(1, moved(n, d, 4 * square), 2, moved(2 * n, d, 4 * square)), 2, 0.01);
    // Where one tiling begins to move less than the other, whatever the plan takes.
    double border = 0;
    for (double words = sq / 8; words < 8 * sq && border == 0; words *= 1.02) {
      const Index M = static_cast<Index>(words);
      if (io_words(detail::io_flash(n, n, d, M), n, n, d).words() <=
          io_words(detail::io_blocked(n, n, d, M), n, n, d).words())
        border = words / sq;
    }
    EXPECT_GT(border, 0.5) << d;
    EXPECT_LT(border, 2.0) << d;
  }
}

TEST(AttentionIo, MistakesAreNamed) {
  Context ctx;
  Problem p(4, 2, 3, 5, 4);
  EXPECT_THROW(plan_attention_io(3, 5, 4, 5), unsupported_error);
  EXPECT_THROW(plan_attention_io(-1, 5, 4, 50), shape_error);
  EXPECT_THROW(plan_attention_io(Index{1} << 62, Index{1} << 62, Index{1} << 62, 50), shape_error);
  EXPECT_LE(plan_attention_io(100, 100, 8, std::numeric_limits<Index>::max()).block_q, 100);
  EXPECT_THROW(attention_io_tiled(ctx, p.Q(), p.K().slice(1, 0, 4), p.V(), p.O(), 100), shape_error);
  EXPECT_THROW(attention_io_tiled(ctx, p.Q().slice(0, 0, 3), p.K(), p.V(), p.O(), 100), shape_error);
  EXPECT_THROW(attention_io_tiled(ctx, p.Q(), p.K(), p.V(), p.O().slice(1, 0, 2), 100), shape_error);
  EXPECT_THROW(attention_einsum_cascade<1>(ctx, p.Q(), p.K(), p.V(), p.O(), {}, 0), shape_error);
}

/// X (n, e) through the embedder, global attention of the block vectors (one head), their results as L tokens of
/// context of e channels each, and local attention in which tokens are queries, keys and values.
struct BlockRun {
  BlockRun(Context& ctx, const Buffer<double>& x, const Buffer<double>& seen_by_blocks, Index n, Index e, Index L)
      : context(n / L * L * e), out(n * e) {
    const Index blocks = n / L;
    Buffer<double> embedded(blocks * L * e);
    block_embed<double>(ctx, MatrixView<const double>(seen_by_blocks.data(), n, e), L,
                        MatrixView<double>(embedded.data(), blocks, L * e));
    const View<const double, 3> E(embedded.data(), {1, blocks, L * e});
    block_global_attention(ctx, E, E, E, View<double, 3>(context.data(), {1, blocks, L * e}));
    const View<const double, 3> X(x.data(), {1, n, e}), C(context.data(), {1, blocks * L, e});
    block_local_attention(ctx, X, X, X, C, C, L, L, View<double, 3>(out.data(), {1, n, e}));
  }
  Buffer<double> context, out;
};

TEST(BlockTransformer, IsCausal) {
  Context ctx, three = Context::with_threads(3);
  for (const Index L : {1, 4, 5}) {
    const Index n = 23, e = 6;
    const auto x = random_buffer<double>(n * e, 1);
    const BlockRun base(ctx, x, x, n, e, L), threaded(three, x, x, n, e, L);
    EXPECT_TRUE(equal(base.out, threaded.out));
    for (Index t = 0; t < n; ++t) {
      auto moved_x = x;
      for (Index c = 0; c < e; ++c) moved_x[t * e + c] += 1;
      const BlockRun both(ctx, moved_x, moved_x, n, e, L), global(ctx, x, moved_x, n, e, L);
      const Index next = (t / L + 1) * L;  // the first token of the next block
      for (Index i = 0; i < n; ++i) {
        const auto same = [&](const BlockRun& run) {
          return std::equal(run.out.begin() + i * e, run.out.begin() + (i + 1) * e, base.out.begin() + i * e);
        };
        EXPECT_EQ(same(both), i < t) << L << ' ' << t << ' ' << i;
        EXPECT_EQ(same(global), i < next || t >= n / L * L)
            << L << ' ' << t << ' ' << i;  // through the blocks' vectors
      }
    }
  }
}

TEST(BlockTransformer, BlocksOfOneTokenAreOrdinaryAttentionAndItself) {
  Context ctx;
  Problem p(4, 2, 19, 19, 8);
  const auto ordinary = p.dense(true);
  block_global_attention(ctx, p.Q(), p.K(), p.V(), p.O());
  EXPECT_TRUE(equal(p.out, ordinary));
  block_local_attention(ctx, p.Q(), p.K(), p.V(), {}, {}, 1, 0, p.O());
  for (Index h = 0; h < 4; ++h)
    for (Index i = 0; i < 19; ++i)
      for (Index c = 0; c < 8; ++c) EXPECT_EQ(p.O()(h, i, c), p.V()(h / 2, i, c));
  const auto cost = block_transformer_cost(19, 1, 0, 2);
  EXPECT_EQ(cost.global_bytes, 2 * 19);
  EXPECT_EQ(cost.global_reads, 2 * 10);
  EXPECT_EQ(cost.local_bytes, 2);
  EXPECT_EQ(cost.local_reads, 2);
}

TEST(BlockTransformer, DecodingReadsWhatTheFormulasSay) {
  Context ctx;
  const Index L = 4, C = 2, n = 24, d = 8;
  Problem p(4, 2, n, n, d);
  const auto context = random_buffer<double>(2 * n / L * C * d, 9);
  const View<const double, 3> P(context.data(), {2, n / L * C, d});
  block_local_attention(ctx, p.Q(), p.K(), p.V(), P, P, L, C, p.O());
  // Token by token, from a cache of the context and the block so far.
  Index local = 0, global = 0, local_held = 0;
  Buffer<double> one(4 * d);
  for (Index t = 0; t < n; ++t) {
    const Index first = t / L * L, before = first == 0 ? 0 : C, own = t - first + 1;
    std::vector<double> keys, values;
    for (Index h = 0; h < 2; ++h)
      for (Index j = 0; j < before + own; ++j)
        for (Index c = 0; c < d; ++c) {
          keys.push_back(j < before ? P(h, (t / L - 1) * C + j, c) : p.K()(h, first + j - before, c));
          values.push_back(j < before ? P(h, (t / L - 1) * C + j, c) : p.V()(h, first + j - before, c));
        }
    const View<double, 3> O(one.data(), {4, 1, d});
    attention(ctx, p.Q().slice(1, t, 1), View<const double, 3>(keys.data(), {2, before + own, d}),
              View<const double, 3>(values.data(), {2, before + own, d}), O);
    for (Index h = 0; h < 4; ++h)
      for (Index c = 0; c < d; ++c) EXPECT_NEAR(O(h, 0, c), p.O()(h, t, c), 1e-13);
    const Index bytes = static_cast<Index>((keys.size() + values.size()) * sizeof(double));
    local += bytes;
    local_held = std::max(local_held, bytes);
    if (t % L == L - 1) global += (t + 1) / L * 2 * 2 * d * 8;  // the block's vector attends to all so far
  }
  const double token = 2 * 2 * static_cast<double>(d) * 8, tokens = static_cast<double>(n);
  const auto cost = block_transformer_cost(tokens, L, C, token), all = block_transformer_cost(tokens, 1, 0, token);
  EXPECT_NEAR(cost.local_reads * tokens, static_cast<double>(local), 1e-6);
  EXPECT_NEAR(cost.global_reads * tokens, static_cast<double>(global), 1e-6);
  EXPECT_EQ(cost.local_bytes, static_cast<double>(local_held));
  EXPECT_EQ(cost.global_bytes * L, all.global_bytes);
  const auto long_cost = block_transformer_cost(1 << 20, L, C, token);
  EXPECT_NEAR(block_transformer_cost(1 << 20, 1, 0, token).global_reads / long_cost.global_reads, L * L, 1e-3);
  EXPECT_EQ(long_cost.local_bytes, cost.local_bytes);
}

TEST(BlockTransformer, MistakesNameBothOperands) {
  Context ctx;
  Problem p(4, 2, 8, 8, 4);
  const auto local = [&](const View<const double, 3>& P, Index L, Index C) -> std::string {
    try {
      block_local_attention(ctx, p.Q(), p.K(), p.V(), P, P, L, C, p.O());
    } catch (const shape_error& e) {
      return e.what();
    }
    return "nothing";
  };
  EXPECT_EQ(local(p.K().slice(1, 0, 2), 4, 1), "nothing");
  EXPECT_NE(local(p.K().slice(1, 0, 3), 4, 1).find("keys (2, 8, 4) and context (2, 3, 4)"), std::string::npos);
  EXPECT_NE(local(p.K(), 4, 3), "nothing");
  EXPECT_NE(local(p.K(), 0, 1), "nothing");
  EXPECT_NE(local(p.K(), 4, -1), "nothing");
  EXPECT_THROW(block_embed<double>(ctx, p.K()[0], 4, MatrixView<double>(p.out.data(), 2, 15)), shape_error);
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::test
