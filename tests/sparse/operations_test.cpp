// Sampled products, sums, reductions, triangular solves, and a network of sparse layers, against dense arithmetic.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <initializer_list>
#include <iostream>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <support/sparse_patterns.hpp>
#include <tessera/io/matrix_market.hpp>
#include <tessera/sparse/add.hpp>
#include <tessera/sparse/reduce.hpp>
#include <tessera/sparse/sddmm.hpp>
#include <tessera/sparse/semiring.hpp>
#include <tessera/sparse/spgemm.hpp>
#include <tessera/sparse/triangular_solve.hpp>
#include "graphs.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

using test::Sparse;
using Dense = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Dense dense(const Sparse& A) { return A.to_dense(); }

TEST(Sddmm, EveryKernelIsTheSampledProduct) {
  for (const Index K : {0, 1, 3, 7, 16, 33, 70}) {
    const Index N = K == 70 ? 2000 : 31;  // in one block of the second cache, or several
    const Sparse S = test::uniform(23, N, N == 31 ? 0.3 : 0.03, 3);
    const auto x = test::random_buffer<double>(23 * (K + 2) * 2, 1),
               y = test::random_buffer<double>(N * (K + 2) * 2, 2);
    for (const bool apart : {false, true}) {
      const MatrixView<const double> X(x.data(), {23, K}, {(K + 2) * 2, apart ? 2 : 1}),
          Y(y.data(), {N, K}, {(K + 2) * 2, apart ? 2 : 1});
      SddmmArgs<double, std::int32_t> any;
      SddmmKernels::explain(Context(), any, [&](std::string_view name, const std::string& why) {
        if (why.rfind("needs", 0) == 0 || (apart && K > 1 && name != "sddmm:ref")) return;
        Context ctx = Context::with_threads(2);
        ctx.force(name);
        const Sparse plain = sddmm(ctx, 0.5, S, X, Y), scaled = sddmm(ctx, 0.5, S, X, Y, SddmmScale::values);
        std::vector<double> again(plain.values().size());
        sddmm_values(ctx, 0.5, S, X, Y, again);
        ASSERT_TRUE(std::ranges::equal(again, plain.values())) << name;
        std::size_t e = 0;
        for (Index i = 0; i < 23; ++i)
          for (; e < static_cast<std::size_t>(S.row_ptr()[static_cast<std::size_t>(i) + 1]); ++e) {
            double sum = 0, size = 0;
            for (Index k = 0; k < K; ++k) {
              sum += X(i, k) * Y(S.col_idx()[e], k);
              size += std::abs(X(i, k) * Y(S.col_idx()[e], k));
            }
            const double bound = test::gamma<double>(static_cast<double>(K) + 3) * size;
            ASSERT_LE(std::abs(plain.values()[e] - 0.5 * sum), bound) << name;
            ASSERT_LE(std::abs(scaled.values()[e] - 0.5 * sum * S.values()[e]), bound * std::abs(S.values()[e]))
                << name;
          }
      });
    }
  }
  Context ctx;
  EXPECT_THROW(
      sddmm(ctx, 1.0, Sparse(2, 3), MatrixView<const double>(nullptr, 2, 0), MatrixView<const double>(nullptr, 4, 0)),
      shape_error);
  std::vector<double> none;
  EXPECT_THROW(sddmm_values(ctx, 1.0, test::banded(3, 0), MatrixView<const double>(nullptr, 3, 0),
                            MatrixView<const double>(nullptr, 3, 0), none),
               shape_error);
}

TEST(SparseAdd, SumsAndSetsAreTheDenseOnes) {
  Context ctx = Context::with_threads(2);
  for (const auto& [name, A] : test::square_samples()) {
    if (A.rows() > 1000) continue;
    SCOPED_TRACE(name);
    const Sparse B = test::uniform(A.rows(), A.cols(), 0.07, 5);
    const Dense a = dense(A), b = dense(B);
    const Dense has_a = (a.array() != 0).cast<double>(), has_b = (b.array() != 0).cast<double>();
    EXPECT_TRUE(dense(add(ctx, 2, A, -3, B)) == Dense(2 * a - 3 * b));
    EXPECT_TRUE(dense(hadamard_product(ctx, A, B)) == Dense(a.cwiseProduct(b)));
    EXPECT_TRUE(dense(pattern_intersection(ctx, A, B)) == Dense(a.cwiseProduct(has_b)));
    EXPECT_TRUE(dense(pattern_difference(ctx, A, B)) == Dense(a - a.cwiseProduct(has_b)));
    EXPECT_TRUE(dense(pattern_union(ctx, A, B)) == Dense(a + b.cwiseProduct((1 - has_a.array()).matrix())));
    EXPECT_EQ(add(ctx, 1, A, -1, A).nnz(), A.nnz());  // what cancels stays an entry
  }
  EXPECT_THROW(add(ctx, 1, Sparse(2, 3), 1, Sparse(3, 2)), shape_error);
}

// Numbers are integers: every product and sum is exact.
template <class T, class I>
void expect_every_pattern() {
  Context ctx = Context::with_threads(2);
  constexpr Index K = 37;  // four vectors and a tail
  for (const auto& [name, list] : test::sparse_patterns<T>()) {
    SCOPED_TRACE(name);
    const Csr<T, I> A = csr_from_coo<T, I>(list);
    const Dense a = A.to_dense().template cast<double>();
    const auto expect = [](const Csr<T, I>& got, const Dense& expected) {
      EXPECT_TRUE(Dense(got.to_dense().template cast<double>()) == expected);
    };
    expect(spgemm(ctx, A, A.transposed()), Dense(a * a.transpose()));
    expect(add(ctx, 2, A, -3, A), Dense(-a));
    expect(hadamard_product(ctx, A, A), Dense(a.cwiseProduct(a)));
    Buffer<T> x(A.rows() * K), y(A.cols() * K), z(A.rows() * K);
    for (Index k = 0; k < x.size(); ++k) x[k] = static_cast<T>(k % 7 - 3);
    for (Index k = 0; k < y.size(); ++k) y[k] = static_cast<T>(k % 5 - 2);
    const MatrixView<const T> X(x.data(), A.rows(), K), Y(y.data(), A.cols(), K);
    const auto S = sddmm(ctx, 2, A, X, Y, SddmmScale::values);
    semiring_product(ctx, PlusTimes<T>{}, A, Y, MatrixView<T>(z.data(), A.rows(), K));
    std::vector<T> rows(static_cast<std::size_t>(A.rows())), columns(static_cast<std::size_t>(A.cols())), sums(columns);
    reduce_rows(ctx, Reduction::abs_sum, A, rows);
    reduce_columns(ctx, Reduction::abs_sum, A, columns);
    for (Index i = 0; i < A.rows(); ++i) {
      T sum(0);
      std::array<T, K> row{};
      for (auto e = static_cast<Index>(A.row_ptr().data()[i]); e < static_cast<Index>(A.row_ptr().data()[i + 1]); ++e) {
        const Index j = A.col_idx().data()[e];
        const T v = A.values().data()[e];
        T dot(0);
        for (Index k = 0; k < K; ++k) {
          dot += X(i, k) * Y(j, k);
          row[static_cast<std::size_t>(k)] += v * Y(j, k);
        }
        ASSERT_EQ(S.values().data()[e], 2 * dot * v) << i << ' ' << j;
        sum += std::abs(v);
        sums[static_cast<std::size_t>(j)] += std::abs(v);
      }
      ASSERT_EQ(rows[static_cast<std::size_t>(i)], sum) << i;
      for (Index k = 0; k < K; ++k) ASSERT_EQ(z[i * K + k], row[static_cast<std::size_t>(k)]) << i;
    }
    EXPECT_EQ(columns, sums);
  }
}
TEST(SparseOperations, OfEveryPatternValueAndIndexAreTheDenseOnes) {
  expect_every_pattern<float, std::int32_t>();
  expect_every_pattern<float, std::int64_t>();
  expect_every_pattern<double, std::int32_t>();
}

TEST(SparseAdd, IndicesOf64BitsReachFar) {
  using Wide = Csr<double, std::int64_t>;
  constexpr Index far = Index{1} << 40;
  const auto make = [](std::initializer_list<std::int64_t> rows, std::initializer_list<std::int64_t> columns) {
    Buffer<std::int64_t> row_ptr(3), col_idx(static_cast<Index>(columns.size()));
    Buffer<double> values(col_idx.size());
    std::copy(rows.begin(), rows.end(), row_ptr.begin());
    std::copy(columns.begin(), columns.end(), col_idx.begin());
    for (Index e = 0; e < values.size(); ++e) values[e] = static_cast<double>(e + 3);
    return Wide(2, far, std::move(row_ptr), std::move(col_idx), std::move(values));
  };
  Context ctx;
  const Wide A = make({0, 2, 3}, {5, far - 1, far / 2}), B = make({0, 2, 2}, {7, far - 1});
  const Wide C = add(ctx, 2, A, -1, B);
  EXPECT_TRUE(std::ranges::equal(C.col_idx(), std::vector<std::int64_t>{5, 7, far - 1, far / 2}));
  EXPECT_TRUE(std::ranges::equal(C.values(), std::vector<double>{6, -3, 4, 10}));
  EXPECT_TRUE(std::ranges::equal(hadamard_product(ctx, A, B).col_idx(), std::vector<std::int64_t>{far - 1}));
  std::vector<double> norms(2);
  reduce_rows<Wide>(ctx, Reduction::norm, A, norms);
  EXPECT_EQ(norms, (std::vector<double>{5, 5}));
  EXPECT_THROW(make({0, 1, 1}, {far}), format_error);
}

TEST(SparseReduce, RowsAndColumns) {
  Context ctx = Context::with_threads(2);
  Sparse A = test::rmat(7, 500, 2);
  const Sparse T = A.transposed();
  const Index n = A.rows();
  const Dense a = dense(A);
  std::vector<double> rows(static_cast<std::size_t>(n)), columns(rows);
  for (const auto r : {Reduction::sum, Reduction::abs_sum, Reduction::norm, Reduction::max, Reduction::abs_max}) {
    reduce_rows(ctx, r, T, rows);
    reduce_columns(ctx, r, A, columns);
    EXPECT_EQ(rows, columns);
  }
  reduce_rows(ctx, Reduction::norm, A, rows);
  for (Index i = 0; i < n; ++i) EXPECT_NEAR(rows[static_cast<std::size_t>(i)], a.row(i).norm(), 1e-13);
  reduce_rows(ctx, Reduction::max, Sparse(1, 4), std::span<double>(rows).first(1));
  EXPECT_EQ(rows[0], -std::numeric_limits<double>::infinity());
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = 1.0 + static_cast<double>(i % 5);
  Sparse B(A), C(A);
  scale_rows<double>(ctx, B, rows);
  scale_columns<double>(ctx, C, rows);
  const Eigen::Map<const Eigen::VectorXd> d(rows.data(), n);
  EXPECT_EQ(dense(B), Dense(d.asDiagonal() * a));
  EXPECT_EQ(dense(C), Dense(a * d.asDiagonal()));
  EXPECT_THROW(scale_rows<double>(ctx, B, std::span<const double>(rows).first(3)), shape_error);
  EXPECT_THROW(reduce_columns(ctx, Reduction::sum, A, std::span<double>(rows).first(3)), shape_error);
}

TEST(SparseReduce, NormsOfHugeTinyAndNotFinite) {
  Context ctx;
  const double inf = std::numeric_limits<double>::infinity();
  for (const double x : {1.0, 1e300, 1e-300, 5e-324, inf, -inf, std::nan("")}) {
    const Coo<double> list{2, 3, {0, 0, 1, 1}, {0, 2, 0, 2}, {3 * x, 4 * x, 1.0, 0.0}, Symmetry::general};
    const Sparse A = csr_from_coo<double>(list), T = A.transposed();
    std::array<double, 2> rows, columns;
    reduce_rows(ctx, Reduction::norm, A, rows);
    reduce_columns(ctx, Reduction::norm, T, columns);
    EXPECT_EQ(rows[1], 1);
    EXPECT_EQ(columns[1], 1);
    if (std::isfinite(x)) {
      EXPECT_NEAR(rows[0], 5 * x, 5e-15 * x);
      EXPECT_EQ(rows[0], columns[0]);
    } else {
      EXPECT_EQ(std::isnan(rows[0]), std::isnan(x));
      EXPECT_EQ(std::isnan(columns[0]), std::isnan(x));
      EXPECT_FALSE(std::isfinite(rows[0]) || std::isfinite(columns[0]));
    }
  }
}

TEST(TriangularSolve, IsTheInverseForAnyTriangleAndThreads) {
  Sparse A = add(default_context(), 0.2, test::uniform(180, 180, 0.05, 7), 3, test::banded(180, 0));
  for (std::size_t i = 0; i < 180; ++i)
    for (auto e = static_cast<std::size_t>(A.row_ptr()[i]); e < static_cast<std::size_t>(A.row_ptr()[i + 1]); ++e)
      if (A.col_idx()[e] == static_cast<std::int32_t>(i)) A.values()[e] = 2 + static_cast<double>(i % 3);
  const Dense a = dense(A), x = Eigen::Map<const Dense>(test::random_buffer<double>(180 * 5, 1).data(), 180, 5);
  for (const bool lower : {true, false})
    for (const bool unit : {true, false})
      for (const bool transposed : {true, false}) {
        Dense t = lower ? Dense(a.triangularView<Eigen::Lower>()) : Dense(a.triangularView<Eigen::Upper>());
        if (unit) t.diagonal().setOnes();
        if (transposed) t.transposeInPlace();
        const TriangularSolver solver(A, {.lower = lower, .unit = unit, .transposed = transposed});
        EXPECT_GT(solver.levels(), 1);
        EXPECT_LT(solver.levels(), 180);
        const Dense b = t * x;
        Dense first;
        for (const Index threads : {1, 3}) {
          Context ctx = Context::with_threads(threads);
          Dense rows = b;
          Eigen::MatrixXd columns = b;
          solver.solve(ctx, MatrixView<double>(rows.data(), 180, 5));
          solver.solve(ctx, MatrixView<double>(columns.data(), {180, 5}, {1, 180}));
          EXPECT_LT((rows - x).cwiseAbs().maxCoeff(), 1e-12);
          EXPECT_LT((Dense(columns) - x).cwiseAbs().maxCoeff(), 1e-12);
          if (threads == 1) first = rows;
          EXPECT_EQ(rows, first);
        }
      }
  Context ctx;
  EXPECT_EQ(TriangularSolver(test::banded(9, 0)).levels(), 1);
  EXPECT_EQ(TriangularSolver(Sparse(0, 0)).levels(), 0);
  EXPECT_THROW(TriangularSolver(Sparse(3, 4)), shape_error);
  EXPECT_THROW(TriangularSolver(Sparse(3, 3)), property_error);
  EXPECT_THROW(TriangularSolver(test::banded(3, 0)).solve(ctx, MatrixView<double>(nullptr, 4, 0)), shape_error);
}

// What substitution leaves: |T x - b| <= gamma |T| |x|, row by row (Higham, "Accuracy and Stability", theorem 8.5).
template <class T, class I>
void expect_solution(const Csr<T, I>& A, TriangularOptions options, const Buffer<T>& b, const Buffer<T>& x,
                     Index columns) {
  const Index n = A.rows();
  std::vector<double> sum(b.begin(), b.end()), size(sum.size());
  const auto take = [&](Index i, Index j, double v) {
    if (options.transposed) std::swap(i, j);
    for (Index c = 0; c < columns; ++c) {
      const double term = v * static_cast<double>(x[j * columns + c]);
      sum[static_cast<std::size_t>(i * columns + c)] -= term;
      size[static_cast<std::size_t>(i * columns + c)] += std::abs(term);
    }
  };
  for (Index i = 0; i < n; ++i) {
    if (options.unit) take(i, i, 1);
    for (auto e = static_cast<Index>(A.row_ptr().data()[i]); e < static_cast<Index>(A.row_ptr().data()[i + 1]); ++e) {
      const Index j = A.col_idx().data()[e];
      if (i == j ? !options.unit : (j < i) == options.lower) take(i, j, static_cast<double>(A.values().data()[e]));
    }
  }
  const double unit = 2 * test::gamma<T>(static_cast<double>(n) + 3);
  for (std::size_t k = 0; k < sum.size(); ++k)
    ASSERT_LE(std::abs(sum[k]), unit * (size[k] + std::abs(static_cast<double>(b[static_cast<Index>(k)]))));
}
// Every kernel, of one column by slices or not, of several. Those with multiply-adds agree to the bit, as do slices.
template <class T, class I>
void expect_every_triangle(const Csr<T, I>& A, TriangularOptions options) {
  const TriangularSolver<T, I> solver(A, options);
  for (const Index columns : {1, 2, 5, 19, 75}) {
    const auto b = test::random_buffer<T>(A.rows() * columns, 9);
    std::map<bool, Buffer<T>> alike;
    const auto expect = [&](std::string_view kernel) {
      for (const Index threads : {1, 2}) {
        SCOPED_TRACE(detail::concat(kernel, ' ', columns, " threads ", threads));
        Context ctx = Context::with_threads(threads);
        if (!kernel.empty()) ctx.force(std::string(kernel));
        Buffer<T> x = b;
        try {
          solver.solve(ctx, MatrixView<T>(x.data(), A.rows(), columns));
        } catch (const unsupported_error&) {
          ASSERT_FALSE(kernel.empty() || kernel.ends_with(":ref"));
          return;
        }
        expect_solution(A, options, b, x, columns);
        const bool fused = columns > 1 && kernel.find(":avx") != kernel.npos;
        if (columns > 1 && !fused && kernel != "triangular_solve:ref") continue;
        const auto [first, is_first] = alike.emplace(fused, x);
        EXPECT_TRUE(std::equal(x.begin(), x.end(), first->second.begin()));
      }
    };
    expect("");
    const auto expect_all = [&](const auto& kernels) {
      for (const auto& kernel : kernels)
        if (active_isa().has(kernel.isa)) expect(kernel.name);
    };
    expect_all(TriangularSolveKernels::entries<TriangularSolveArgs<T, I>>());
    if (columns == 1) expect_all(TriangularSlicesKernels::entries<TriangularSlicesArgs<T, I>>());
  }
}
TEST(TriangularSolve, SolvesTrianglesOfEveryPattern) {
  for (auto [name, list] : test::sparse_patterns<double>()) {
    SCOPED_TRACE(name);
    Coo<double> square;
    square.rows = square.cols = std::min(list.rows, list.cols);
    for (std::size_t k = 0; k < list.value.size(); ++k)
      if (std::max(list.row[k], list.col[k]) < square.rows) {
        square.row.push_back(list.row[k]);
        square.col.push_back(list.col[k]);
        square.value.push_back(list.value[k] / 64);
      }
    for (const bool lower : {true, false})
      for (const bool transposed : {true, false})
        expect_every_triangle(csr_from_coo<double>(square), {lower, true, transposed});
    for (Index i = 0; i < square.rows; ++i) {
      square.row.push_back(i);
      square.col.push_back(i);
      square.value.push_back(5);
    }
    for (const bool lower : {true, false}) {
      expect_every_triangle(csr_from_coo<double, std::int64_t>(square), {lower, false, !lower});
      expect_every_triangle(csr_from_coo<double>(square), {lower, false, lower});
    }
    const Csr<double> A = csr_from_coo<double>(square);
    Buffer<float> values(A.nnz());
    std::copy(A.values().begin(), A.values().end(), values.begin());
    expect_every_triangle(Csr<float>(CsrView<float>(trusted, A.rows(), A.cols(), A.row_ptr(), A.col_idx(), values)),
                          {true, false, false});
  }
}

// Levels of many rows, of few entries and of many; columns that are not contiguous go through the same slices.
TEST(TriangularSolve, SlicesOfLevels) {
  for (const Index side : {7, 40}) {
    expect_every_triangle(test::poisson(side), {true, false, false});
    expect_every_triangle(test::poisson(side), {false, false, true});
  }
  Coo<double> entries = to_coo(test::uniform(900, 900, 0.002, 11));
  for (auto& v : entries.value) v /= 4;
  for (Index i = 0; i < 900; ++i) {
    entries.row.push_back(i);
    entries.col.push_back(i);
    entries.value.push_back(3 + static_cast<double>(i % 5));
  }
  const Sparse A = csr_from_coo<double>(entries);
  expect_every_triangle(A, {true, false, false});
  expect_every_triangle(A, {false, true, false});
  const TriangularSolver solver(A);
  const auto b = test::random_buffer<double>(900 * 3, 4);
  Context ctx;
  Buffer<double> columns = b, rows(900 * 3);
  solver.solve(ctx, MatrixView<double>(columns.data(), {900, 3}, {1, 900}));
  for (Index r = 0; r < 3; ++r) {
    for (Index i = 0; i < 900; ++i) rows[3 * i] = b[900 * r + i];
    solver.solve(ctx, MatrixView<double>(rows.data(), {900, 1}, {3, 1}));
    for (Index i = 0; i < 900; ++i) ASSERT_EQ(rows[3 * i], columns[900 * r + i]) << i;
  }
}

// The Graph Challenge's layers, Y := min(max(Y W - 0.3, 0), 32) where Y W has entries, against the same in dense f64.
// J. Kepner et al., "Sparse Deep Neural Network Graph Challenge" (HPEC 2019).
void expect_dense_layers(Index images) {
  const char* where = std::getenv("TESSERA_TEST_DATA");
#ifdef TESSERA_TEST_DATA_DEFAULT
  if (where == nullptr) where = TESSERA_TEST_DATA_DEFAULT;
#endif
  const std::string folder = std::string(where == nullptr ? "." : where) + "/sparse_dnn/";
  if (!std::filesystem::exists(folder + "n1024-l1.mtx")) GTEST_SKIP() << folder << " is not there (TESSERA_TEST_DATA)";
  const auto read = [&](const std::string& name) {
    return csr_from_coo<double>(read_matrix_market<double>(folder + name));
  };
  Sparse Y = read("images-1200x1024.mtx");
  ASSERT_EQ(Y.rows(), 1200);
  ASSERT_EQ(Y.cols(), 1024);
  const std::size_t rows = static_cast<std::size_t>(images), entries = static_cast<std::size_t>(Y.row_ptr()[rows]);
  Y = Sparse(CsrView<double>(trusted, images, 1024, Y.row_ptr().first(rows + 1), Y.col_idx().first(entries),
                             Y.values().first(entries)));
  Dense y = dense(Y);
  Context ctx;
  double edges = 0, seconds = 0;
  for (int l = 1; l <= 4; ++l) {
    const Sparse W = read(detail::concat("n1024-l", l, ".mtx"));
    edges += static_cast<double>(images) * static_cast<double>(W.nnz());
    const auto start = std::chrono::steady_clock::now();
    Sparse Z = spgemm(ctx, Y, W);
    for (auto& v : Z.values()) v = std::min(std::max(v - 0.3, 0.0), 32.0);
    Buffer<std::int32_t> row_ptr(images + 1), col_idx(Z.nnz(), uninitialized);
    Buffer<double> values(Z.nnz(), uninitialized);
    Index to = 0;
    for (std::size_t i = 0; i < rows; ++i) {
      for (auto e = static_cast<std::size_t>(Z.row_ptr()[i]); e < static_cast<std::size_t>(Z.row_ptr()[i + 1]); ++e)
        if (Z.values()[e] != 0) {
          col_idx[to] = Z.col_idx()[e];
          values[to++] = Z.values()[e];
        }
      row_ptr[static_cast<Index>(i) + 1] = static_cast<std::int32_t>(to);
    }
    Y = Sparse(CsrView<double>(trusted, images, 1024, row_ptr, std::span(col_idx.data(), static_cast<std::size_t>(to)),
                               std::span(values.data(), static_cast<std::size_t>(to))));
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

    const Dense w = dense(W);
    Dense z = Dense::Zero(images, 1024);
    for (Index i = 0; i < images; ++i) {
      double* TESSERA_RESTRICT sums = z.data() + i * 1024;
      for (Index k = 0; k < 1024; ++k) {
        const double x = y.data()[i * 1024 + k];
        const double* row = w.data() + k * 1024;
        for (Index j = 0; j < 1024; ++j) sums[j] += x * row[j];
      }
    }
    y = (z.array() - 0.3).max(0.0).min(32.0);
    ASSERT_TRUE(dense(Y) == y) << "layer " << l;  // weights are powers of two: the products are exact, the sums alike
  }
  std::cout << "4 layers, " << images << " images: " << edges / seconds * 1e-9 << "e9 edges/s\n";
  for (Index i = 0; i < images; ++i)  // the challenge's answer: images that still have an entry
    ASSERT_EQ(Y.row_ptr().data()[i + 1] > Y.row_ptr().data()[i], y.row(i).maxCoeff() > 0) << i;
}
TEST(GraphChallenge, SparseLayersAreTheDenseOnes) { expect_dense_layers(24); }
TEST(GraphChallenge, AllImagesAreThoseOfDenseLayersSlow) { expect_dense_layers(1200); }

}  // namespace
}  // namespace tessera
