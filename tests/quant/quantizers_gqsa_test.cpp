#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tessera/core/executor.hpp>
#include <tessera/quant/quantizers/gqsa.hpp>
#include <vector>

#include "quant/layers.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

using test::RowMatrixf;

TEST(Gqsa, MultipliesAsItsDecodedMatrix) {
  Context ctx, threads = Context::with_threads(2);
  for (const auto& [M, K] : {std::pair<Index, Index>{70, 100}, {3, 16}, {300, 64}, {1, 5}}) {
    const RowMatrixf W = test::normal_matrix(M, K, 3), X = test::correlated_activations(K, 2 * K, 4);
    const auto made = Gqsa{}.quantize(ctx, view(W), test::calibration_of(X)).matrix;
    const Eigen::MatrixXf D = made.to_dense();
    const RowMatrixf x = test::normal_matrix(K, 3, 5), y = test::normal_matrix(M, 3, 6);
    RowMatrixf Y = RowMatrixf::Constant(M, 3, std::nanf("")), T = Y;
    made.apply(ctx, Op::none, 2.0f, view(x), 0.0f, view(Y));
    made.apply(threads, Op::none, 2.0f, view(x), 0.0f, view(T));
    EXPECT_EQ(Y, T);
    EXPECT_LE((Y - 2.0f * D * x).norm(), 1e-5f * (1 + Y.norm()));
    RowMatrixf Z = test::normal_matrix(K, 3, 7);
    const RowMatrixf expected = -1.0f * D.transpose() * y + 0.5f * Z;
    made.apply(ctx, Op::transpose, -1.0f, view(y), 0.5f, view(Z));
    EXPECT_LE((Z - expected).norm(), 1e-5f * (1 + expected.norm()));
  }
}

TEST(Gqsa, HalfTheGroupsInFourBitsBeatTwoBitsInRowsOf128) {
  Context ctx;
  const Index M = 32, K = 128;
  auto layer = test::correlated_layer(M, K, 600, 8);
  const auto [made, report] = Gqsa{}.quantize(ctx, view(layer.W), layer.calibration);
  EXPECT_EQ(made.groups(), M * K / 32);
  EXPECT_EQ(made.bytes(), static_cast<std::size_t>(M * K / 32 * 14 + 4 * (M + 1)));  // 3.5 bits a value
  for (std::size_t s = 1; s < report.objective.size(); ++s)
    EXPECT_LE(report.objective[s], report.objective[s - 1] * (1 + 1e-12));
  const double lost = test::output_loss(layer, made.to_dense());
  EXPECT_NEAR(lost, report.objective.back(), 1e-3 * lost);
  EXPECT_LT(lost, 0.9 * report.objective.front());  // the second stage
  const auto two_bits = round_to_grid(ctx, view(layer.W), UniformGrid::asymmetric(2, 128));
  EXPECT_LT(lost, test::output_loss(layer, two_bits.values));
  double before = 0;
  for (const double sparsity : {0.0, 0.25, 0.5, 0.75, 1.0}) {
    const double now = Gqsa{.sparsity = sparsity}.quantize(ctx, view(layer.W), layer.calibration).report.output_error;
    EXPECT_GT(now, before);
    before = now;
  }
  EXPECT_NEAR(before, 1, 1e-6);
  EXPECT_THROW((Gqsa{.sparsity = 1.5}.quantize(ctx, view(layer.W), layer.calibration)), unsupported_error);
  EXPECT_THROW(Gqsa{}.quantize(ctx, view(layer.W), Calibration(K)), shape_error);
  EXPECT_THROW(GroupSparse(16, Buffer<std::int32_t>(2), Buffer<std::uint16_t>(1), Buffer<SparseGroup>(1)), shape_error);
}

/// Runs one piece of those it is given, and says how many there were.
struct OnlyPiece {
  Index piece;
  Index* pieces;
  Index concurrency() const { return 2; }
  void run(Index count, Task task) const {
    *pieces = count;
    if (piece < count) task(piece, 0);
  }
};

TEST(Gqsa, ThreadsShareUnevenRowsAlike) {
  const Index M = 2000, K = 4096, most = K / 16;
  Buffer<std::int32_t> begin(M + 1);
  for (Index i = 0; i < M; ++i)  // all of the weights in a tenth of the rows, but for a few
    begin[i + 1] = begin[i] + static_cast<std::int32_t>(i < M / 10 ? most - i % 7 : (i * i) % 97);
  const Index total = begin[M];
  Buffer<std::uint16_t> columns(total);
  for (Index i = 0; i < M; ++i)
    for (Index e = begin[i]; e < begin[i + 1]; ++e) columns[e] = static_cast<std::uint16_t>(e - begin[i]);
  const Buffer<std::int32_t> rows = begin;
  const GroupSparse A(K, std::move(begin), std::move(columns), Buffer<SparseGroup>(total));
  const RowMatrixf x = RowMatrixf::Ones(K, 1);
  std::vector<Index> load;  // groups of each piece: those of the rows that it writes
  std::vector<int> written(static_cast<std::size_t>(M));
  for (Index piece = 0, pieces = 1; piece < pieces; ++piece) {
    Context ctx(OnlyPiece{piece, &pieces});
    RowMatrixf Y = RowMatrixf::Constant(M, 1, std::nanf(""));
    A.apply(ctx, Op::none, 1, view(x), 0, view(Y));
    load.push_back(0);
    for (Index i = 0; i < M; ++i)
      if (!std::isnan(Y(i, 0))) {
        load.back() += rows[i + 1] - rows[i];
        ++written[static_cast<std::size_t>(i)];
      }
  }
  EXPECT_EQ(written, std::vector<int>(static_cast<std::size_t>(M), 1));
  EXPECT_EQ(std::accumulate(load.begin(), load.end(), Index{0}), total);
  Index thread[2] = {};  // who is done takes the next piece
  for (const Index groups : load) *std::min_element(thread, thread + 2) += groups;
  const auto [less, more] = std::minmax(thread[0], thread[1]);
  EXPECT_LT(static_cast<double>(more), 1.1 * static_cast<double>(less)) << load.size() << " pieces";
  EXPECT_GT(rows[M / 2], 1.5 * static_cast<double>(total - rows[M / 2]));  // halves of the rows are not alike
}

}  // namespace
}  // namespace tessera
