// Every kernel of banded products against the dense product: both transposes, bands wide and narrow, edges and tails.
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include <support/oracle.hpp>
#include <tessera/kernels/banded/banded.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

enum class Layout { columns, rows, spread };

template <class T>
MatrixView<T> placed(Buffer<T>& memory, Index rows, Index cols, Layout layout, std::uint64_t seed) {
  const Index step = layout == Layout::spread ? 2 : 1, line = (layout == Layout::columns ? rows : cols) * step + 3;
  memory = test::random_buffer<T>((layout == Layout::columns ? cols : rows) * line + 1, seed);
  return layout == Layout::columns ? MatrixView<T>(memory.data() + 1, {rows, cols}, {1, line})
                                   : MatrixView<T>(memory.data() + 1, {rows, cols}, {line, step});
}

template <class T>
void check(Context& ctx, Index rows, Index cols, Index lower, Index upper, Index apart, Index n, Op op, Layout layout,
           T alpha, T beta) {
  SCOPED_TRACE(
      detail::concat(rows, "x", cols, " band ", lower, ",", upper, " step ", apart, " n ", n, " layout ", int(layout)));
  std::vector<Index> starts, offsets;
  Index total = 0;
  Buffer<T> dense(rows * cols);
  for (Index i = 0; i < rows * cols; ++i) dense[i] = T(0);
  const Index most = std::min(rows, cols) * ((upper + lower) / apart + 1);
  const auto entries = test::random_buffer<T>(most, 7);
  for (Index d = -lower; d <= upper; d += apart) {
    starts.push_back(total);
    offsets.push_back(d);
    for (Index i = std::max<Index>(0, -d); i < std::min(rows, cols - d); ++i, ++total)
      dense[i * cols + i + d] = entries[total];
  }
  const MatrixView<const T> A(dense.data(), rows, cols);
  const auto opA = op == Op::none ? A : A.transposed();
  Buffer<T> mx, my;
  const auto X = placed(mx, opA.cols(), n, layout, 1);
  const auto Y = placed(my, opA.rows(), n, layout, 2);
  if (beta == T(0))
    for (Index i = 0; i < Y.rows(); ++i)
      for (Index j = 0; j < n; ++j) Y(i, j) = std::numeric_limits<T>::quiet_NaN();
  const Buffer<T> before = my;
  const auto count = static_cast<Index>(starts.size());
  BandedArgs<T> args{{}, op, rows, cols, count, offsets.data(), starts.data(), entries.data(), alpha, beta, X, Y};
  try {
    banded(ctx, args);
  } catch (const unsupported_error&) {
    EXPECT_EQ(layout == Layout::spread || (layout == Layout::rows && n == 1), true);
    return;
  }
  const MatrixView<const T> old(before.data() + (Y.data() - my.data()), Y.extents(), Y.strides());
  test::expect_product(alpha, opA, MatrixView<const T>(X), beta, old, MatrixView<const T>(Y));
  for (Index i = 0; i < Y.rows(); ++i)  // nothing beside Y is written
    for (Index j = 0; j < n; ++j) Y(i, j) = T(0);
  for (Index i = 0; i < my.size(); ++i) {
    if (my[i] == T(0)) continue;
    ASSERT_EQ(my[i], before[i]) << i;
  }
}

template <class T>
void check_all(Context& ctx) {
  int turn = 0;
  for (const auto& [rows, cols, lower, upper, apart] : std::vector<std::array<Index, 5>>{{1, 1, 0, 0, 1},
                                                                                         {9, 9, 1, 1, 1},
                                                                                         {33, 33, 0, 0, 1},
                                                                                         {70, 70, 1, 1, 1},
                                                                                         {101, 101, 3, 2, 1},
                                                                                         {40, 75, 5, 44, 1},
                                                                                         {75, 40, 60, 3, 1},
                                                                                         {64, 64, 63, 63, 1},
                                                                                         {20, 90, 2, 2, 1},
                                                                                         {1030, 1030, 4, 0, 1},
                                                                                         {90, 90, 60, 60, 30},
                                                                                         {90, 50, 80, 40, 17},
                                                                                         {45, 120, 44, 110, 9}})
    for (const Op op : {Op::none, Op::transpose})
      for (const Index n : {1, 2, 5, 9, 33})
        for (const Layout layout : {Layout::columns, Layout::rows, Layout::spread}) {
          if (rows > 500 && n > 2) continue;
          const T beta[] = {T(0), T(1), T(-0.5)};
          check<T>(ctx, rows, cols, lower, upper, apart, n, op, layout, turn % 2 == 0 ? T(1) : T(-1.5), beta[turn % 3]);
          ++turn;
        }
}

TEST(Banded, EveryKernelAgrees) {
  for (const auto& kernel : BandedKernels::entries<BandedArgs<float>>()) {
    if (!active_isa().has(kernel.isa)) continue;
    SCOPED_TRACE(kernel.name);
    Context ctx;
    ctx.force(std::string(kernel.name));
    check_all<float>(ctx);
    check_all<double>(ctx);
  }
}

TEST(Banded, ThreadsDoNotChangeBits) {
  const Index n = 9001;
  const auto entries = test::random_buffer<float>(3 * n, 1), x = test::random_buffer<float>(n, 2);
  const std::vector<Index> starts = {0, n - 1, 2 * n - 1}, offsets = {-1, 0, 1};
  Buffer<float> y[2] = {Buffer<float>(n), Buffer<float>(n)};
  for (const int t : {0, 1}) {
    Context ctx = Context::with_threads(1 + 2 * t);
    BandedArgs<float> args{{},
                           Op::transpose,
                           n,
                           n,
                           3,
                           offsets.data(),
                           starts.data(),
                           entries.data(),
                           1,
                           0,
                           MatrixView<const float>(x.data(), {n, 1}, {1, n}),
                           MatrixView<float>(y[t].data(), {n, 1}, {1, n})};
    banded(ctx, args);
  }
  for (Index i = 0; i < n; ++i) ASSERT_EQ(y[0][i], y[1][i]);
}

TEST(Banded, RefusesWhatDoesNotFit) {
  const float entry = 1;
  const Index start = 0;
  float x[4] = {}, y[4] = {};
  BandedArgs<float> args{{},
                         Op::none,
                         2,
                         2,
                         1,
                         &start,
                         &start,
                         &entry,
                         1,
                         0,
                         MatrixView<const float>(x, {3, 1}, {1, 3}),
                         MatrixView<float>(y, {2, 1}, {1, 2})};
  EXPECT_THROW(banded(default_context(), args), shape_error);
}

}  // namespace
}  // namespace tessera
