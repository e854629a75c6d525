// Graphs: gathers and scatters, types of edges, softmax over them, chunked products, embeddings, centralities.
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <iostream>
#include <string>
#include <vector>

#include <tessera/sparse/centrality.hpp>
#include <tessera/sparse/chunked_spmm.hpp>
#include <tessera/sparse/fastrp.hpp>
#include <tessera/sparse/soft_evolution.hpp>
#include <tessera/sparse/typed_linear.hpp>
#include "graphs.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

using test::Sparse;
using Dense = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

MatrixView<double> view(Dense& A) { return {A.data(), A.rows(), A.cols()}; }
MatrixView<const double> view(const Dense& A) { return {A.data(), A.rows(), A.cols()}; }
Dense random(Index rows, Index cols, std::uint64_t seed) {
  return Eigen::Map<const Dense>(test::random_buffer<double>(rows * cols, seed).data(), rows, cols);
}
std::vector<std::int32_t> ids(Index count, Index below, std::uint64_t seed) {
  std::vector<std::int32_t> made;
  for (Index e = 0; e < count; ++e)
    made.push_back(static_cast<std::int32_t>(Philox(seed).below(static_cast<std::uint64_t>(e), std::uint64_t(below))));
  return made;
}

TEST(GatherRows, IsTheLoop) {
  for (const Index d : {1, 5, 64, 131}) {
    const Dense X = random(50, d, 1), Y = random(200, d, 2);
    const auto at = ids(200, 50, 3);
    Dense sums = X;
    for (std::size_t e = 0; e < at.size(); ++e) sums.row(at[e]) += Y.row(static_cast<Index>(e));
    for (const Index threads : {1, 3}) {
      Context ctx = Context::with_threads(threads);
      Dense out(200, d), to = X;
      Eigen::MatrixXd columns(200, d), to_columns = X;
      gather_rows<double, std::int32_t>(ctx, view(X), at, view(out));
      gather_rows<double, std::int32_t>(ctx, view(X), at, MatrixView<double>(columns.data(), {200, d}, {1, 200}));
      scatter_add_rows<double, std::int32_t>(ctx, at, view(Y), view(to));
      scatter_add_rows<double, std::int32_t>(ctx, at, view(Y), MatrixView<double>(to_columns.data(), {50, d}, {1, 50}));
      for (std::size_t e = 0; e < at.size(); ++e) ASSERT_TRUE(out.row(static_cast<Index>(e)) == X.row(at[e]));
      EXPECT_TRUE(out == Dense(columns));
      EXPECT_TRUE(to == sums);
      EXPECT_TRUE(Dense(to_columns) == sums);
    }
  }
  Context ctx;
  Dense X = random(3, 2, 1), out(1, 2);
  for (const std::int32_t bad : {-1, 3})
    EXPECT_THROW((gather_rows<double, std::int32_t>(ctx, view(X), std::vector<std::int32_t>{bad}, view(out))),
                 shape_error);
  EXPECT_THROW((scatter_add_rows<double, std::int32_t>(ctx, std::vector<std::int32_t>{0}, view(X), view(out))),
               shape_error);
}

TEST(TypedLinear, IsTheLoopOverEdges) {
  constexpr Index E = 700, in = 9, out = 6, types = 5;
  const std::vector<Index> type_ptr{0, 0, 600, 601, 601, E};  // skewed, two without edges
  const Dense X = random(40, in, 1), rows = random(E, in, 2);
  const auto w = test::random_buffer<double>(types * in * out, 3);
  const View<const double, 3> W(w.data(), {types, in, out});
  const auto source = ids(E, 40, 4), target = ids(E, 30, 5);
  Dense by_row = Dense::Zero(E, out), by_edge = Dense::Zero(30, out);
  for (Index e = 0; e < E; ++e) {
    Index r = 0;
    while (type_ptr[static_cast<std::size_t>(r) + 1] <= e) ++r;
    const Eigen::Map<const Dense> of(w.data() + r * in * out, in, out);
    by_row.row(e) = rows.row(e) * of;
    by_edge.row(target[static_cast<std::size_t>(e)]) += X.row(source[static_cast<std::size_t>(e)]) * of;
  }
  Dense first;
  for (const Index threads : {1, 2}) {
    Context ctx = Context::with_threads(threads);
    Dense Y(E, out), Z = Dense::Zero(30, out);
    segment_mm<double>(ctx, view(rows), W, type_ptr, view(Y));
    EXPECT_LT((Y - by_row).cwiseAbs().maxCoeff(), 1e-12);
    typed_linear<double, std::int32_t>(ctx, view(X), source, W, type_ptr, target, view(Z));
    EXPECT_LT((Z - by_edge).cwiseAbs().maxCoeff(), 1e-12);
    if (threads == 1) first = Z;
    EXPECT_TRUE(Z == first);
    const std::vector<Index> bad{0, 10, 5, 601, 601, E};
    EXPECT_THROW(segment_mm<double>(ctx, view(rows), W, bad, view(Y)), shape_error);
  }
  // No buffer of E × d': scratch does not grow with the edges.
  const auto many = ids(100000, 30, 6);
  Context ctx;
  Dense Z = Dense::Zero(30, out);
  const std::vector<Index> all{0, 100000, 100000, 100000, 100000, 100000};
  typed_linear<double, std::int32_t>(ctx, view(X), many, W, all, many, view(Z));
  EXPECT_LT(ctx.workspace.capacity(), std::size_t{100000} * out * sizeof(double) / 4);
}

TEST(EdgeSoftmax, SumsToOneForEachDestination) {
  Context ctx = Context::with_threads(2);
  const Sparse A = test::rmat(8, 2000, 1);
  Dense scores = 300 * random(A.nnz(), 3, 2);
  const Dense before = scores;
  edge_softmax(ctx, A, view(scores));
  for (Index i = 0; i < A.rows(); ++i) {
    const Index first = A.row_ptr().data()[i], count = A.row_ptr().data()[i + 1] - first;
    if (count == 0) continue;
    for (Index h = 0; h < 3; ++h) {
      EXPECT_NEAR(scores.col(h).segment(first, count).sum(), 1, 1e-13);
      const Eigen::VectorXd x = before.col(h).segment(first, count);
      const Eigen::VectorXd expected = (x.array() - x.maxCoeff()).exp();
      EXPECT_LT((scores.col(h).segment(first, count) - expected / expected.sum()).cwiseAbs().maxCoeff(), 1e-14);
    }
  }
  EXPECT_THROW(edge_softmax(ctx, A, view(scores).slice(0, 0, 5)), shape_error);
}

// Layers H_l = tanh(A H_{l-1}): with history of the epoch before, layer l is exact from epoch l on.
TEST(ChunkedSpmm, HistoryBecomesExact) {
  Context ctx = Context::with_threads(2);
  const Sparse A = [&] {
    Sparse made = test::rmat(8, 1500, 4);
    for (auto& v : made.values()) v *= 0.3;
    return made;
  }();
  const Index n = A.rows(), d = 7, L = 3;
  const std::vector<Index> chunks{0, 50, 50, 130, n};
  const Dense X = random(n, d, 5), a = A.to_dense();
  Dense Y(n, d);
  spmm_chunked_historical(ctx, A, chunks, view(X), view(X), view(Y));
  EXPECT_LT((Y - a * X).cwiseAbs().maxCoeff(), 1e-12);
  std::vector<Dense> exact{X}, old(L + 1, Dense::Zero(n, d)), now(L + 1, Dense::Zero(n, d));
  for (Index l = 0; l < L; ++l) {
    Dense product(n, d);
    spmm_chunk(ctx, A, 0, n, n, view(exact.back()), view(exact.back()), view(product));
    exact.push_back(product.array().tanh());
  }
  old[0] = now[0] = X;
  for (Index epoch = 1; epoch <= L; ++epoch) {
    for (std::size_t c = 0; c + 1 < chunks.size(); ++c)  // the pipeline's order: all layers of a chunk, then the next
      for (std::size_t l = 1; l <= static_cast<std::size_t>(L); ++l) {
        spmm_chunk(ctx, A, chunks[c], chunks[c + 1], chunks[c + 1], view(now[l - 1]), view(old[l - 1]), view(now[l]));
        now[l].middleRows(chunks[c], chunks[c + 1] - chunks[c]) =
            now[l].middleRows(chunks[c], chunks[c + 1] - chunks[c]).array().tanh().eval();
      }
    for (std::size_t l = 1; l <= static_cast<std::size_t>(L); ++l) {
      if (l <= static_cast<std::size_t>(epoch)) {
        EXPECT_TRUE(now[l] == exact[l]) << epoch << ' ' << l;
      } else {
        EXPECT_FALSE(now[l] == exact[l]) << epoch << ' ' << l;
      }
    }
    old = now;
  }
  EXPECT_THROW(spmm_chunked_historical(ctx, A, std::vector<Index>{0, 3}, view(X), view(X), view(Y)), shape_error);
}

TEST(FastRp, IsThePolynomialAndKeepsProducts) {
  Context ctx = Context::with_threads(2);
  Sparse A = test::rmat(7, 900, 2);
  for (auto& v : A.values()) v = std::abs(v);
  const Index n = A.rows(), d = 24;
  const std::vector<double> weights{0, 1, 0.5};
  Dense N(n, d);
  fastrp(ctx, A, weights, view(N), {.beta = -0.4, .s = 3, .normalize = false, .seed = 9});
  const Dense a = A.to_dense(), R = very_sparse_random_projection<double>(n, d, 3, 9).to_dense();
  const Eigen::VectorXd degree = a.rowwise().sum();
  Dense P = Dense::Zero(n, n), step = a, power = Dense::Identity(n, n);
  Eigen::VectorXd scale(n);
  for (Index i = 0; i < n; ++i) {
    step.row(i) /= degree[i] > 0 ? degree[i] : 1;
    scale[i] = degree[i] > 0 ? std::pow(degree[i], -0.4) : 0;
  }
  for (const double w : weights) {
    power = step * power;
    P += w * power;
  }
  const Dense expected = P * scale.asDiagonal() * R;
  EXPECT_LT((N - expected).cwiseAbs().maxCoeff(), 1e-12);

  // nnz of R is near n·d/s; |Rᵀx|²/d is near |x|², closer for more columns.
  const auto very_sparse = very_sparse_random_projection<double>(1000, 50, 30, 1);
  EXPECT_NEAR(static_cast<double>(very_sparse.nnz()), 50000.0 / 30, 5 * std::sqrt(50000.0 / 30));
  const Dense x = random(1, 200, 3), y = random(1, 200, 4) + x;
  const double product = x.cwiseProduct(y).sum() / (x.norm() * y.norm());
  double error[2];
  for (const int big : {0, 1}) {
    const Index columns = big != 0 ? 320 : 20;
    double mean = 0, square = 0, between = 0, spread = 0;
    for (std::uint64_t seed = 0; seed < 40; ++seed) {
      const Dense drawn = very_sparse_random_projection<double>(200, columns, 20, 50 + seed).to_dense();
      const Dense projected = x * drawn, other = y * drawn;
      const double ratio = projected.squaredNorm() / static_cast<double>(columns) / x.squaredNorm();
      mean += ratio / 40;
      square += (ratio - 1) * (ratio - 1) / 40;
      const double inner = projected.cwiseProduct(other).sum() / static_cast<double>(columns) / (x.norm() * y.norm());
      between += inner / 40;
      spread += (inner - product) * (inner - product) / 40;
    }
    EXPECT_NEAR(mean, 1, 5 * std::sqrt(square / 40));
    EXPECT_NEAR(between, product, 5 * std::sqrt(spread / 40));
    error[big] = square;
  }
  EXPECT_NEAR(error[0] / error[1], 16, 12);  // variance ~ 1/d
  EXPECT_THROW(very_sparse_random_projection<float>(3, 3, 0.5), unsupported_error);
  constexpr Index many = Index{1} << 40;  // refused before they are drawn
  EXPECT_THROW(very_sparse_random_projection<float>(many, 2, 1), format_error);
  EXPECT_THROW(very_sparse_random_projection<float>(2, many, 1e30), format_error);
  EXPECT_THROW(very_sparse_random_projection<float>(1 << 20, 1 << 20, 2), format_error);
}

// A stochastic block model of three blocks: nearest centres of three seeds find the blocks.
TEST(FastRp, FindsCommunities) {
  constexpr Index n = 300, d = 64;
  Coo<double> list;
  list.rows = list.cols = n;
  const Philox draws(8);
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < i; ++j)
      if (draws.uniform(static_cast<std::uint64_t>(i * n + j)) < (i % 3 == j % 3 ? 0.2f : 0.02f))
        for (const bool swap : {false, true}) {
          list.row.push_back(swap ? j : i);
          list.col.push_back(swap ? i : j);
          list.value.push_back(1);
        }
  const Sparse A = csr_from_coo<double>(list);
  Context ctx;
  Dense N(n, d);
  fastrp(ctx, A, std::vector<double>{0, 0, 1, 1}, view(N));
  Dense centres = N.topRows(3);
  std::vector<Index> label(n);
  for (int round = 0; round < 20; ++round) {
    for (Index i = 0; i < n; ++i)
      (centres.rowwise() - N.row(i)).rowwise().squaredNorm().minCoeff(&label[static_cast<std::size_t>(i)]);
    centres.setZero();
    for (Index c = 0; c < 3; ++c) {
      double count = 0;
      for (Index i = 0; i < n; ++i)
        if (label[static_cast<std::size_t>(i)] == c) {
          centres.row(c) += N.row(i);
          ++count;
        }
      centres.row(c) /= std::max(count, 1.0);
    }
  }
  double joint[3][3] = {}, information = 0, entropy = 0, blocks = 0;
  for (Index i = 0; i < n; ++i) joint[i % 3][label[static_cast<std::size_t>(i)]] += 1.0 / n;
  for (int b = 0; b < 3; ++b)
    for (int c = 0; c < 3; ++c) {
      const double column = joint[0][c] + joint[1][c] + joint[2][c], row = joint[b][0] + joint[b][1] + joint[b][2];
      if (joint[b][c] > 0) information += joint[b][c] * std::log(joint[b][c] / (row * column));
      if (b == 0 && column > 0) entropy -= column * std::log(column);
      if (c == 0) blocks -= row * std::log(row);
    }
  EXPECT_GT(2 * information / (entropy + blocks), 0.9);
}

Sparse undirected(Index n, const std::vector<std::pair<Index, Index>>& edges, double length = 1) {
  std::vector<Index> row, col;
  for (const auto& [i, j] : edges) {
    row.insert(row.end(), {i, j});
    col.insert(col.end(), {j, i});
  }
  return test::from_entries(n, n, row, col, std::vector<double>(row.size(), length));
}

TEST(Centrality, ClosedForms) {
  Context ctx = Context::with_threads(2);
  constexpr Index n = 9;
  std::vector<std::pair<Index, Index>> path, star;
  for (Index i = 0; i + 1 < n; ++i) {
    path.emplace_back(i, i + 1);
    star.emplace_back(0, i + 1);
  }
  std::vector<double> c(n);
  const Sparse P = undirected(n, path, 2.5), S = undirected(n, star);
  closeness(ctx, P, c);
  for (Index i = 0; i < n; ++i)
    EXPECT_DOUBLE_EQ(c[static_cast<std::size_t>(i)],
                     double(n - 1) / double(i * (i + 1) / 2 + (n - 1 - i) * (n - i) / 2));
  closeness(ctx, P, c, EdgeLength::value);
  EXPECT_DOUBLE_EQ(c[0], 1 / (2.5 * n / 2));
  betweenness(ctx, P, c);
  for (Index i = 0; i < n; ++i) EXPECT_DOUBLE_EQ(c[static_cast<std::size_t>(i)], double(2 * i * (n - 1 - i)));
  betweenness(ctx, S, c);
  EXPECT_DOUBLE_EQ(c[0], double((n - 1) * (n - 2)));
  EXPECT_DOUBLE_EQ(c[1], 0);
  Dense line(n, 2);
  for (Index i = 0; i < n; ++i) line.row(i) << 1.5 * double(i), 2.0 * double(i);
  straightness(ctx, P, view(line), c);
  for (const double s : c) EXPECT_DOUBLE_EQ(s, 1);
  for (const auto& A : {P, S}) {
    const auto status = eigenvector_centrality(ctx, A, c);
    EXPECT_TRUE(status.converged);
    EXPECT_LT(status.residual, 1e-10);
  }
  EXPECT_NEAR(c[0] / c[1], std::sqrt(double(n - 1)), 1e-8);  // the star's
  const auto status = eigenvector_centrality(ctx, P, c);
  EXPECT_NEAR(status.value, 5 * std::cos(std::acos(-1.0) / (n + 1)), 1e-9);
}

// 3^650 shortest paths from the first layer to the last: layer l stands between 3 l vertices and 3 (649 - l).
TEST(Centrality, CountsMorePathsThanADoubleSlow) {
  constexpr Index side = 3, layers = 650;
  std::vector<Index> row, col;
  for (Index i = 0; i < side * (layers - 1); ++i)
    for (Index j = 0; j < side; ++j) {
      row.push_back(i);
      col.push_back((i / side + 1) * side + j);
    }
  const Sparse A = test::from_entries(side * layers, side * layers, row, col, std::vector<double>(row.size(), 1));
  std::vector<double> c(std::size_t(A.rows()));
  Context ctx;
  betweenness(ctx, A, c);
  for (Index v = 0; v < A.rows(); ++v) {
    const double l = double(v / side), all = double(side) * l * (layers - 1 - l);
    EXPECT_NEAR(c[std::size_t(v)], all, 1e-9 * (1 + all)) << v;
  }
}

TEST(Centrality, EqualsBruteForceAndDoesNotKnowNames) {
  const Sparse G = test::poisson(5);  // a grid of 25
  Sparse weights = test::uniform(30, 30, 0.12, 4);
  for (auto& v : weights.values()) v = 1 + std::floor(3 * std::abs(v));  // ties
  for (const auto& A : {G, weights}) {
    const Index n = A.rows();
    const Dense a = A.to_dense();
    Dense d = Dense::Constant(n, n, 1e9), paths = Dense::Zero(n, n);
    for (Index i = 0; i < n; ++i) {
      d(i, i) = 0;
      for (Index j = 0; j < n; ++j)
        if (i != j && a(i, j) != 0) d(i, j) = 1;
    }
    for (Index k = 0; k < n; ++k)
      for (Index i = 0; i < n; ++i)
        for (Index j = 0; j < n; ++j) d(i, j) = std::min(d(i, j), d(i, k) + d(k, j));
    for (Index i = 0; i < n; ++i) {
      paths(i, i) = 1;
      for (double far = 1; far < double(n); ++far)
        for (Index j = 0; j < n; ++j)
          if (d(i, j) == far)
            for (Index k = 0; k < n; ++k)
              if (k != j && a(k, j) != 0 && d(i, k) + 1 == far) paths(i, j) += paths(i, k);
    }
    std::vector<double> got(static_cast<std::size_t>(n)), other(got), renamed(got);
    Context one, ctx = Context::with_threads(3);
    betweenness(one, A, got);
    betweenness(ctx, A, other);
    EXPECT_EQ(got, other);
    for (Index v = 0; v < n; ++v) {
      double sum = 0;
      for (Index s = 0; s < n; ++s)
        for (Index t = 0; t < n; ++t)
          if (s != v && t != v && s != t && d(s, t) < 1e9 && d(s, v) + d(v, t) == d(s, t))
            sum += paths(s, v) * paths(v, t) / paths(s, t);
      EXPECT_NEAR(got[static_cast<std::size_t>(v)], sum, 1e-10);
    }
    // vertex i renamed to 7 i + 3 mod n
    Coo<double> list = to_coo(A);
    for (auto& i : list.row) i = (7 * i + 3) % n;
    for (auto& i : list.col) i = (7 * i + 3) % n;
    const Sparse B = csr_from_coo<double>(list);
    const auto expect_renamed = [&](double within) {
      for (Index v = 0; v < n; ++v)
        EXPECT_NEAR(got[static_cast<std::size_t>(v)], renamed[static_cast<std::size_t>((7 * v + 3) % n)], within);
    };
    betweenness(one, B, renamed);
    expect_renamed(1e-10);
    closeness(one, A, got);
    closeness(ctx, B, renamed);
    expect_renamed(1e-14);
    Dense at(n, 2), at_renamed(n, 2);
    for (Index i = 0; i < n; ++i) {
      at.row(i) << static_cast<double>(i % 5), static_cast<double>(i / 5);
      at_renamed.row((7 * i + 3) % n) = at.row(i);
    }
    for (Index v = 0; v < n; ++v) {
      double sum = 0, reached = -1;
      for (Index t = 0; t < n; ++t)
        if (d(v, t) < 1e9) {
          sum += d(v, t);
          ++reached;
        }
      EXPECT_NEAR(got[static_cast<std::size_t>(v)], sum > 0 ? reached / sum * reached / double(n - 1) : 0, 1e-14);
    }
    straightness(one, A, view(at), got, EdgeLength::unit);
    straightness(ctx, B, view(at_renamed), renamed, EdgeLength::unit);
    expect_renamed(1e-13);
    for (Index v = 0; v < n; ++v) {
      double sum = 0;
      for (Index t = 0; t < n; ++t)
        if (t != v && d(v, t) < 1e9) sum += std::hypot(at(v, 0) - at(t, 0), at(v, 1) - at(t, 1)) / d(v, t);
      EXPECT_NEAR(got[static_cast<std::size_t>(v)], sum / double(n - 1), 1e-13);
    }
  }
  std::vector<std::pair<Index, Index>> grid, renamed_grid;
  for (Index i = 0; i < 25; ++i)
    for (const Index j : {i + 1, i + 5})
      if (j < 25 && (j == i + 5 || j % 5 != 0)) {
        grid.emplace_back(i, j);
        renamed_grid.emplace_back((7 * i + 3) % 25, (7 * j + 3) % 25);
      }
  std::vector<double> influence(25), of_renamed(25);
  Context one;
  const auto status = eigenvector_centrality(one, undirected(25, grid), influence);
  EXPECT_LT(status.residual, 1e-10);
  EXPECT_NEAR(status.value, 4 * std::cos(std::acos(-1.0) / 6), 1e-9);
  EXPECT_TRUE(eigenvector_centrality(one, undirected(25, renamed_grid), of_renamed).converged);
  for (std::size_t i = 0; i < 25; ++i) EXPECT_NEAR(influence[i], of_renamed[(7 * i + 3) % 25], 1e-8);
  Context ctx;
  std::vector<double> c(25);
  EXPECT_THROW(closeness(ctx, G, std::span<double>(c).first(3)), shape_error);
  EXPECT_THROW(closeness(ctx, G, c, EdgeLength::value), unsupported_error);  // lengths of -1
}

// G. Spadon et al.: cosines of what a learnt matrix makes of the graph, as they mix vertices.
TEST(SoftEvolution, IsItsFormulaHasItsGradientAndKnowsNoNames) {
  constexpr Index n = 11, d = 4, N = 6;
  Context one, two = Context::with_threads(2);
  std::vector<std::pair<Index, Index>> edges{{0, 1}, {1, 2}, {2, 3}, {3, 0}, {4, 5}, {5, 6}, {6, 4}, {7, 8}, {8, 0}};
  const Sparse A = undirected(n, edges, 1.5);  // without 9 and 10
  Dense W = random(n, d, 1), scale = random(n, n, 2), bias = random(n, n, 3), X = random(n, N, 4);
  const Dense a = A.to_dense(), dY = random(n, N, 5);
  const SoftEvolution<double> layer{view(std::as_const(W)), view(std::as_const(scale)), view(std::as_const(bias))};
  const auto cosines = [&] {
    const Dense h = a * W;
    Dense c = Dense::Zero(n, n);
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < n; ++j)
        if (h.row(i).norm() > 0 && h.row(j).norm() > 0)
          c(i, j) = h.row(i).dot(h.row(j)) / h.row(i).norm() / h.row(j).norm();
    return c;
  };
  const auto expected = [&] { return Dense((scale.cwiseProduct(cosines()) + bias) * X); };
  Dense H(n, d), S(n, n), Y(n, N), same(n, N);
  layer.forward(one, A, view(std::as_const(X)), view(H), view(S), view(Y));
  EXPECT_LT((Y - expected()).cwiseAbs().maxCoeff(), 1e-12);
  layer.forward(two, A, view(std::as_const(X)), view(H), view(S), view(same));
  EXPECT_TRUE(Y == same);
  const Sparse alike = graph_soft_evolution(one, A, view(std::as_const(W)));
  for (Index i = 0; i < n; ++i)
    for (Index e = A.row_ptr().data()[i]; e < A.row_ptr().data()[i + 1]; ++e)
      EXPECT_NEAR(alike.values().data()[e], cosines()(i, A.col_idx().data()[e]), 1e-14);

  Dense dW(n, d), dscale(n, n), dbias(n, n), dX(n, N);
  layer.backward(one, A, view(std::as_const(X)), view(std::as_const(H)), view(std::as_const(S)), view(dY),
                 {view(dW), view(dscale), view(dbias), view(dX)});
  for (const auto& [of, got] : {std::pair{&W, &dW}, {&scale, &dscale}, {&bias, &dbias}, {&X, &dX}})
    for (Index p = 0; p < of->size(); p += 3) {
      double loss[2] = {0, 0};
      const double was = of->data()[p];
      for (const int up : {0, 1}) {
        of->data()[p] = was + (up != 0 ? 1e-6 : -1e-6);
        loss[up] = expected().cwiseProduct(dY).sum();
      }
      of->data()[p] = was;
      EXPECT_NEAR(got->data()[p], (loss[1] - loss[0]) / 2e-6, 1e-7) << p;
    }

  // Vertex i renamed to 3 i + 5 mod n.
  const auto to = [](Index i) { return (3 * i + 5) % n; };
  for (auto& [i, j] : edges) i = to(i), j = to(j);
  Dense w(n, d), s(n, n), b(n, n), x(n, N);
  for (Index i = 0; i < n; ++i) {
    w.row(to(i)) = W.row(i);
    x.row(to(i)) = X.row(i);
    for (Index j = 0; j < n; ++j) {
      s(to(i), to(j)) = scale(i, j);
      b(to(i), to(j)) = bias(i, j);
    }
  }
  const SoftEvolution<double> other{view(std::as_const(w)), view(std::as_const(s)), view(std::as_const(b))};
  const Sparse B = undirected(n, edges, 1.5);
  other.forward(one, B, view(std::as_const(x)), view(H), view(S), view(same));
  for (Index i = 0; i < n; ++i)
    for (Index k = 0; k < N; ++k) EXPECT_NEAR(Y(i, k), same(to(i), k), 1e-12);

  W *= 1e200;  // lengths that squares do not hold
  const Sparse of_huge = graph_soft_evolution(one, A, view(std::as_const(W)));
  for (const double v : of_huge.values()) EXPECT_LE(std::abs(v), 1 + 1e-14);
  EXPECT_THROW(other.forward(one, B, view(std::as_const(x)), view(S), view(S), view(same)), shape_error);
  EXPECT_THROW(graph_soft_evolution(one, A, view(std::as_const(x)).slice(0, 0, 5)), shape_error);
}

}  // namespace
}  // namespace tessera
