#include <gtest/gtest.h>

#include <Eigen/Core>
#include <Eigen/SVD>
#include <algorithm>
#include <cmath>
#include <complex>
#include <string>
#include <utility>
#include <vector>

#include <tessera/core/rng.hpp>
#include <tessera/matrix/butterfly.hpp>
#include <tessera/matrix/monarch_dft.hpp>
#include <tessera/matrix/slice.hpp>
#include <tessera/project/monarch.hpp>
#include <tessera/project/monarch_chain.hpp>
#include <tessera/project/reverse_sparsify.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

Eigen::MatrixXd gaussian(Index rows, Index cols, std::uint64_t seed) {
  Eigen::MatrixXd A(rows, cols);
  const Philox draws(seed);
  for (Index i = 0; i < A.size(); ++i) A.data()[i] = draws.normal(static_cast<std::uint64_t>(i));
  return A;
}
template <class M>
void randomize(M& m, std::uint64_t seed) {
  const Philox draws(seed);
  std::uint64_t i = 0;
  for (auto& p : m.parameters()) p = draws.normal(i++);
}

TEST(ProjectMonarch, ErrorIsTheTailOfTheSlices) {
  for (const Index rank : {1, 3}) {
    const Eigen::MatrixXd W = gaussian(48, 60, 1);
    const auto [M, report] = project<Monarch<double>>(W, {.row_blocks = 6, .col_blocks = 5, .rank = rank});
    double tail = 0;
    for (Index l = 0; l < 6; ++l)
      for (Index k = 0; k < 5; ++k) {
        const Eigen::VectorXd s =
            Eigen::JacobiSVD<Eigen::MatrixXd>(Projector<Monarch<double>>::slice(W, M.shape(), l, k)).singularValues();
        tail += s.tail(s.size() - rank).squaredNorm();
      }
    EXPECT_NEAR(report.error, std::sqrt(tail), 1e-9 * report.norm);
    EXPECT_EQ(report.bytes, static_cast<double>(M.parameter_count()) * 8);
    EXPECT_LT(report.bytes_ratio(), 1);
  }
}

TEST(ProjectMonarch, RecoversAMonarch) {
  Monarch<double> truth(40, 36, 5, 4, 2);
  randomize(truth, 2);
  const auto [M, report] = project<Monarch<double>>(truth, {.row_blocks = 5, .col_blocks = 4, .rank = 2});
  EXPECT_LT(report.relative_error(), 1e-10);
  const auto single = project<Monarch<float>>(truth, {.row_blocks = 5, .col_blocks = 4, .rank = 2});
  EXPECT_LT(single.report.relative_error(), 1e-6);
}

TEST(ProjectMonarch, NoGradientDescentDoesBetter) {
  const Eigen::MatrixXd W = gaussian(16, 16, 3);
  const double best = project<Monarch<double>>(W, {.row_blocks = 4, .col_blocks = 4}).report.error;
  const Eigen::MatrixXd eye = Eigen::MatrixXd::Identity(16, 16);
  for (std::uint64_t seed = 0; seed < 3; ++seed) {
    Monarch<double> M(16, 16, 4, 4);
    randomize(M, 10 + seed);
    std::vector<double> g(static_cast<std::size_t>(M.parameter_count()));
    Eigen::MatrixXd dY(16, 16);
    for (int step = 0; step < 1500; ++step) {
      dY = M.to_dense() - W;
      M.grad(default_context(), view(eye), view(std::as_const(dY)), 0.0, g);
      for (std::size_t i = 0; i < g.size(); ++i) M.parameters()[i] -= 0.02 * g[i];
    }
    const double fit = (M.to_dense() - W).norm();
    EXPECT_GE(fit, best - 1e-9);
    EXPECT_LT(fit, 1.5 * best) << "descent went nowhere: the comparison says nothing";
  }
}

TEST(ReverseSparsify, GoesOnFromTheSameMatrixToWhereMonarchCannot) {
  const Eigen::MatrixXd W = gaussian(16, 16, 5), eye = Eigen::MatrixXd::Identity(16, 16);
  const auto [M, report] = project<Monarch<double>>(W, {.row_blocks = 4, .col_blocks = 4});  // trained to its optimum
  Dense<double> dense = reverse_sparsify(M);
  const Eigen::VectorXd x = gaussian(16, 1, 6);
  EXPECT_LE((dense * x - M * x).eval().norm(), 1e-14 * M.to_dense().norm() * x.norm());
  const double before = (dense.to_dense() - W).norm();
  EXPECT_NEAR(before, report.error, 1e-12);  // the loss does not jump
  std::vector<double> g(static_cast<std::size_t>(dense.parameter_count()));
  for (int step = 0; step < 50; ++step) {
    const Eigen::MatrixXd dY = dense.to_dense() - W;
    dense.grad(default_context(), view(eye), view(dY), 0.0, g);
    for (std::size_t i = 0; i < g.size(); ++i) dense.parameters()[i] -= 0.2 * g[i];
  }
  EXPECT_LT((dense.to_dense() - W).norm(), 1e-3 * before);
  const Dense<bf16> half = reverse_sparsify<bf16>(M);
  EXPECT_LE((half.to_dense().cast<double>() - M.to_dense()).cwiseAbs().maxCoeff(),
            M.to_dense().cwiseAbs().maxCoeff() / 256);
  EXPECT_EQ(reverse_sparsify(Monarch<double>(0, 4, 1, 2)).rows(), 0);
}

TEST(ProjectMonarch, ReportsShapesThatDoNotFit) {
  EXPECT_THROW(project<Monarch<float>>(gaussian(10, 10, 4), {.row_blocks = 3, .col_blocks = 2}), shape_error);
  EXPECT_THROW(project<MonarchChain<float>>(gaussian(10, 10, 4), {.sizes = {2, 4}}), shape_error);
  EXPECT_THROW(project<MonarchChain<float>>(gaussian(6, 6, 4), {.sizes = {100000, 100000, 100}}), shape_error);
  EXPECT_THROW(project<MonarchChain<float>>(gaussian(6, 6, 4), {.sizes = {6, 0}}), shape_error);
  const Index large = Index{1} << 40;
  EXPECT_THROW(Monarch<float>(large, large, large, large), shape_error);
  EXPECT_THROW(Monarch<float>(4, 4, 2, 2, Index{1} << 61), shape_error);
  EXPECT_THROW(Monarch<float>(0, 0, large, large), shape_error);
  EXPECT_THROW(Butterfly<float>(Index{1} << 60), shape_error);
  EXPECT_THROW(Butterfly<float>(Index{1} << 62), shape_error);
}

TEST(Sizes, ThatCannotBeAreNamed) {
  const auto expect_text = [](const auto& make, const std::string& expected) {
    std::string text = "no error";
    try {
      make();
    } catch (const shape_error& e) {
      text = e.what();
    }
    EXPECT_EQ(text, "tessera: " + expected);
  };
  constexpr Index large = Index{1} << 40;
  const auto monarch = [](Index rows, Index cols, Index row_blocks, Index col_blocks, Index rank) {
    return [=] { const Monarch<double> M(rows, cols, row_blocks, col_blocks, rank); };
  };
  expect_text(monarch(10, 12, 3, 4, 1),
              "Monarch 10x12 of 3 row and 4 column blocks of rank 1: expected row blocks, 1 or more, that divide 10 "
              "rows");
  expect_text(monarch(10, 12, 5, 0, 1),
              "Monarch 10x12 of 5 row and 0 column blocks of rank 1: expected column blocks, 1 or more, that divide "
              "12 columns");
  expect_text(monarch(10, 12, 5, 4, 0),
              "Monarch 10x12 of 5 row and 4 column blocks of rank 0: expected a rank of 1 or more");
  expect_text(monarch(-4, 4, 2, 2, 1),
              "Monarch -4x4 of 2 row and 2 column blocks of rank 1: expected 0 or more rows and columns");
  expect_text(monarch(0, 0, large, large, 1),
              detail::concat("Monarch 0x0 of ", large, " row and ", large,
                             " column blocks of rank 1: their product, the inner size, is too large to count"));
  const auto butterfly = [](Index size) { return [=] { const Butterfly<double> B(size); }; };
  expect_text(butterfly(12), "Butterfly 12x12: expected a power of two, as 8 or 16");
  expect_text(butterfly(-2), "Butterfly -2x-2: expected a power of two from 1 to 2^62");
  expect_text(butterfly(large << 20), detail::concat("Butterfly ", detail::shape_text(large << 20, large << 20),
                                                     ": its 2*", large << 20, "*60 weights are too many to count"));
  const auto chain = [](std::vector<Index> sizes) { return [=] { const MonarchChain<double> M(sizes); }; };
  expect_text(chain({4, 0, 3}), "MonarchChain of axes 4x0x3: axis 1 is 0, expected 1 or more");
  expect_text(chain({large, large}), detail::concat("MonarchChain of axes ", large, "x", large,
                                                    ": their product, the number of rows, is too large to count"));
  expect_text([] { reversal<double>(-1); }, "reversal of -1 rows: expected 0 or more");
  expect_text([] { Range<double>(0, 0, 1); }, "Range of 1 from 0 by 1 of 0: expected none of 0");
  expect_text([] { Range<double>(5, 3, 3); }, "Range of 3 from 3 by 1 of 5: expected indices from 0 to 4");
}

/// DFT of a·b points in the order that monarch_dft takes and leaves.
Eigen::MatrixXd real_dft(Index a, Index b) {
  const Index n = a * b;
  Eigen::MatrixXd F(2 * n, 2 * n);
  for (Index t = 0; t < n; ++t)
    for (Index f = 0; f < n; ++f) {
      const double angle = -2 * M_PI * static_cast<double>(t * f % n) / static_cast<double>(n);
      const Index in = t % b * 2 * a + 2 * (t / b), out = 2 * (f / a) * a + f % a;
      F(out, in) = std::cos(angle);
      F(out, in + 1) = -std::sin(angle);
      F(out + a, in) = std::sin(angle);
      F(out + a, in + 1) = std::cos(angle);
    }
  return F;
}

TEST(MonarchDft, IsTheFourierTransformUpToAPermutation) {
  for (const auto& [a, b] : std::vector<std::pair<Index, Index>>{{8, 8}, {5, 7}, {1, 3}}) {
    const Eigen::MatrixXd F = real_dft(a, b);
    EXPECT_LT((monarch_dft<double>(a, b).to_dense() - F).norm(), 1e-11);
    // The projection finds it too.
    const auto found = project<Monarch<double>>(F, {.row_blocks = a, .col_blocks = b, .rank = 2});
    EXPECT_LT(found.report.relative_error(), 1e-10);
    const Eigen::MatrixXd back = monarch_dft<double>(a, b, true).to_dense();
    Eigen::VectorXd x = gaussian(2 * a * b, 1, 5), y = F * x, z(2 * a * b);
    for (Index f = 0; f < a * b; ++f) {
      const Index out = 2 * (f / a) * a + f % a, in = f % b * 2 * a + 2 * (f / b);
      z[in] = y[out];
      z[in + 1] = y[out + a];
    }
    const Eigen::VectorXd again = back * z;
    for (Index t = 0; t < a * b; ++t)
      EXPECT_NEAR(again[2 * (t / a) * a + t % a], x[t % b * 2 * a + 2 * (t / b)], 1e-12);
  }
}

TEST(MonarchConvolution, IsCausalAndExact) {
  for (const Index n : {1, 2, 3, 7, 16, 50, 101}) {
    const Eigen::VectorXd h = gaussian(n, 1, 6);
    const MonarchConvolution<double> conv{std::span<const double>(h.data(), static_cast<std::size_t>(n))};
    const Eigen::MatrixXd U = gaussian(n, 3, 7);
    Eigen::MatrixXd Y(n, 3), Z(n, 3);
    Y = conv * U;
    EXPECT_LT((Y - conv.to_dense() * U).norm(), 1e-11);
    EXPECT_LT((Eigen::MatrixXd(conv.transpose() * U) - conv.to_dense().transpose() * U).norm(), 1e-11);
    for (Index t = 0; t + 1 < n; t = 2 * t + 1) {  // what comes after t does not reach t
      Eigen::MatrixXd changed = U;
      changed.bottomRows(n - 1 - t) = 100 * gaussian(n - 1 - t, 3, 8);
      Z = conv * changed;
      EXPECT_LT((Z - Y).topRows(t + 1).norm(), 1e-10) << n << ' ' << t;
      EXPECT_GT((Z - Y).bottomRows(n - 1 - t).norm(), 1) << n << ' ' << t;
    }
    std::vector<double> g(static_cast<std::size_t>(n));
    const Eigen::MatrixXd dY = gaussian(n, 3, 9);
    conv.grad(default_context(), view(U), view(dY), 0.0, g);
    for (Index i = 0; i < n; ++i) {
      double expected = 0;
      for (Index t = i; t < n; ++t) expected += dY.row(t).dot(U.row(t - i));
      EXPECT_NEAR(g[static_cast<std::size_t>(i)], expected, 1e-10);
    }
  }
}

TEST(Monarch, CostsPowersOfItsSizeBelowTheSquare) {
  const auto slope = [](const auto& small, const auto& large) {
    return std::log(large.flops(1) / small.flops(1)) /
           std::log(static_cast<double>(large.rows()) / static_cast<double>(small.rows()));
  };
  const auto square = [](Index root) { return Monarch<float>(root * root, root * root, root, root); };
  const auto chain = [](Index order, Index b) {
    return MonarchChain<float>(std::vector<Index>(static_cast<std::size_t>(order), b));
  };
  for (const Index root : {8, 16, 32}) {
    EXPECT_NEAR(slope(square(root), square(2 * root)), 1.5, 1e-12);
    const double n = static_cast<double>(root * root);
    EXPECT_EQ(square(root).flops(1), 4 * std::pow(n, 1.5));  // the dense product: 2 n²
  }
  for (const Index order : {2, 3, 4})
    EXPECT_NEAR(slope(chain(order, 4), chain(order, 8)), 1 + 1.0 / static_cast<double>(order), 1e-12) << order;
  const auto convolution = [](Index n) {
    const std::vector<float> h(static_cast<std::size_t>(n), 1.0f);
    return MonarchConvolution<float>(h);
  };
  EXPECT_NEAR(slope(convolution(512), convolution(8192)), 1.5, 0.02);
}

TEST(ProjectMonarchChain, RecoversEveryOrder) {
  for (const auto& sizes : std::vector<std::vector<Index>>{{7}, {4, 6}, {3, 4, 2}, {2, 2, 2, 2, 2}, {4, 2, 3, 2}}) {
    MonarchChain<double> truth(sizes);
    randomize(truth, 11);
    const auto [M, report] = project<MonarchChain<double>>(truth, {.sizes = sizes});
    EXPECT_LT(report.relative_error(), 1e-8) << describe(M);
    const auto near = project<MonarchChain<double>>(
        Eigen::MatrixXd(truth.to_dense() + 1e-4 * gaussian(truth.rows(), truth.rows(), 12)), {.sizes = sizes});
    EXPECT_LT(near.report.error, 1e-3 * static_cast<double>(truth.rows()));
  }
}

// Over the complex numbers order 2 is the DFT: with t = i1 + b1·i2 and f = j1·b2 + j2, w^(t·f) is first w2^(i2·j2) and
// a twiddle w^(i1·j2), then w1^(i1·j1). A product's real and imaginary parts are those of two chains each.
TEST(MonarchChain, OfOrderTwoIsTheFourierTransformUpToAStride) {
  for (const auto& [b1, b2] : std::vector<std::pair<Index, Index>>{{8, 8}, {4, 6}, {1, 5}, {9, 2}}) {
    const Index n = b1 * b2;
    const auto wave = [n](Index turns, int part) {
      const double angle = -2 * M_PI * static_cast<double>(turns % n) / static_cast<double>(n);
      return part == 0 ? std::cos(angle) : std::sin(angle);
    };
    Eigen::MatrixXd parts[2][2];
    for (const int first : {0, 1})
      for (const int second : {0, 1}) {
        MonarchChain<double> M({b1, b2});
        for (Index i1 = 0; i1 < b1; ++i1)
          for (Index j2 = 0; j2 < b2; ++j2) {
            for (Index i2 = 0; i2 < b2; ++i2) M.element(1, i1, 0, j2, i2) = wave(i2 * j2 * b1 + i1 * j2, first);
            for (Index j1 = 0; j1 < b1; ++j1) M.element(0, 0, j2, j1, i1) = wave(i1 * j1 * b2, second);
          }
        parts[first][second] = M.to_dense();
      }
    const Eigen::MatrixXd real = parts[0][0] - parts[1][1], imaginary = parts[0][1] + parts[1][0];
    double worst = 0;
    for (Index t = 0; t < n; ++t)
      for (Index f = 0; f < n; ++f) {
        const Index at = t % b1 * b2 + t / b1;
        worst = std::max({worst, std::abs(real(f, at) - wave(t * f, 0)), std::abs(imaginary(f, at) - wave(t * f, 1))});
      }
    EXPECT_LT(worst, 1e-14) << n;
  }
}

TEST(ProjectMonarchChain, OrderTwoIsTheMonarch) {
  const Eigen::MatrixXd W = gaussian(24, 24, 13);
  const double chain = project<MonarchChain<double>>(W, {.sizes = {4, 6}}).report.error;
  const double monarch = project<Monarch<double>>(W, {.row_blocks = 6, .col_blocks = 4}).report.error;
  EXPECT_NEAR(chain, monarch, 1e-12 * W.norm());
  const double random = project<Monarch<double>>(gaussian(24, 24, 14), {.row_blocks = 6, .col_blocks = 4})
                            .matrix.to_dense()
                            .binaryExpr(W, [](double m, double w) { return (m - w) * (m - w); })
                            .sum();
  EXPECT_LT(monarch, std::sqrt(random));
}

}  // namespace
}  // namespace tessera
