// Masks: exact counts and orders, layer-wise pruning with calibration, random densities, prune and grow on masks and on
// compressed rows, channels by Taylor importance.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include <support/row_major.hpp>
#include <tessera/compress/magnitude.hpp>
#include <tessera/compress/n_of_m.hpp>
#include <tessera/compress/prune_grow.hpp>
#include <tessera/compress/random.hpp>
#include <tessera/compress/sparse_gpt.hpp>
#include <tessera/compress/taylor.hpp>
#include <tessera/matrix/nm.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

using test::random;
using test::view;
using Dense = test::RowMajor<double>;
using DenseF = test::RowMajor<float>;

TEST(Mask, BitsAndCompressedRows) {
  const DenseF W = random<DenseF>(7, 19, 1);
  const Mask all(7, 19, true), mask = random_mask(7, 19, 50, 3);
  EXPECT_EQ(all.count(), 133);
  EXPECT_EQ(mask.count(), 50);
  EXPECT_EQ(mask.bytes(), 24u);
  DenseF masked = W;
  apply_mask(mask, view(masked));
  const auto sparse = masked_csr(mask, view(W));
  EXPECT_EQ(sparse.nnz(), 50);
  EXPECT_TRUE(DenseF(sparse.to_dense()) == masked);
  const DenseF X = random<DenseF>(19, 4, 2);
  DenseF Y(7, 4);
  Context ctx;
  sparse.apply(ctx, Op::none, 1, view(X), 0, view(Y));
  EXPECT_LT((Y - masked * X).cwiseAbs().maxCoeff(), 1e-5);  // the sparse forward is the masked dense one
  EXPECT_THROW(apply_mask(Mask(3, 3, true), view(masked)), shape_error);
  EXPECT_THROW(Mask(Index{1} << 40, Index{1} << 40, false), shape_error);
  EXPECT_THROW(Mask(-1, 2, false), shape_error);
}

TEST(Magnitude, KeepsTheLargest) {
  Dense W = random<Dense>(9, 14, 1);
  W(2, 2) = W(3, 3) = 0.8;
  for (const double density : {0.0, 0.25, 0.5, 1.0}) {
    const Mask all = magnitude_mask<double>(view(W), density),
               rows = magnitude_mask<double>(view(W), density, PruneAmong::row);
    EXPECT_EQ(all.count(), std::llround(density * 126));
    double in = 1e9, out = 0;
    for (Index i = 0; i < 9; ++i) {
      Index kept = 0;
      for (Index j = 0; j < 14; ++j) {
        kept += rows(i, j);
        (all(i, j) ? in : out) = all(i, j) ? std::min(in, std::abs(W(i, j))) : std::max(out, std::abs(W(i, j)));
      }
      EXPECT_EQ(kept, std::llround(density * 14));
    }
    EXPECT_GE(in, out);
  }
  EXPECT_THROW(magnitude_mask<double>(view(W), 1.01), unsupported_error);
}

// On correlated inputs of uneven scale: magnitude loses more of the output than Wanda, Wanda more than SparseGPT.
TEST(LayerWise, MethodsAreInTheirPapersOrder) {
  constexpr Index M = 40, K = 64, N = 400;
  Context ctx;
  const DenseF W = random<DenseF>(M, K, 1), mix = random<DenseF>(K, K, 2) * 0.25f + DenseF(DenseF::Identity(K, K));
  DenseF X = mix * random<DenseF>(K, N, 3);
  for (Index k = 0; k < K; ++k) X.row(k) *= std::exp(0.7f * float(Philox(4).normal(std::uint64_t(k))));
  Calibration calibration(K);
  calibration.add(ctx, view(std::as_const(X)));
  for (const double density : {0.5, 0.25}) {
    const auto magnitude = Magnitude{.density = density}.prune(ctx, view(W), &calibration);
    const auto wanda = Wanda{.density = density}.prune(ctx, view(W), calibration);
    const auto gpt = SparseGpt{.density = density, .batch = 16}.prune(ctx, view(W), calibration);
    EXPECT_EQ(wanda.report.kept, M * std::llround(density * K));
    EXPECT_EQ(gpt.report.kept, M * std::llround(density * K));
    EXPECT_LT(wanda.report.output_error, magnitude.report.output_error);
    EXPECT_LT(gpt.report.output_error, wanda.report.output_error);
    EXPECT_LE(magnitude.report.weight_error, wanda.report.weight_error);
    const DenseF left = gpt.matrix.to_dense();
    EXPECT_NEAR(gpt.report.output_error, double(((W - left) * X).norm() / (W * X).norm()), 1e-4);
    Context threads = Context::with_threads(3);
    const auto again = SparseGpt{.density = density, .batch = 16}.prune(threads, view(W), calibration);
    EXPECT_TRUE(DenseF(again.matrix.to_dense()) == left);
    EXPECT_EQ(magnitude.report.bytes, magnitude.matrix.bytes());
  }
  const auto two_of_four = SparseGpt{.batch = 30, .n = 2, .m = 4}.prune(ctx, view(W), calibration);
  for (Index i = 0; i < M; ++i)
    for (Index j = 0; j < K; j += 4) {
      int kept = 0;
      for (Index t = j; t < j + 4; ++t) kept += two_of_four.mask(i, t);
      EXPECT_EQ(kept, 2);
    }
  for (const Index block : {4, 3}) {  // of 3 the last is of one row
    const auto blocks = SparseGpt{.density = 0.25, .batch = 16, .block = block}.prune(ctx, view(W), calibration);
    for (Index i = 0; i < M; ++i)
      for (Index j = 0; j < K; ++j) EXPECT_EQ(blocks.mask(i, j), blocks.mask(i / block * block, j));
    if (block == 4) {
      EXPECT_EQ(blocks.report.kept, M * K / 4);
    }
    const auto left_as_they_are = detail::pruned(ctx, view(W), blocks.mask, view(W), &calibration);
    EXPECT_LT(blocks.report.output_error, left_as_they_are.report.output_error);
    EXPECT_GT(blocks.report.output_error,
              (SparseGpt{.density = 0.25, .batch = 16}.prune(ctx, view(W), calibration).report.output_error));
  }
  EXPECT_THROW((SparseGpt{.block = 0}.prune(ctx, view(W), calibration)), unsupported_error);
  EXPECT_THROW((SparseGpt{.n = 2, .m = 4, .block = 4}.prune(ctx, view(W), calibration)), unsupported_error);
  EXPECT_TRUE(std::isnan(Magnitude{}.prune(ctx, view(W)).report.output_error));
  EXPECT_THROW(Wanda{}.prune(ctx, view(random<DenseF>(3, 5, 1)), calibration), shape_error);
  EXPECT_THROW((SparseGpt{.n = 5, .m = 4}.prune(ctx, view(W), calibration)), unsupported_error);
}

TEST(NOfM, MasksAndSchedules) {
  Context ctx;
  const Dense W = random<Dense>(5, 22, 1), X = random<Dense>(22, 3, 2);
  for (const auto& [n, m] : {std::pair<Index, Index>{2, 4}, {1, 16}, {0, 3}, {8, 8}}) {
    const Mask mask = nm_mask<double>(view(W), n, m);
    for (Index i = 0; i < 5; ++i)
      for (Index j = 0; j < 22; j += m) {
        Index kept = 0;
        for (Index t = j; t < std::min<Index>(22, j + m); ++t) kept += mask(i, t);
        EXPECT_EQ(kept, std::min(n, std::min<Index>(m, 22 - j)));
      }
    Dense out(5, 22), hard = W;
    decayed_mask<double>(mask, 1, view(W), view(out));
    EXPECT_TRUE(out == W);
    apply_mask(mask, view(hard));
    decayed_mask<double>(mask, 0, view(W), view(out));
    EXPECT_TRUE(out == hard);
    decayed_mask<double>(mask, 0.25, view(W), view(out));
    EXPECT_LT((out - (hard + 0.25 * (W - hard))).cwiseAbs().maxCoeff(), 1e-15);
    if (n == 0) continue;
    Dense Y(5, 3);  // packed it multiplies as the masked weight does
    nm_from_csr(masked_csr(mask, view(W)), n, m).apply(ctx, Op::none, 1, view(X), 0, view(Y));
    EXPECT_LT((Y - hard * X).cwiseAbs().maxCoeff(), 1e-12);
  }
  const MaskDecay linear{.begin = 10, .end = 30}, exponential{.begin = 10, .end = 60, .rate = 0.1};
  EXPECT_EQ(linear(0), 1);
  EXPECT_EQ(linear(20), 0.5);
  EXPECT_EQ(linear(30), 0);
  EXPECT_EQ(exponential(20), std::exp(-1.0));
  EXPECT_EQ(exponential(60), 0);
  const StructureDecay structure{.n = 1, .m = 16, .begin = 0, .end = 40};
  EXPECT_EQ(structure(0), 16);
  EXPECT_EQ(structure(10), 8);
  EXPECT_EQ(structure(39), 2);
  EXPECT_EQ(structure(40), 1);
  constexpr Index least = std::numeric_limits<Index>::min(), most = std::numeric_limits<Index>::max();
  const StructureDecay ages{.n = 1, .m = 16, .begin = least, .end = most};
  EXPECT_EQ(ages(least), 16);
  EXPECT_EQ(ages(-1), 8);
  EXPECT_EQ(ages(0), 4);
  EXPECT_EQ(ages(most - 1), 2);
  EXPECT_EQ((MaskDecay{.begin = least, .end = most})(0), 0.5);
  EXPECT_THROW(nm_mask<double>(view(W), 5, 4), unsupported_error);
}

TEST(RandomMasks, CountsAreExactAndErdosRenyiFavoursSmallLayers) {
  const std::vector<LayerShape> layers{{64, 3, 3, 3}, {128, 64, 3, 3}, {10, 128}, {300, 300}};
  for (const double density : {0.0, 0.02, 0.1, 0.5, 0.9, 1.0}) {
    Index all = 0, sum[2] = {0, 0};
    const auto erk = erdos_renyi_counts(layers, density), uniform = uniform_counts(layers, density);
    for (std::size_t l = 0; l < layers.size(); ++l) {
      all += layers[l].size();
      sum[0] += erk[l];
      sum[1] += uniform[l];
      EXPECT_LE(erk[l], layers[l].size());
      EXPECT_NEAR(double(uniform[l]), density * double(layers[l].size()), 1);
    }
    EXPECT_EQ(sum[0], std::llround(density * double(all)));
    EXPECT_EQ(sum[1], sum[0]);
    if (density == 0.02) {  // none is full: (in + out + height + width) / (in·out·height·width) of a size is the sum
      const double sides[] = {73, 198, 138, 600};  // (in + out) for matrices
      for (std::size_t l = 0; l < layers.size(); ++l) EXPECT_NEAR(double(erk[l]), double(sum[0]) * sides[l] / 1009, 1);
    }
    if (density == 0.1) {
      EXPECT_GT(double(erk[2]) / 1280, 3 * double(erk[1]) / double(layers[1].size()));
    }
  }
  // Each place as likely: of 3000 masks of 5 of 20, 750 ± 5 deviations hold a place.
  std::vector<int> held(20);
  for (std::uint64_t seed = 0; seed < 3000; ++seed) {
    const Mask mask = random_mask(4, 5, 5, seed);
    for (Index p = 0; p < 20; ++p) held[std::size_t(p)] += mask[p];
  }
  for (const int h : held) EXPECT_NEAR(h, 750, 5 * std::sqrt(3000 * 0.25 * 0.75));
  EXPECT_THROW(random_mask(2, 2, 5, 0), unsupported_error);
  EXPECT_THROW(uniform_counts(layers, -0.1), unsupported_error);
}

TEST(PruneGrow, CountsStayAndTheRightOnesMove) {
  Dense W = random<Dense>(12, 20, 1);
  const Dense gradient = random<Dense>(12, 20, 2);
  const auto view_of_gradient = view(gradient);
  Mask mask = random_mask(12, 20, 60, 3);
  const Mask frozen = random_mask(12, 20, 30, 4);
  apply_mask(mask, view(W));
  for (const bool by_gradient : {true, false}) {
    const Mask before = mask;
    const Dense old = W;
    const Index moved = PruneGrow{.fraction = 0.25, .seed = 7}.step<double>(
        mask, view(W), by_gradient ? &view_of_gradient : nullptr, &frozen);
    EXPECT_EQ(mask.count(), 60);
    EXPECT_GT(moved, 5);
    Index dropped = 0, grown = 0;
    double least_kept = 1e9, most_dropped = 0, least_grown = 1e9, most_left = 0;
    for (Index p = 0; p < mask.size(); ++p) {
      const double w = std::abs(old.data()[p]), g = std::abs(gradient.data()[p]);
      if (frozen[p]) {
        EXPECT_EQ(mask[p], before[p]);
        EXPECT_EQ(W.data()[p], old.data()[p]);
        continue;
      }
      dropped += before[p] && !mask[p];
      grown += !before[p] && mask[p];
      if (before[p])
        (mask[p] ? least_kept : most_dropped) = mask[p] ? std::min(least_kept, w) : std::max(most_dropped, w);
      if (!before[p]) (mask[p] ? least_grown : most_left) = mask[p] ? std::min(least_grown, g) : std::max(most_left, g);
      EXPECT_EQ(W.data()[p], before[p] && mask[p] ? old.data()[p] : 0.0);  // what grows begins at 0
    }
    EXPECT_EQ(dropped, moved);
    EXPECT_EQ(grown, moved);
    EXPECT_GE(least_kept, most_dropped);
    if (by_gradient) {
      EXPECT_GE(least_grown, most_left);
    }
  }
  const auto at_random = [&, start = mask](std::uint64_t seed) {
    Mask grown = start;
    Dense w = W;
    PruneGrow{.fraction = 0.25, .seed = seed}.step<double>(grown, view(w));
    return grown;
  };
  EXPECT_TRUE(at_random(1) == at_random(1));
  EXPECT_FALSE(at_random(1) == at_random(2));
  EXPECT_THROW(PruneGrow{.fraction = 2}.step<double>(mask, view(W)), unsupported_error);
}

// A planted sparse regression y = A x with 10% of weights: growing by the gradient finds the support, a static mask
// does not.
TEST(DynamicSparse, FindsAPlantedSupport) {
  constexpr Index M = 8, K = 50, N = 300;
  const Mask planted = random_mask(M, K, M * K / 10, 1);
  Dense truth = random<Dense>(M, K, 2);
  truth = truth.array().sign() + truth.array();
  apply_mask(planted, view(truth));
  const Dense X = random<Dense>(K, N, 3), Y = truth * X;
  Context ctx;
  double found[2], error[2];
  for (const bool dynamic : {false, true}) {
    const Dense zero = Dense::Zero(M, K);
    Csr<double> W = masked_csr(random_mask(M, K, M * K / 10, 9), view(zero));
    Dense out(M, N);
    for (int step = 0; step < 400; ++step) {
      W.apply(ctx, Op::none, 1, view(X), 0, view(out));
      const Dense residual = (out - Y) / double(N), gradient = residual * X.transpose();
      std::vector<double> dW(std::size_t(W.nnz()));
      W.grad(ctx, view(X), view(residual), 0, dW);
      for (std::size_t e = 0; e < dW.size(); ++e) W.values()[e] -= 0.3 * dW[e];
      if (dynamic && step % 10 == 9 && step < 300) {
        const std::vector<DynamicLayer<double>> layers{{&W, view(gradient)}};
        dynamic_sparse_update<double>(layers, 0.3 * (1 - step / 300.0));  // at a constant rate it would end unsettled
        EXPECT_EQ(W.nnz(), M * K / 10);
      }
    }
    const Dense left = W.to_dense();
    found[dynamic] = 0;
    for (Index i = 0; i < M; ++i)
      for (auto e = std::size_t(W.row_ptr()[std::size_t(i)]); e < std::size_t(W.row_ptr()[std::size_t(i) + 1]); ++e)
        found[dynamic] += planted(i, W.col_idx()[e]) ? 1.0 / double(M * K / 10) : 0.0;
    error[dynamic] = (left - truth).norm() / truth.norm();
  }
  EXPECT_LT(found[0], 0.4);
  EXPECT_GT(found[1], 0.95);
  EXPECT_LT(error[1], 0.2 * error[0]);
}

TEST(DynamicSparse, LayersTradeWeights) {
  Dense a = 0.01 * random<Dense>(5, 6, 1), b = random<Dense>(4, 7, 2);
  Csr<double> A = masked_csr(random_mask(5, 6, 15, 3), view(std::as_const(a))),
              B = masked_csr(random_mask(4, 7, 10, 4), view(std::as_const(b)));
  const Dense da = Dense::Constant(5, 6, 0.1), db = Dense::Constant(4, 7, 1);
  const Csr<double> before = B;
  const Dense held = A.to_dense();
  const std::vector<DynamicLayer<double>> layers{{&A, view(da)}, {&B, view(db)}};
  EXPECT_EQ(dynamic_sparse_update<double>(layers, 0.2), 5);
  EXPECT_EQ(A.nnz(), 10);  // the small weights were here, the large gradients there
  EXPECT_EQ(B.nnz(), 15);
  EXPECT_TRUE(Dense(B.to_dense()) == Dense(before.to_dense()));  // what grew is 0
  const Dense left = A.to_dense();
  Index gone = 0;
  for (Index p = 0; p < left.size(); ++p) {
    gone += left.data()[p] != held.data()[p];
    EXPECT_TRUE(left.data()[p] == held.data()[p] || left.data()[p] == 0);
  }
  EXPECT_EQ(gone, 5);
}

// Z. Chen et al.'s criterion on F(x) = W2 relu(W1 x), where it is to be shown: a perfect match has no gradient, the
// disturbed one has; pruning half the hidden channels by it loses less than by random and by magnitude.
TEST(Taylor, DisturbedEmbeddingsRankChannels) {
  constexpr Index in = 12, hidden = 32, out = 10, N = 200;
  Dense W1 = random<Dense>(hidden, in, 1), W2 = random<Dense>(out, hidden, 2);
  for (Index h = 0; h < hidden; ++h) {  // large weights before small ones: magnitude of the first layer misleads
    const double s = std::exp(Philox(3).normal(std::uint64_t(h)));
    W1.row(h) *= s;
    W2.col(h) *= std::exp(Philox(4).normal(std::uint64_t(h))) / s;
  }
  const Dense X = random<Dense>(in, N, 5), pre = W1 * X, H = pre.cwiseMax(0), F = W2 * H;
  const auto importance = [&](const Dense& dF) {
    const Dense dW2 = dF * H.transpose(),
                dW1 = Dense((W2.transpose() * dF).array() * (pre.array() > 0).cast<double>()) * X.transpose();
    std::vector<double> all;
    std::vector<Index> group;
    for (const auto* p : {&W1, &W2}) {
      const auto part = taylor_importance<double>({p->data(), std::size_t(p->size())},
                                                  {(p == &W1 ? dW1 : dW2).data(), std::size_t(p->size())});
      all.insert(all.end(), part.begin(), part.end());
    }
    for (Index p = 0; p < W1.size(); ++p) group.push_back(p / in);
    for (Index p = 0; p < W2.size(); ++p) group.push_back(p % hidden);
    EXPECT_EQ(*std::max_element(all.begin(), all.end()) > 0, dF.norm() > 0);
    return important_channels<double>(all, group, hidden, hidden / 2);
  };
  const auto error = [&](const std::vector<Index>& kept) {
    Dense left = Dense::Zero(out, N);
    for (const Index h : kept) left += W2.col(h) * H.row(h);
    return (left - F).norm() / F.norm();
  };
  importance(Dense::Zero(out, N));  // F - F: nothing
  Dense dF(out, N);
  disturbed_gradient<double>(0.1, 11, {dF.data(), std::size_t(dF.size())});
  EXPECT_NEAR(dF.norm() * double(dF.size()) / 2 / 0.1, std::sqrt(double(dF.size())), 2);
  const double taylor = error(importance(dF));
  const Eigen::VectorXd size = W1.rowwise().norm();
  std::vector<Index> order(hidden);
  std::iota(order.begin(), order.end(), Index{0});
  std::sort(order.begin(), order.end(), [&](Index a, Index b) { return size[a] > size[b]; });
  EXPECT_LT(taylor, error({order.begin(), order.begin() + hidden / 2}));
  double random_error = 0;
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    const Mask mask = random_mask(1, hidden, hidden / 2, seed);
    std::vector<Index> kept;
    for (Index h = 0; h < hidden; ++h)
      if (mask[h]) kept.push_back(h);
    random_error += error(kept) / 10;
  }
  EXPECT_LT(taylor, random_error);
  const std::vector<double> two(2), three(3);
  EXPECT_THROW(taylor_importance<double>(two, three), shape_error);
}

// NaN is no order's friend: the largest of all, and never the best.
TEST(Masks, NanCountsAsTheLargest) {
  Dense W = Dense::Constant(40, 50, 1);
  for (Index p = 0; p < W.size(); ++p) W.data()[p] = p % 3 == 0 ? std::nan("") : static_cast<double>(p % 17);
  const Mask mask = magnitude_mask<double>(view(W), 0.5);
  EXPECT_EQ(mask.count(), 1000);
  double dropped = 0, kept = 100;
  for (Index p = 0; p < W.size(); ++p) {
    const double x = W.data()[p];
    if (std::isnan(x)) {
      EXPECT_TRUE(mask[p]);
      continue;
    }
    (mask[p] ? kept : dropped) = mask[p] ? std::min(kept, x) : std::max(dropped, x);
  }
  EXPECT_LE(dropped, kept);
}

TEST(SparseGpt, RefusesDampingThatIsNoNumber) {
  const Eigen::MatrixXd gram = Eigen::MatrixXd::Identity(8, 8);
  Buffer<float> w(64);
  const auto seen = Calibration::from_gram(gram, 1);
  for (const double damping : {std::nan(""), std::numeric_limits<double>::infinity(), -1.0})
    EXPECT_THROW(
        (SparseGpt{.damping = damping}.prune(default_context(), MatrixView<const float>(w.data(), 8, 8), seen)),
        unsupported_error);
  EXPECT_NO_THROW(
      (SparseGpt{.batch = Index{1} << 40}.prune(default_context(), MatrixView<const float>(w.data(), 8, 8), seen)));
}

template <class F>
std::string refusal(F&& f) {
  try {
    f();
  } catch (const error& e) {
    return e.what();
  }
  return "";
}
TEST(SharedCounts, RefuseWhatTheyCannotCount) {
  constexpr Index big = Index{1} << 52, most = std::numeric_limits<Index>::max();
  EXPECT_EQ(refusal([] {
              shared_counts(std::vector<Index>{2, big, big, big}, std::vector<double>(4, 1), 1);
            }),
            "tessera: shared_counts of 4 layers, the first 3 of more than 2^53 entries: expected at most that, which "
            "doubles count");
  EXPECT_THROW(shared_counts(std::vector<Index>{most, most}, std::vector<double>{1, 1}, 1), unsupported_error);
  for (const double density : {0.3, 0.7, 1.0}) {  // the total is exact however quotients round
    const auto count = shared_counts(std::vector<Index>{big, big - 1, 1}, std::vector<double>{1, 0.1, 3}, density);
    EXPECT_EQ(count[0] + count[1] + count[2], std::llround(density * 2 * static_cast<double>(big)));
  }
  EXPECT_EQ(refusal([] {
              LayerShape{most, 2, 1, 1}.size();
            }),
            "tessera: LayerShape 9223372036854775807x2 of kernels 1x1: expected sides of 0 or more, and entries that "
            "an index counts");
  EXPECT_THROW((LayerShape{-1, -1}.size()), shape_error);
  EXPECT_EQ(erdos_renyi_counts(std::vector<LayerShape>{{0, most, most, 1}, {4, 5}}, 1), (std::vector<Index>{0, 20}));
}

TEST(SharedCounts, RefuseInfiniteRatios) {
  const std::vector<Index> sizes{10, 10};
  EXPECT_THROW(shared_counts(sizes, std::vector<double>{1, std::numeric_limits<double>::infinity()}, 0.5),
               unsupported_error);
}

}  // namespace
}  // namespace tessera
