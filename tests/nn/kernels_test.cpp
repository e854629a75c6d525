#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <tessera/kernels/norm_backward/norm_backward.hpp>
#include <tessera/kernels/sum_squares/sum_squares.hpp>
#include <tessera/nn/rope.hpp>
#include <vector>

#include "support/oracle.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

using test::random_buffer;

template <class T>
class NnKernels : public testing::Test {};
using Reals = testing::Types<float, double>;
TYPED_TEST_SUITE(NnKernels, Reals);

/// Runs `f(ctx)` with every kernel of the list that takes `args`; names those that do not.
template <class List, class Args, class F>
void for_each_kernel(const Args& args, F&& f) {
  for (const auto& kernel : List::template entries<Args>()) {
    if (!kernel.accepts(args)) {
      std::printf("%s: %s\n", std::string(kernel.name).c_str(), kernel.why_not(args).c_str());
      continue;
    }
    SCOPED_TRACE(kernel.name);
    Context ctx;
    ctx.force(kernel.name);
    f(ctx);
  }
}

TYPED_TEST(NnKernels, SumOfSquares) {
  using T = TypeParam;
  for (const Index n : {1, 2, 7, 8, 31, 32, 33, 65, 16384, 16385, 40001}) {
    const auto x = random_buffer<T>(2 * n + 1, 1);
    for (const Index stride : {1, 2}) {
      const VectorView<const T> view(x.data() + 1, {n}, {stride});  // misaligned
      double expected = 0;
      for (Index i = 0; i < n; ++i) expected += static_cast<double>(view[i]) * static_cast<double>(view[i]);
      SumSquaresArgs<T> args;
      args.x = view;
      for_each_kernel<SumSquaresKernels>(args, [&](Context& ctx) {
        EXPECT_NEAR(sum_squares(ctx, view), expected, test::gamma<double>(static_cast<double>(n) + 2) * expected) << n;
      });
    }
  }
  Context one, three = Context::with_threads(3);
  const auto x = random_buffer<T>(200001, 2);
  EXPECT_EQ(sum_squares(one, VectorView<const T>(x.data(), x.size())),
            sum_squares(three, VectorView<const T>(x.data(), x.size())));
  EXPECT_EQ(sum_squares(one, VectorView<const T>()), 0);
}

TYPED_TEST(NnKernels, Rope) {
  using T = TypeParam;
  for (const Index d : {2, 4, 6, 8, 16, 18, 32, 34, 64}) {
    const nn::RopeTable<T> table(d, 7);
    for (const Index gap : {0, 3}) {
      const Index n = 9, heads = 3, stride = heads * d + gap;
      const auto x = random_buffer<T>(n * stride, 1);
      RopeArgs<T> args;
      args.d = d;
      for_each_kernel<RopeKernels>(args, [&](Context& ctx) {
        auto y = x;
        const MatrixView<T> Y(y.data(), {n, heads * d}, {stride, 1});
        nn::rope(ctx, table, Y, 2, 5);
        for (Index r = 0; r < n; ++r) {
          for (Index j = 0; j < heads * d; j += 2) {
            const double angle = static_cast<double>(2 + r % 5) *
                                 std::pow(10000.0, -static_cast<double>(j % d) / static_cast<double>(d));
            const double a = static_cast<double>(x[r * stride + j]), b = static_cast<double>(x[r * stride + j + 1]);
            const double bound =
                4 * static_cast<double>(std::numeric_limits<T>::epsilon()) * (std::abs(a) + std::abs(b));
            EXPECT_NEAR(static_cast<double>(Y(r, j)), a * std::cos(angle) - b * std::sin(angle), bound);
            EXPECT_NEAR(static_cast<double>(Y(r, j + 1)), a * std::sin(angle) + b * std::cos(angle), bound);
          }
          for (Index j = heads * d; j < stride; ++j) EXPECT_EQ(y[r * stride + j], x[r * stride + j]);
        }
      });
    }
  }
}

TYPED_TEST(NnKernels, RopeSaysWhatDoesNotFit) {
  using T = TypeParam;
  const nn::RopeTable<T> table(4, 8);
  Buffer<T> x(36);
  Context ctx;
  EXPECT_THROW(nn::rope(ctx, table, MatrixView<T>(x.data(), 6, 6)), shape_error);     // 6 is not heads of 4
  EXPECT_THROW(nn::rope(ctx, table, MatrixView<T>(x.data(), 9, 4)), shape_error);     // position 8
  EXPECT_THROW(nn::rope(ctx, table, MatrixView<T>(x.data(), 6, 4), 3), shape_error);  // position 8
  EXPECT_THROW(nn::rope(ctx, table, MatrixView<T>(x.data(), 2, 4), -1), shape_error);
  EXPECT_THROW(nn::RopeTable<T>(3, 8), shape_error);
  nn::rope(ctx, table, MatrixView<T>(x.data(), 9, 4), 0, 8);
  nn::rope(ctx, table, MatrixView<T>());
}

TYPED_TEST(NnKernels, NormBackward) {
  using T = TypeParam;
  const T nan = std::numeric_limits<T>::quiet_NaN();
  for (const Index d : {1, 3, 8, 15, 16, 17, 33, 200}) {
    const Index n = 21, stride = d + 3;
    for (const bool centred : {false, true})
      for (const T beta : {T(0), T(1)})
        for (const bool weighted : {false, true}) {
          const auto x = random_buffer<T>(n * stride, 1), dy = random_buffer<T>(n * stride, 2),
                     w = random_buffer<T>(d, 3), mean = random_buffer<T>(n, 4), inv = random_buffer<T>(n, 5),
                     dx0 = random_buffer<T>(n * stride, 6);
          const MatrixView<const T> X(x.data(), {n, d}, {stride, 1}), dY(dy.data(), {n, d}, {stride, 1});
          const VectorView<const T> W = weighted ? VectorView<const T>(w.data(), d) : VectorView<const T>();
          const VectorView<const T> M = centred ? VectorView<const T>(mean.data(), n) : VectorView<const T>();
          // The same in double.
          Buffer<double> dx(n * d), dw(d), db(d), size(d);
          double largest = 1;
          for (Index i = 0; i < n; ++i) {
            const double r = static_cast<double>(inv[i]), mu = centred ? static_cast<double>(mean[i]) : 0;
            double along = 0, sum = 0;
            for (Index j = 0; j < d; ++j) {
              const double xhat = (static_cast<double>(X(i, j)) - mu) * r, y = static_cast<double>(dY(i, j));
              const double g = (weighted ? static_cast<double>(w[j]) : 1) * y;
              along += g * xhat / static_cast<double>(d);
              sum += centred ? g / static_cast<double>(d) : 0;
              dw[j] += y * xhat;
              db[j] += y;
            }
            for (Index j = 0; j < d; ++j) {
              const double xhat = (static_cast<double>(X(i, j)) - mu) * r;
              const double g = (weighted ? static_cast<double>(w[j]) : 1) * static_cast<double>(dY(i, j));
              dx[i * d + j] =
                  r * (g - sum - xhat * along) + static_cast<double>(beta) * static_cast<double>(dx0[i * stride + j]);
              largest = std::max({largest, std::abs(dx[i * d + j]), std::abs(xhat * along * r), std::abs(r * g)});
            }
          }
          const double bound = 4 * test::gamma<T>(static_cast<double>(d + n) + 8) * largest * 4;
          NormBackwardArgs<T> args;
          args.X = X;
          args.dY = dY;
          args.dX = MatrixView<T>(nullptr, {n, d}, {stride, 1});
          for_each_kernel<NormBackwardKernels>(args, [&](Context& ctx) {
            Buffer<T> gx = dx0, gw(d), gb(d);
            if (beta == T(0))
              for (T& one : gx) one = nan;
            for (Index j = 0; j < d; ++j) gw[j] = gb[j] = nan;
            norm_backward<T>(ctx, X, W, M, VectorView<const T>(inv.data(), n), dY, beta,
                             MatrixView<T>(gx.data(), {n, d}, {stride, 1}), T(0), VectorView<T>(gw.data(), d),
                             centred ? VectorView<T>(gb.data(), d) : VectorView<T>());
            for (Index i = 0; i < n; ++i)
              for (Index j = 0; j < d; ++j)
                ASSERT_NEAR(static_cast<double>(gx[i * stride + j]), dx[i * d + j], bound) << d << ' ' << i << ' ' << j;
            for (Index j = 0; j < d; ++j) {
              ASSERT_NEAR(static_cast<double>(gw[j]), dw[j], bound * static_cast<double>(n));
              if (centred) {
                ASSERT_NEAR(static_cast<double>(gb[j]), db[j], bound * static_cast<double>(n));
              }
            }
          });
        }
  }
}

TYPED_TEST(NnKernels, NormBackwardBitIdenticalForAnyThreadCount) {
  using T = TypeParam;
  const Index n = 700, d = 193;
  const auto x = random_buffer<T>(n * d, 1), dy = random_buffer<T>(n * d, 2), w = random_buffer<T>(d, 3),
             inv = random_buffer<T>(n, 4);
  Buffer<T> first_x, first_w;
  for (Index threads : {1, 2, 3}) {
    auto ctx = Context::with_threads(threads);
    Buffer<T> dx(n * d), dw(d);
    norm_backward<T>(ctx, MatrixView<const T>(x.data(), n, d), VectorView<const T>(w.data(), d), {},
                     VectorView<const T>(inv.data(), n), MatrixView<const T>(dy.data(), n, d), T(0),
                     MatrixView<T>(dx.data(), n, d), T(0), VectorView<T>(dw.data(), d), {});
    if (threads == 1) {
      first_x = dx;
      first_w = dw;
    }
    EXPECT_EQ(std::memcmp(dx.data(), first_x.data(), dx.bytes()), 0);
    EXPECT_EQ(std::memcmp(dw.data(), first_w.data(), dw.bytes()), 0);
  }
}

}  // namespace
}  // namespace tessera
