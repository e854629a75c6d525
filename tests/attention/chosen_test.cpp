// Attention that knows positions, leaves blocks out, or says how sharp it is.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <tessera/attention/block_top_k.hpp>
#include <tessera/attention/entropy.hpp>
#include <tessera/attention/masks.hpp>
#include <tessera/attention/probabilistic.hpp>
#include <tessera/attention/rope.hpp>
#include <tessera/attention/score_mods.hpp>
#include <vector>

#include "attention/reference.hpp"
#include "nn/gradient_check.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

float worst(const Buffer<float>& a, const Buffer<float>& b) {
  float most = 0;
  for (Index i = 0; i < a.size(); ++i) most = std::max(most, std::isnan(a[i]) ? 1e30f : std::abs(a[i] - b[i]));
  return most;
}

TEST(RopeAttention, IsAttentionOfRotatedQueriesAndKeysAndRelative) {
  Context ctx;
  const nn::RopeTable<float> table(16, 500);
  const AttentionShape shape{4, 2, 30, 90, 16, 8};
  AttentionProblem<float> p(shape, 3), turned(shape, 3);
  nn::rope<float>(ctx, table, MatrixView<float>(turned.q.data(), 4 * 30, 16), 60, 30);
  nn::rope<float>(ctx, table, MatrixView<float>(turned.k.data(), 2 * 90, 16), 0, 90);
  const auto mods = score_mods(Alibi(4));
  rope_attention<float>(ctx, p.Q(), p.K(), p.V(), table, p.out(), mods, {.causal = true}, {p.lse(), {}});
  attention<float>(ctx, turned.Q(), turned.K(), turned.V(), turned.out(), mods, {.causal = true}, {turned.lse(), {}});
  EXPECT_EQ(worst(p.o, turned.o), 0);
  EXPECT_EQ(worst(p.l, turned.l), 0);
  rope_attention<float>(ctx, p.Q(), p.K(), p.V(), table, p.out(), mods, {.causal = true}, {p.lse(), {}}, 400);
  EXPECT_LT(worst(p.o, turned.o), 1e-4f);  // what counts is the distance, not the place
  EXPECT_THROW(rope_attention<float>(ctx, p.Q(), p.K(), p.V(), table, p.out(), mods, {}, {}, 411), shape_error);
  const nn::RopeTable<float> narrow(8, 500);
  EXPECT_THROW(rope_attention<float>(ctx, p.Q(), p.K(), p.V(), narrow, p.out(), mods), shape_error);
}

TEST(ProbabilisticBlocks, CertainIsCausalAndTheDiagonalStays) {
  Context ctx;
  const AttentionShape shape{2, 1, 200, 200, 8, 8};
  AttentionProblem<float> p(shape, 5), exact(shape, 5);
  const auto certain = [](Index) { return 1.0; };
  attention<float>(ctx, exact.Q(), exact.K(), exact.V(), exact.out(), score_mods(), {.causal = true},
                   {exact.lse(), {}});
  attention<float>(ctx, p.Q(), p.K(), p.V(), p.out(), score_mods(ProbabilisticBlocks(certain, 1, 32)), {},
                   {p.lse(), {}});
  EXPECT_EQ(worst(p.o, exact.o), 0);
  const ProbabilisticBlocks falling([](Index distance) { return std::pow(0.5, static_cast<double>(distance)); }, 7, 16);
  const AnyMask mask(falling);
  attention<float>(ctx, p.Q(), p.K(), p.V(), p.out(), score_mods(mask), {}, {p.lse(), p.entropy()});
  AttentionExpectation<float>(p, AnyMod(), mask).compare(p);  // rows are normalised over what is seen
  Index met = 0;
  for (Index i = 0; i < 4000; ++i) {
    EXPECT_TRUE(falling.meet(0, 0, i, i));
    EXPECT_FALSE(falling.meet(0, 0, i, i + 1));
    met += falling.meet(0, 0, i + 2, i);
  }
  EXPECT_NEAR(static_cast<double>(met) / 4000, 0.25, 0.03);
  const ProbabilisticBlocks never([](Index) { return 0.0; }, 7, 16);  // blocks of the diagonal alone
  attention<float>(ctx, p.Q(), p.K(), p.V(), p.out(), score_mods(never), {}, {p.lse(), p.entropy()});
  for (Index i = 0; i < 200; i += 16) EXPECT_EQ(p.entropy()(0, i), 0);  // sees itself only
  EXPECT_THROW(ProbabilisticBlocks(certain, 1, 0), shape_error);
}

TEST(AttentionEntropy, HasItsBounds) {
  Context ctx;
  AttentionProblem<float> p({2, 1, 70, 130, 8, 8}, 4);
  attention_with_entropy<float>(ctx, p.Q(), p.K(), p.V(), p.out(), p.entropy(), score_mods(), {.causal = true});
  for (Index i = 0; i < 70; ++i) {
    EXPECT_GE(p.entropy()(1, i), -1e-5f);
    EXPECT_LE(p.entropy()(1, i), std::log(static_cast<float>(61 + i)) + 1e-5f);
  }
  for (Index j = 0; j < 130; ++j)
    for (Index c = 0; c < 8; ++c) p.k[j * 8 + c] = static_cast<float>(c);
  attention_with_entropy<float>(ctx, p.Q(), p.K(), p.V(), p.out(), p.entropy(), score_mods());
  for (Index i = 0; i < 70; ++i) EXPECT_NEAR(p.entropy()(0, i), std::log(130.0f), 1e-5f);
}

TEST(AttentionEntropy, RegulariserHasItsGradient) {
  auto H = random_buffer<double>(3 * 5, 1);
  Buffer<double> theta(3), dH(15), dtheta(3);
  theta[0] = 0.2;  // its mean entropy is far below most·theta + margin: penalised or free by place
  theta[1] = 0.9;
  theta[2] = 0.0;
  const auto loss = [&] {
    return entropy_reg<double>(View<const double, 2>(H.data(), {3, 5}), VectorView<const double>(theta.data(), 3), 0.1,
                               2.0, View<double, 2>(dH.data(), {3, 5}), VectorView<double>(dtheta.data(), 3));
  };
  EXPECT_GT(loss(), 0);
  const Buffer<double> gH = dH, gtheta = dtheta;
  expect_gradient("H", H, gH, loss);
  expect_gradient("theta", theta, gtheta, loss);
  for (Index i = 0; i < 15; ++i) H[i] = 0.4;
  theta[0] = theta[1] = theta[2] = 0.2;
  EXPECT_EQ(loss(), 0);
  EXPECT_THROW(
      entropy_reg<double>(View<const double, 2>(H.data(), {3, 5}), VectorView<const double>(theta.data(), 2), 0, 1),
      shape_error);
}

struct Kept {
  AttentionProblem<float> p;
  Buffer<float> means;
  Kept(const AttentionShape& shape, Index block, std::uint64_t seed)
      : p(shape, seed), means(shape.kv_heads * ((shape.m + block - 1) / block) * shape.d) {}
  View<float, 3> M(Index block) {
    return {means.data(), {p.shape.kv_heads, (p.shape.m + block - 1) / block, p.shape.d}};
  }
};

TEST(BlockTopK, AllBlocksAreEverythingAndErrorFallsWithK) {
  Context ctx;
  for (const Index block : {16, 48, 64, 100}) {
    SCOPED_TRACE(block);
    Kept x({4, 2, 1, 1000, 16, 12}, block, 3), exact({4, 2, 1, 1000, 16, 12}, block, 3);
    block_means<float>(ctx, x.p.K(), block, x.M(block));
    attention<float>(ctx, exact.p.Q(), exact.p.K(), exact.p.V(), exact.p.out());
    block_top_k_attention<float>(ctx, x.p.Q(), x.p.K(), x.p.V(), x.M(block), block, 1000, x.p.out(), {},
                                 {x.p.lse(), {}});
    EXPECT_LT(worst(x.p.o, exact.p.o), 1e-6f);
    double before = std::numeric_limits<double>::infinity();
    for (const Index part : {8, 4, 2, 1}) {
      const Index blocks = (1000 + block - 1) / block;
      block_top_k_attention<float>(ctx, x.p.Q(), x.p.K(), x.p.V(), x.M(block), block, std::max<Index>(1, blocks / part),
                                   x.p.out());
      double error = 0;
      for (Index i = 0; i < x.p.o.size(); ++i) error += std::pow(static_cast<double>(x.p.o[i] - exact.p.o[i]), 2);
      EXPECT_LT(error, before);
      before = error;
    }
    // Keys and values in bf16, read where they lie, are what they are widened to.
    const auto half = [](const Buffer<float>& from) {
      std::vector<bf16> to;
      for (Index i = 0; i < from.size(); ++i) to.push_back(bf16(from[i]));
      return to;
    };
    const auto k16 = half(x.p.k), v16 = half(x.p.v);
    for (Index i = 0; i < x.p.k.size(); ++i) exact.p.k[i] = static_cast<float>(k16[static_cast<std::size_t>(i)]);
    for (Index i = 0; i < x.p.v.size(); ++i) exact.p.v[i] = static_cast<float>(v16[static_cast<std::size_t>(i)]);
    const View<const bf16, 3> K(k16.data(), x.p.K().extents()), V(v16.data(), x.p.V().extents());
    block_means<float>(ctx, K, block, x.M(block));
    block_means<float>(ctx, exact.p.K(), block, exact.M(block));
    EXPECT_EQ(worst(x.means, exact.means), 0);
    block_top_k_attention<float>(ctx, x.p.Q(), K, V, x.M(block), block, 3, x.p.out());
    block_top_k_attention<float>(ctx, exact.p.Q(), exact.p.K(), exact.p.V(), x.M(block), block, 3, exact.p.out());
    EXPECT_LT(worst(x.p.o, exact.p.o), 1e-5f);
  }
}

TEST(BlockTopK, FindsThePlantedBlockAndReadsOnlyWhatItChose) {
  Context ctx;
  const Index block = 64;
  Kept x({2, 1, 1, 64 * 40, 16, 16}, block, 9), exact({2, 1, 1, 64 * 40, 16, 16}, block, 9);
  for (auto* q : {&x, &exact})
    for (Index h = 0; h < 2; ++h)
      for (Index c = 0; c < 16; ++c) q->p.q[h * 16 + c] = q->p.q[c];
  for (auto* q : {&x, &exact})
    for (Index j = 64 * 23; j < 64 * 24; ++j)
      for (Index c = 0; c < 16; ++c) q->p.k[j * 16 + c] += q->p.q[c];
  block_means<float>(ctx, x.p.K(), block, x.M(block));
  attention<float>(ctx, exact.p.Q(), exact.p.K(), exact.p.V(), exact.p.out());
  for (Index j = 0; j < 64 * 39; ++j)  // were another block read, it would show
    if (j / 64 != 23)
      for (Index c = 0; c < 16; ++c) x.p.k[j * 16 + c] = x.p.v[j * 16 + c] = std::nanf("");
  block_top_k_attention<float>(ctx, x.p.Q(), x.p.K(), x.p.V(), x.M(block), block, 2, x.p.out());
  EXPECT_LT(worst(x.p.o, exact.p.o), 1e-2f);
  block_means<float>(ctx, x.p.K(), block, x.M(block));  // blocks that are NaN come last
  block_top_k_attention<float>(ctx, x.p.Q(), x.p.K(), x.p.V(), x.M(block), block, 2, x.p.out());
  EXPECT_LT(worst(x.p.o, exact.p.o), 1e-2f);
  // Costs follow k, not the context.
  const KineticsModel model{8e9, 32, 32, 8, 128};
  EXPECT_DOUBLE_EQ(kinetics_cost(model, 1000, 1000),
                   2 * 8e9 + 4.0 * 32 * 32 * 128 * 1000 + 100 * (2 * 8e9 + 2 * 2.0 * 32 * 8 * 128 * 1000));
  const double at_8k = kinetics_cost(model, 8192, 1024, 64) - kinetics_cost(model, 0, 0);
  const double at_64k = kinetics_cost(model, 65536, 1024, 64) - kinetics_cost(model, 0, 0);
  EXPECT_LT(at_64k, 1.5 * at_8k);
  EXPECT_GT(kinetics_cost(model, 65536, 65536) - kinetics_cost(model, 0, 0), 40 * at_64k);
}

TEST(BlockTopK, MeansOfAGrowingCacheAndErrors) {
  Context ctx;
  const AttentionShape shape{2, 2, 1, 100, 4, 4};
  Kept x(shape, 30, 2), again(shape, 30, 2);
  block_means<float>(ctx, x.p.K(), 30, x.M(30));
  block_means<float>(ctx, again.p.K(), 30, again.M(30));
  for (Index i = 3 * 4; i < 4 * 4; ++i) again.means[i] = 7;
  block_means<float>(ctx, again.p.K(), 30, again.M(30), 3);
  EXPECT_EQ(worst(x.means, again.means), 0);
  EXPECT_THROW(block_means<float>(ctx, x.p.K(), 0, x.M(30)), shape_error);
  EXPECT_THROW(block_means<float>(ctx, x.p.K(), 25, x.M(30).slice(1, 0, 3)), shape_error);
  const auto attend = [&](Index block, Index k, AttentionOptions options = {}) {
    block_top_k_attention<float>(ctx, x.p.Q(), x.p.K(), x.p.V(), x.M(30), block, k, x.p.out(), options);
  };
  EXPECT_THROW(attend(30, 0), shape_error);
  EXPECT_THROW(attend(20, 2), shape_error);
  EXPECT_THROW(attend(30, 2, {.causal = true}), shape_error);
  const auto none = [](auto view) { return view.slice(1, 0, 0); };
  block_top_k_attention<float>(ctx, x.p.Q(), none(x.p.K()), none(x.p.V()), none(x.M(30)), 30, 2, x.p.out(), {},
                               {x.p.lse(), {}});
  EXPECT_EQ(x.p.o[0], 0);
  EXPECT_EQ(x.p.l[0], -std::numeric_limits<float>::infinity());
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::test
