// When a dense matrix would be faster: what explain() says, and what is made of it for who asks.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include <sparse/graphs.hpp>
#include <tessera/matrix/csc.hpp>
#include <tessera/sparse/densify.hpp>
#include <tessera/tune/spmm.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

using test::Sparse;
using test::uniform;

/// The same rates whatever the columns; products with the transpose of two fifths of the sparse ones.
SpmmCosts flat(double dense, double half, double tenth) {
  SpmmCosts c{"a test's", {}, {}};
  for (auto* tables : {&c.cached, &c.streamed})
    for (std::size_t op = 0; op < 2; ++op)
      for (std::size_t k = 0; k < SpmmCosts::count; ++k) {
        const double share = op == 0 ? 1 : 0.4;
        (*tables)[op][k] = {static_cast<double>(Index{1} << (2 * k)), dense, share * half, share * tenth};
      }
  return c;
}

TEST(Crossover, IsWhereBothTakeAsLong) {
  const auto at = [](const SpmmCosts& c, Index nonzeros, Op op = Op::none) {
    return spmm_outlook<double>(c, op, 100, 100, nonzeros, 8);
  };
  const auto even = flat(80, 20, 20);
  EXPECT_NEAR(at(even, 1000).crossover, 0.75, 1e-9);
  EXPECT_NEAR(at(even, 1000, Op::transpose).crossover, 0.9, 1e-9);
  EXPECT_NEAR(at(even, 5000).speedup, 2, 1e-9);
  EXPECT_TRUE(at(even, 2501).dense_is_faster());
  EXPECT_FALSE(at(even, 2499).dense_is_faster());
  const auto shorter = flat(80, 40, 20);  // rows of fewer nonzeros are slower
  const auto crossing = at(shorter, 3000);
  const auto there = at(shorter, static_cast<Index>(1e4 * (1 - crossing.crossover)));
  EXPECT_NEAR(there.speedup, 1, 1e-3);
  EXPECT_NEAR(at(flat(10, 20, 20), 10000).crossover, 0, 1e-9);  // never
  for (const Index nonzeros : {0, 1, 10000}) EXPECT_GE(at(even, nonzeros).speedup, 0);
  EXPECT_EQ(spmm_outlook<double>(even, Op::none, 0, 5, 0, 3).speedup, 0);
  EXPECT_NE(at(even, 5000).text().find("2 times as fast for 50% zeros and 8 columns: faster below 75% zeros"),
            std::string::npos)
      << at(even, 5000).text();
}

TEST(Crossover, RefusesRatesThatAreNone) {
  auto bad = flat(80, 20, 20);
  bad.streamed[1][3].dense = 0;
  EXPECT_THROW(set_spmm_costs<double>(bad), unsupported_error);
  bad = flat(80, 20, 20);
  bad.cached[0][2].columns = 1;
  EXPECT_THROW(set_spmm_costs<double>(bad), unsupported_error);
  EXPECT_THROW(set_spmm_costs<double>(flat(80, 100, 20)), unsupported_error);
  EXPECT_THROW(set_spmm_costs<double>(flat(1.0 / 0.0, 100, 20)), unsupported_error);
  spmm_costs<float>().check();
  spmm_costs<double>().check();
}

TEST(Densify, ExplainSaysWhatWouldBeFasterAndNothingChanges) {
  const Sparse A = uniform(60, 40, 0.9, 1);
  const Eigen::MatrixXd X = Eigen::MatrixXd::Random(40, 8);
  const auto said = [&](const auto& expression) {
    const Explanation e = explain(expression);
    std::string of_dense;
    int chosen = 0;
    for (const auto& kernel : e.steps.at(0).kernels) {
      if (kernel.name == "dense") of_dense = kernel.why;
      if (!kernel.why.empty()) continue;
      ++chosen;
      EXPECT_EQ(kernel.name.substr(0, 5), "spmm:");
    }
    EXPECT_EQ(chosen, 1);
    return of_dense;
  };
  const SpmmCosts before = spmm_costs<double>();
  set_spmm_costs<double>(flat(80, 20, 20));
  EXPECT_NE(said(A * X).find("times as fast"), std::string::npos) << said(A * X);
  EXPECT_NE(said(A * X).find("faster below 75% zeros (80 GFLOP/s, nonzeros 20), a test's"), std::string::npos);
  EXPECT_NE(said(A.transpose() * Eigen::MatrixXd::Random(60, 8)).find("faster below 90% zeros"), std::string::npos);
  const Csc<double> C = csc_from_csr(A);
  EXPECT_NE(said(C * X).find("faster below 90% zeros"), std::string::npos);
  set_spmm_costs<double>(flat(80, 79, 79));
  EXPECT_NE(said(uniform(60, 40, 0.1, 1) * X).find("times slower"), std::string::npos);
  set_spmm_costs<double>(before);
  EXPECT_EQ(said(Sparse(60, 40) * X), "");
}

TEST(Densify, OnlyWhereTheModelSaysSo) {
  Context ctx;
  const Eigen::MatrixXd X = Eigen::MatrixXd::Random(40, 5);
  const Sparse A = uniform(60, 40, 0.5, 2);
  const Eigen::MatrixXd expected = A * X;
  const auto dense = densify_if_faster(A, 5, Op::none, flat(80, 20, 20));
  ASSERT_TRUE(dense.report.dense);
  EXPECT_NE(dense.matrix.target<Dense<double>>(), nullptr);
  EXPECT_EQ(dense.report.bytes_after, 60u * 40u * 8u);
  EXPECT_EQ(dense.report.bytes_before, A.bytes());
  EXPECT_LT((Eigen::MatrixXd(dense.matrix * X) - expected).norm(), 1e-12);
  EXPECT_EQ(dense.report.text().substr(0, 7), "dense: ") << dense.report.text();

  const auto sparse = densify_if_faster(Sparse(A), 5, Op::none, flat(20, 20, 20));
  EXPECT_FALSE(sparse.report.dense);
  EXPECT_NE(sparse.matrix.target<Sparse>(), nullptr);
  EXPECT_EQ(sparse.report.bytes_after, A.bytes());
  EXPECT_EQ(Eigen::MatrixXd(sparse.matrix * X), expected);  // the same bits
  EXPECT_EQ(sparse.report.text().substr(0, 13), "stays sparse:") << sparse.report.text();

  // By columns, as the transpose's rows; 50% zeros lie between the crossovers of either.
  const auto costs = flat(20, 14, 14);
  EXPECT_FALSE(densify_if_faster(A, 5, Op::none, costs).report.dense);
  EXPECT_TRUE(densify_if_faster(A, 5, Op::transpose, costs).report.dense);
  EXPECT_TRUE(densify_if_faster(csc_from_csr(A), 5, Op::none, costs).report.dense);
  EXPECT_FALSE(densify_if_faster(csc_from_csr(A), 5, Op::transpose, costs).report.dense);

  EXPECT_FALSE(densify_if_faster(uniform(300, 300, 0.01, 3), 64).report.dense);  // whatever the machine
  EXPECT_FALSE(densify_if_faster(Sparse(0, 3), 1).report.dense);
  EXPECT_THROW(densify_if_faster(A, 0), shape_error);
}

TEST(Densify, RatesOfThisMachineCanBeMeasured) {
  Context ctx;
  const auto costs = measure_spmm_costs<double>(ctx, {.cached = 24, .streamed = 40, .seconds = 0});
  costs.check();
  EXPECT_EQ(costs.cached[0][4].columns, 256);
  EXPECT_THROW(measure_spmm_costs<double>(ctx, {.cached = 3}), unsupported_error);
  EXPECT_THROW(measure_spmm_costs<double>(ctx, {.cached = Index{1} << 40}), unsupported_error);
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera
