// Every kernel of products with compressed rows against the dense product: both transposes, all layouts, tails, long
// rows cut into blocks.
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <support/oracle.hpp>
#include <tessera/kernels/spmm/spmm.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

enum class Layout { columns, rows, spread };

template <class T>
MatrixView<T> placed(Buffer<T>& memory, Index rows, Index cols, Layout layout, std::uint64_t seed) {
  const Index step = layout == Layout::spread ? 2 : 1, line = (layout == Layout::columns ? rows : cols) * step;
  memory = test::random_buffer<T>((layout == Layout::columns ? cols : rows) * line + 2, seed);
  return layout == Layout::columns ? MatrixView<T>(memory.data() + 1, {rows, cols}, {1, line})
                                   : MatrixView<T>(memory.data() + 1, {rows, cols}, {line, step});
}

template <class T, class I>
struct Sparse {
  Index rows, cols;
  std::vector<I> row_ptr{0}, col_idx;
  std::vector<T> values;
  Buffer<T> dense;

  Sparse(Index m, Index k, double density) : rows(m), cols(k), dense(m * k) {
    const Philox draws(5);
    for (Index i = 0; i < m; ++i) {
      for (Index j = 0; j < k; ++j) {
        const auto at = static_cast<std::uint64_t>(i * k + j);
        if (static_cast<double>(draws.uniform(at)) >= density * (i % 5 == 3 ? 0 : i % 7 == 2 ? 3 : 1)) continue;
        col_idx.push_back(static_cast<I>(j));
        values.push_back(static_cast<T>(static_cast<float>(draws.below(at, 200)) - 99.5f));
        dense[i * k + j] = values.back();
      }
      row_ptr.push_back(static_cast<I>(col_idx.size()));
    }
  }
};

template <class T, class I>
void check(Context& ctx, const Sparse<T, I>& A, Index n, Op op, Layout layout, accum_t<T> alpha, accum_t<T> beta,
           bool gathering = false) {
  using S = accum_t<T>;
  SCOPED_TRACE(detail::concat(A.rows, "x", A.cols, " n ", n, " op ", int(op), " layout ", int(layout)));
  const MatrixView<const T> dense(A.dense.data(), A.rows, A.cols);
  const auto opA = op == Op::none ? dense : dense.transposed();
  Buffer<S> mx, my;
  const auto X = placed(mx, opA.cols(), n, layout, 1);
  const auto Y = placed(my, opA.rows(), n, layout == Layout::columns && n % 3 == 0 ? Layout::rows : layout, 2);
  const Buffer<S> before = my;
  if (beta == S(0) && std::numeric_limits<S>::has_quiet_NaN)
    for (Index i = 0; i < Y.rows(); ++i)
      for (Index j = 0; j < n; ++j) Y(i, j) = std::numeric_limits<S>::quiet_NaN();
  SpmmArgs<T, I> args{{}, op, A.rows, A.cols, A.row_ptr.data(), A.col_idx.data(), A.values.data(), alpha, beta, X, Y};
  if (gathering) args.gathers_above = 0;
  const bool gathers =
      n == 1 && op == Op::none && std::is_same_v<T, float> && sizeof(I) == 4 && args.nonzeros() >= 32 * A.rows;
  if (ctx.forced("spmm") == "spmm:avx512" && n <= args.pad && !gathers) {
    EXPECT_THROW(spmm(ctx, args), unsupported_error);
    return;
  }
  spmm(ctx, args);
  const MatrixView<const S> old(before.data() + (Y.data() - my.data()), Y.extents(), Y.strides());
  test::expect_product(alpha, opA, MatrixView<const S>(X), beta, old, MatrixView<const S>(Y));
  for (Index i = 0; i < Y.rows(); ++i)  // nothing beside Y is written
    for (Index j = 0; j < n; ++j) Y(i, j) = old(i, j);
  for (Index i = 0; i < my.size(); ++i) ASSERT_EQ(my[i], before[i]) << i;
}

template <class T, class I>
void check_all(Context& ctx) {
  int turn = 0;
  const auto both = [&](const Sparse<T, I>& A, Index n, Layout layout) {
    for (const Op op : {Op::none, Op::transpose}) {
      const accum_t<T> beta[] = {0, 1, -2};
      check(ctx, A, n, op, layout, turn % 2 == 0 ? 1 : -3, beta[turn % 3], turn % 4 < 2);
      ++turn;
    }
  };
  struct Shape {
    Index rows, cols;
    double density;
  };
  for (const auto& [rows, cols, density] :
       std::vector<Shape>{{1, 1, 1}, {3, 20, 0.5}, {40, 7, 0.3}, {70, 65, 0.1}, {130, 33, 0.02}}) {
    const Sparse<T, I> A(rows, cols, density);
    for (const Index n : {1, 2, 5, 8, 16, 19, 24, 33})
      for (const Layout layout : {Layout::columns, Layout::rows, Layout::spread}) both(A, n, layout);
  }
  const Sparse<T, I> longer(20, 700, 0.4);  // in blocks, panels and all counts of vectors
  for (const Index n : {64, 80, 91, 144})
    for (const Layout layout : {Layout::columns, Layout::rows}) both(longer, n, layout);
  both(Sparse<T, I>(6, 30, 0.4), 512, Layout::rows);
  both(Sparse<T, I>(3, 8200, 0.2), 130, Layout::rows);  // X beyond the second cache: eight vectors at a time
  for (int i = 0; i < 2; ++i) both(longer, 1, Layout::rows);
}

TEST(Spmm, EveryKernelAgrees) {
  for (const auto& kernel : SpmmKernels::entries<SpmmArgs<float, std::int32_t>>()) {
    if (!active_isa().has(kernel.isa)) continue;
    SCOPED_TRACE(kernel.name);
    Context ctx;
    ctx.force(std::string(kernel.name));
    check_all<float, std::int32_t>(ctx);
    check_all<double, std::int64_t>(ctx);
    check_all<bf16, std::int32_t>(ctx);
  }
}

TEST(Spmm, IntegersAreExact) {
  Context ctx;
  const Sparse<std::int8_t, std::int32_t> A(33, 200, 0.3);
  for (const Op op : {Op::none, Op::transpose})
    for (const Index n : {1, 7, 32}) {
      const Index rows = op == Op::none ? 33 : 200, cols = 233 - rows;
      Buffer<std::int32_t> x(cols * n), y(rows * n);
      for (Index i = 0; i < x.size(); ++i) x[i] = static_cast<std::int32_t>(i * 77 % 255 - 127);
      const MatrixView<std::int32_t> Y(y.data(), rows, n);
      spmm(ctx, SpmmArgs<std::int8_t, std::int32_t>{{},
                                                    op,
                                                    33,
                                                    200,
                                                    A.row_ptr.data(),
                                                    A.col_idx.data(),
                                                    A.values.data(),
                                                    1,
                                                    0,
                                                    MatrixView<const std::int32_t>(x.data(), cols, n),
                                                    Y});
      for (Index i = 0; i < rows; ++i)
        for (Index j = 0; j < n; ++j) {
          std::int32_t sum = 0;
          for (Index k = 0; k < cols; ++k) sum += A.dense[op == Op::none ? i * 200 + k : k * 200 + i] * x[k * n + j];
          ASSERT_EQ(Y(i, j), sum);
        }
    }
}

TEST(Spmm, ThreadsDoNotChangeBits) {
  const Sparse<float, std::int32_t> A(300, 1500, 0.1);
  for (const Op op : {Op::none, Op::transpose})
    for (const Index n : {1, 5, 48}) {
      const Index rows = op == Op::none ? 300 : 1500, cols = 1800 - rows;
      const auto x = test::random_buffer<float>(cols * n, 3);
      Buffer<float> y[3];
      for (const Index threads : {1, 2, 3}) {
        Context ctx = Context::with_threads(threads);
        Buffer<float>& to = y[threads - 1] = test::random_buffer<float>(rows * n, 4);
        spmm(ctx, SpmmArgs<float, std::int32_t>{{},
                                                op,
                                                300,
                                                1500,
                                                A.row_ptr.data(),
                                                A.col_idx.data(),
                                                A.values.data(),
                                                2,
                                                3,
                                                MatrixView<const float>(x.data(), cols, n),
                                                MatrixView<float>(to.data(), rows, n)});
      }
      for (Index i = 0; i < y[0].size(); ++i) ASSERT_TRUE(y[0][i] == y[1][i] && y[0][i] == y[2][i]);
    }
}

TEST(Spmm, RefusesWhatDoesNotFit) {
  const Sparse<float, std::int32_t> A(2, 3, 1);
  float x[4] = {}, y[4] = {};
  SpmmArgs<float, std::int32_t> args{{},
                                     Op::none,
                                     2,
                                     3,
                                     A.row_ptr.data(),
                                     A.col_idx.data(),
                                     A.values.data(),
                                     1,
                                     0,
                                     MatrixView<const float>(x, {2, 1}, {1, 2}),
                                     MatrixView<float>(y, {2, 1}, {1, 2})};
  EXPECT_THROW(spmm(default_context(), args), shape_error);
}

}  // namespace
}  // namespace tessera
