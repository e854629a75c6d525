// Sparse times sparse: every kernel against Eigen's product and the obvious loop, masks, semirings, threads, memory.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <limits>
#include <string>
#include <vector>

#include <support/sparse_patterns.hpp>
#include <tessera/sparse/spgemm.hpp>
#include <tessera/sparse/spgemm_atomic.hpp>
#include "graphs.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

using test::Sparse;

// The pattern of Eigen's product, values within 1e-12 of the sum of magnitudes.
void expect_eigen_product(const Sparse& A, const Sparse& B, const Sparse& C) {
  const test::EigenRows a = eigen_map(A), b = eigen_map(B);
  test::EigenRows c = a * b, size = a.cwiseAbs() * b.cwiseAbs();
  c.makeCompressed();
  size.makeCompressed();
  ASSERT_EQ(C.nnz(), c.nonZeros());
  EXPECT_TRUE(std::equal(C.row_ptr().begin(), C.row_ptr().end(), c.outerIndexPtr()));
  EXPECT_TRUE(std::equal(C.col_idx().begin(), C.col_idx().end(), c.innerIndexPtr()));
  for (Index k = 0; k < C.nnz(); ++k)
    ASSERT_LE(std::abs(C.values()[static_cast<std::size_t>(k)] - c.valuePtr()[k]), 1e-12 * size.valuePtr()[k]) << k;
}

template <class F>
void for_each_kernel(F&& f) {
  SpgemmKernels::explain(Context(), SpgemmArgs<double, std::int32_t, PlusTimes<double>>{},
                         [&](std::string_view name, const std::string& why) {
                           if (why.rfind("needs", 0) == 0) return;
                           SCOPED_TRACE(name);
                           Context ctx;
                           ctx.force(name);
                           f(ctx);
                         });
}

TEST(Spgemm, IsEigensProduct) {
  for (const auto& [name, A] : test::square_samples()) {
    SCOPED_TRACE(name);
    const Sparse T = A.transposed();
    for_each_kernel([&, &X = A](Context& ctx) {
      expect_eigen_product(X, X, spgemm(ctx, X, X));
      expect_eigen_product(X, T, spgemm(ctx, X, T));
    });
  }
  const Sparse wide = test::uniform(40, 3000, 0.01, 1), tall = test::uniform(3000, 90, 0.02, 2);
  for_each_kernel([&](Context& ctx) {
    expect_eigen_product(wide, tall, spgemm(ctx, wide, tall));
    expect_eigen_product(tall.transposed(), tall, spgemm(ctx, tall.transposed(), tall));
    expect_eigen_product(Sparse(0, 5), Sparse(5, 0), spgemm(ctx, Sparse(0, 5), Sparse(5, 0)));
    expect_eigen_product(Sparse(3, 0), Sparse(0, 4), spgemm(ctx, Sparse(3, 0), Sparse(0, 4)));
  });
}

// Rows whose products are far apart go to the hash table, sorted or as they come; so do 64-bit indices.
TEST(Spgemm, HashTablesOfEitherIndex) {
  const Index n = 1000000;
  std::vector<Index> row, col;
  std::vector<double> value;
  const Philox draws(9);
  for (Index e = 0; e < 3000; ++e) {
    row.push_back(static_cast<Index>(draws.below(static_cast<std::uint64_t>(3 * e), 40)));
    col.push_back(static_cast<Index>(draws.below(static_cast<std::uint64_t>(3 * e + 1), 200)) * (n / 200));
    value.push_back(draws.normal(static_cast<std::uint64_t>(e)));
  }
  const Sparse A = test::from_entries(40, n, row, col, value);
  row.clear();
  for (Index e = 0; e < 3000; ++e) {
    row.push_back(static_cast<Index>(draws.below(static_cast<std::uint64_t>(3 * e + 2), 200)) * (n / 200));
    col[static_cast<std::size_t>(e)] = static_cast<Index>(draws.below(static_cast<std::uint64_t>(e) + 90000, 1000000));
  }
  const Sparse B = test::from_entries(n, n, row, col, value);
  Coo<double> a = to_coo(A), b = to_coo(B);
  const auto A64 = csr_from_coo<double, std::int64_t>(a), B64 = csr_from_coo<double, std::int64_t>(b);
  for_each_kernel([&](Context& ctx) {  // each with bits of its own: one of them has multiply-adds
    const Sparse C = spgemm(ctx, A, B);
    expect_eigen_product(A, B, C);
    const auto C64 = spgemm(ctx, A64, B64);
    EXPECT_TRUE(std::equal(C.col_idx().begin(), C.col_idx().end(), C64.col_idx().begin(), C64.col_idx().end()));
    EXPECT_TRUE(std::equal(C.values().begin(), C.values().end(), C64.values().begin(), C64.values().end()));

    auto loose = spgemm(ctx, sparse_rows(A), sparse_rows(B), PlusTimes<double>{}, nullptr, {.sorted = false});
    ASSERT_EQ(loose.col_idx.size(), C.nnz());
    for (Index i = 0; i < C.rows(); ++i) {
      std::vector<std::pair<std::int32_t, double>> entries, expected;
      for (Index e = loose.row_ptr[i]; e < loose.row_ptr[i + 1]; ++e) {
        entries.emplace_back(loose.col_idx[e], loose.values[e]);
        expected.emplace_back(C.col_idx()[static_cast<std::size_t>(e)], C.values()[static_cast<std::size_t>(e)]);
      }
      std::sort(entries.begin(), entries.end());
      EXPECT_EQ(entries, expected);
    }
  });
}

TEST(Spgemm, ThreadsChangeNoBit) {
  for (const auto& A : {test::rmat(12, 40000, 1), test::poisson(90)}) {
    Context one;
    const Sparse C = spgemm(one, A, A);
    for (const Index threads : {2, 5}) {
      Context ctx = Context::with_threads(threads);
      test::expect_same(C, spgemm(ctx, A, A));
    }
  }
}

TEST(Spgemm, MaskedIsTheProductWhereTheMaskIs) {
  for (const auto& [name, A] : test::square_samples()) {
    SCOPED_TRACE(name);
    Context plain;
    const Sparse C = spgemm(plain, A, A);
    for (const Sparse& mask : {test::uniform(std::min<Index>(A.rows(), 600), std::min<Index>(A.rows(), 600), 0.05, 8),
                               Sparse(A.rows(), A.cols()), Sparse(A)}) {
      if (mask.rows() != A.rows()) continue;
      Coo<double> kept;
      kept.rows = kept.cols = A.rows();
      for (Index i = 0; i < C.rows(); ++i)
        for (auto e = static_cast<std::size_t>(C.row_ptr()[static_cast<std::size_t>(i)]);
             e < static_cast<std::size_t>(C.row_ptr()[static_cast<std::size_t>(i) + 1]); ++e) {
          const auto* from = mask.col_idx().data() + mask.row_ptr()[static_cast<std::size_t>(i)];
          const auto* to = mask.col_idx().data() + mask.row_ptr()[static_cast<std::size_t>(i) + 1];
          if (!std::binary_search(from, to, C.col_idx()[e])) continue;
          kept.row.push_back(i);
          kept.col.push_back(C.col_idx()[e]);
          kept.value.push_back(C.values()[e]);
        }
      for_each_kernel([&, &X = A](Context& ctx) {
        const Sparse expected = csr_from_coo<double>(kept), got = spgemm_masked(ctx, mask, X, X);
        ASSERT_EQ(got.nnz(), expected.nnz());
        EXPECT_TRUE(std::equal(got.col_idx().begin(), got.col_idx().end(), expected.col_idx().begin()));
        for (std::size_t e = 0; e < expected.values().size(); ++e)
          ASSERT_NEAR(got.values()[e], expected.values()[e], 1e-12 * (1 + std::abs(expected.values()[e])));
      });
    }
  }
}

template <class S>
void expect_semiring_laws(const S& semiring, const Sparse& A) {
  const Index n = A.rows();
  Context ctx;
  const auto rows = sparse_rows(A);
  Buffer<double> dense(n * n), square(n * n), eye(n * n);
  std::fill(dense.begin(), dense.end(), semiring.zero());
  for (Index i = 0; i < n; ++i)
    for (Index e = rows.row_ptr[i]; e < rows.row_ptr[i + 1]; ++e) dense[i * n + rows.col_idx[e]] = rows.values[e];
  semiring_product(ctx, semiring, A, MatrixView<const double>(dense.data(), n, n),
                   MatrixView<double>(square.data(), n, n));
  const Sparse C = spgemm(ctx, A, A, semiring);
  std::fill(eye.begin(), eye.end(), semiring.zero());
  for (Index i = 0; i < n; ++i)
    for (auto e = static_cast<std::size_t>(C.row_ptr()[static_cast<std::size_t>(i)]);
         e < static_cast<std::size_t>(C.row_ptr()[static_cast<std::size_t>(i) + 1]); ++e)
      eye[i * n + C.col_idx()[e]] = C.values()[e];
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < n; ++j) {
      double sum = semiring.zero();
      for (Index k = 0; k < n; ++k) sum = semiring.add(sum, semiring.multiply(dense[i * n + k], dense[k * n + j]));
      ASSERT_EQ(square[i * n + j], sum);
      ASSERT_EQ(eye[i * n + j], sum);
    }
  Buffer<double> y(n);  // columns apart
  semiring_product(ctx, semiring, A, MatrixView<const double>(dense.data(), {n, 1}, {n, 1}),
                   MatrixView<double>(y.data(), {n, 1}, {1, 1}));
  for (Index i = 0; i < n; ++i) ASSERT_EQ(y[i], square[i * n]);
}

TEST(Spgemm, Semirings) {
  Sparse A = test::uniform(60, 60, 0.08, 12);
  for (auto& v : A.values()) v = std::floor(std::abs(4 * v)) + 1;  // sums are exact
  expect_semiring_laws(PlusTimes<double>{}, A);
  expect_semiring_laws(MinPlus<double>{}, A);
  expect_semiring_laws(MaxPlus<double>{}, A);
  expect_semiring_laws(OrAnd<double>{}, A);
}

// Each sum in the order of the row's entries, so that results are equal to the bit.
template <class S>
void expect_semiring_of_every_pattern(const S& semiring) {
  Context ctx = Context::with_threads(2);
  for (const auto& [name, list] : test::sparse_patterns<double>())
    for (const Index n : {1, 5, 37}) {
      SCOPED_TRACE(detail::concat(name, " n ", n));
      const Sparse A = csr_from_coo<double>(list);
      Buffer<double> x(A.cols() * n), y(A.rows() * n);
      for (Index k = 0; k < x.size(); ++k) x[k] = static_cast<double>(k % 7 - 3);
      semiring_product(ctx, semiring, A, MatrixView<const double>(x.data(), A.cols(), n),
                       MatrixView<double>(y.data(), A.rows(), n));
      const auto rows = sparse_rows(A);
      for (Index i = 0; i < A.rows(); ++i)
        for (Index j = 0; j < n; ++j) {
          double sum = semiring.zero();
          for (Index e = rows.row_ptr[i]; e < rows.row_ptr[i + 1]; ++e)
            sum = semiring.add(sum, semiring.multiply(rows.values[e], x[rows.col_idx[e] * n + j]));
          ASSERT_EQ(y[i * n + j], sum) << i << ' ' << j;
        }
    }
}

TEST(Spgemm, SemiringsOfEveryPattern) {
  expect_semiring_of_every_pattern(PlusTimes<double>{});
  expect_semiring_of_every_pattern(MinPlus<double>{});
  expect_semiring_of_every_pattern(MaxPlus<double>{});
  expect_semiring_of_every_pattern(OrAnd<double>{});
}

template <class T, class S>
void expect_same_semiring(const S& semiring) {
  Csr<T> A = csr_from_coo<T>(test::scattered<T>(37, 29, 0.3));
  const T infinity = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  const T odd[] = {infinity, -infinity, nan, T(0), -T(0)};
  const bool finite = std::same_as<S, PlusTimes<T>>;
  for (std::size_t e = 0; e < A.values().size(); ++e)
    A.values()[e] = e % 7 == 0 && !finite ? odd[e / 7 % 5] : static_cast<T>(e % 9) - 4;
  for (const Index n : {2, 7, 8, 33, 75}) {
    Buffer<T> x(29 * (n + 1)), expected(37 * n), y(37 * (n + 3));
    for (Index k = 0; k < x.size(); ++k) x[k] = k % 11 == 0 && !finite ? odd[k / 11 % 5] : static_cast<T>(k % 13) - 6;
    const MatrixView<const T> X(x.data(), {29, n}, {n + 1, 1});
    const SemiringArgs<T, std::int32_t, S> args{
        {}, A.row_ptr().data(), A.col_idx().data(), A.values().data(), X, {expected.data(), 37, n}, semiring};
    SemiringRef::run(args, {0, 37, 0});
    for (const auto& kernel : SemiringKernels::template entries<SemiringArgs<T, std::int32_t, S>>()) {
      if (!kernel.accepts(args)) continue;
      SCOPED_TRACE(detail::concat(kernel.name, " n ", n));
      Context ctx;
      ctx.force(std::string(kernel.name));
      std::fill(y.begin(), y.end(), T(77));
      semiring_product(ctx, semiring, A, X, MatrixView<T>(y.data(), {37, n}, {n + 3, 1}));
      for (Index i = 0; i < 37; ++i)
        for (Index j = 0; j < n + 3; ++j) {
          const T want = j < n ? expected[i * n + j] : T(77);
          ASSERT_TRUE(y[i * (n + 3) + j] == want || (std::isnan(want) && std::isnan(y[i * (n + 3) + j])))
              << i << ' ' << j << ' ' << y[i * (n + 3) + j] << ' ' << want;
        }
    }
  }
}

TEST(Spgemm, SemiringKernelsAgreeWithTheirReference) {
  expect_same_semiring<float>(PlusTimes<float>{});
  expect_same_semiring<float>(MinPlus<float>{});
  expect_same_semiring<float>(MaxPlus<float>{});
  expect_same_semiring<float>(OrAnd<float>{});
  expect_same_semiring<double>(MinPlus<double>{});
  expect_same_semiring<double>(MaxPlus<double>{});
}

// A. Shivdikar's check: memory beside the result grows with the longest row and the threads, not with the products.
TEST(Spgemm, MemoryIsOfTheLongestRow) {
  const Sparse A = test::rmat(13, 60000, 2);
  Index longest = 0;
  Context one;
  SpgemmReport report;
  const Sparse C = spgemm(one, A, A, {}, &report);
  for (std::size_t i = 0; i < 8192; ++i) longest = std::max<Index>(longest, C.row_ptr()[i + 1] - C.row_ptr()[i]);
  EXPECT_EQ(report.nnz, C.nnz());
  EXPECT_LT(one.workspace.capacity(), std::size_t{1} << 17);
  for (const Index threads : {1, 4}) {
    Context ctx = Context::with_threads(threads);
    spgemm(ctx, A, A, {}, &report);
    const double entry = sizeof(double) + sizeof(std::int32_t);
    EXPECT_LE(static_cast<double>(report.auxiliary_bytes),
              2 * static_cast<double>(longest * threads) * entry + 16.0 * static_cast<double>(A.rows()));
    EXPECT_LT(50 * static_cast<double>(report.auxiliary_bytes),
              report.products * entry);  // what an outer product holds
  }
}

TEST(Spgemm, AtomicAddsGiveTheSamePattern) {
  for (const auto& A : {test::rmat(10, 9000, 1), test::banded(300, 4), Sparse(5, 5)}) {
    Context one;
    const Sparse C = spgemm(one, A, A);
    for (const Index threads : {1, 3}) {
      Context ctx = Context::with_threads(threads);
      const Sparse D = spgemm_atomic(ctx, A, A, 1 << 12);
      ASSERT_EQ(C.nnz(), D.nnz());
      EXPECT_TRUE(std::equal(C.col_idx().begin(), C.col_idx().end(), D.col_idx().begin()));
      for (std::size_t e = 0; e < C.values().size(); ++e)
        ASSERT_NEAR(C.values()[e], D.values()[e], 1e-12 * (1 + std::abs(C.values()[e])));
    }
  }
}

TEST(Spgemm, RefusesByName) {
  Context ctx;
  const Sparse A(3, 4), B(5, 6);
  for (const auto run : {+[](Context&c, const Sparse&x, const Sparse&y) { spgemm(c, x, y); },
                         +[](Context&c, const Sparse&x, const Sparse&y) { spgemm_atomic(c, x, y); }}) {
    try {
      run(ctx, A, B);
      FAIL();
    } catch (const shape_error& e) {
      EXPECT_NE(std::string(e.what()).find("3x4"), std::string::npos) << e.what();
      EXPECT_NE(std::string(e.what()).find("5x6"), std::string::npos) << e.what();
    }
  }
  EXPECT_THROW(spgemm_masked(ctx, Sparse(3, 5), A, Sparse(4, 6)), shape_error);
  // 300 rows times 300 columns are more entries than int16_t counts.
  std::vector<std::int16_t> column(301), row{0, 300}, indices(300);
  for (std::int16_t i = 0; i < 300; ++i) {
    column[static_cast<std::size_t>(i) + 1] = static_cast<std::int16_t>(i + 1);
    indices[static_cast<std::size_t>(i)] = i;
  }
  const std::vector<std::int16_t> zeros(300);
  const std::vector<float> ones(300, 1.0f);
  const CsrArrays<float, std::int16_t> tall{300, 1, column.data(), zeros.data(), ones.data()},
      wide{1, 300, row.data(), indices.data(), ones.data()};
  EXPECT_THROW(spgemm(ctx, tall, wide, PlusTimes<float>{}), unsupported_error);
  EXPECT_EQ(spgemm(ctx, wide, tall, PlusTimes<float>{}).values[0], 300.0f);
}

}  // namespace
}  // namespace tessera
