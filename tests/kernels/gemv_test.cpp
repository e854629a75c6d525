#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <limits>
#include <string>
#include <support/oracle.hpp>
#include <tessera/kernels/gemv/gemv.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

/// m x k in memory of its own, entries between those of the matrix NaN.
template <class T>
struct Matrix {
  Buffer<T> memory;
  MatrixView<T> view;

  /// `next` and `gap` are those of rows, or of columns if `by_rows` is false; `sign` -1 reverses both directions.
  Matrix(Index m, Index k, bool by_rows, Index next, Index gap, Index sign, Index offset, std::uint64_t seed) {
    const Index lines = by_rows ? m : k, length = by_rows ? k : m, pitch = length * next + gap;
    memory = Buffer<T>(lines * pitch + offset + 1);
    for (auto& value : memory) value = std::numeric_limits<T>::quiet_NaN();
    T* first = memory.data() + offset + (sign < 0 ? (lines - 1) * pitch + (length - 1) * next : 0);
    view = by_rows ? MatrixView<T>(first, {m, k}, {sign * pitch, sign * next})
                   : MatrixView<T>(first, {m, k}, {sign * next, sign * pitch});
    const auto values = test::random_buffer<T>(m * k, seed);
    for (Index i = 0; i < m; ++i)
      for (Index j = 0; j < k; ++j) view(i, j) = values[i * k + j];
  }
};

template <class T>
struct Vector {
  Buffer<T> memory;
  VectorView<T> view;

  Vector(Index n, Index stride, Index offset, std::uint64_t seed) {
    const Index step = stride < 0 ? -stride : stride;
    memory = Buffer<T>(n * step + offset + 1);
    for (auto& value : memory) value = std::numeric_limits<T>::quiet_NaN();
    view = VectorView<T>(memory.data() + offset + (stride < 0 ? (n - 1) * step : 0), {n}, {stride});
    const auto values = test::random_buffer<T>(n, seed);
    for (Index i = 0; i < n; ++i) view[i] = values[i];
  }
};

template <class TA, class T>
void check(Context& ctx, const Matrix<TA>& A, Index x_stride, Index y_stride, T alpha, T beta) {
  const Index m = A.view.rows(), k = A.view.cols();
  SCOPED_TRACE(detail::concat(m, "x", k, " strides ", A.view.row_stride(), ", ", A.view.col_stride(), ", x ", x_stride,
                              ", y ", y_stride, ", alpha ", alpha, ", beta ", beta));
  const Vector<T> x(k, x_stride, 1, 2);
  Vector<T> before(m, y_stride, 3, 3), y(m, y_stride, 3, 3);
  if (beta == T(0))
    for (Index i = 0; i < m; ++i) before.view[i] = y.view[i] = std::numeric_limits<T>::quiet_NaN();
  gemv(ctx, alpha, MatrixView<const TA>(A.view), x.view, beta, y.view);
  test::expect_product(alpha, MatrixView<const TA>(A.view), MatrixView<const T>(as_column(x.view)), beta,
                       MatrixView<const T>(as_column(before.view)), MatrixView<const T>(as_column(y.view)));
  Buffer<T> outside = y.memory;
  for (Index i = 0; i < m; ++i) outside[&y.view[i] - y.memory.data()] = before.view[i];
  EXPECT_EQ(0, std::memcmp(outside.data(), before.memory.data(), outside.bytes())) << "wrote outside y";
}

/// Rows or columns contiguous, plain, with a gap and misaligned, reversed, or nothing contiguous.
template <class T, class F>
void for_each_layout(Index m, Index k, F&& f) {
  for (bool by_rows : {true, false}) {
    f(Matrix<T>(m, k, by_rows, 1, 0, 1, 0, 1));
    f(Matrix<T>(m, k, by_rows, 1, 7, 1, 3, 1));
    f(Matrix<T>(m, k, by_rows, 1, 2, -1, 0, 1));
    f(Matrix<T>(m, k, by_rows, 2, 1, 1, 1, 1));
  }
}

/// `f(ctx, entry)` with each kernel forced that this processor has; the others are named.
template <class TA, class T, class F>
void for_each_kernel(F&& f) {
  for (const auto& kernel : GemvKernels<TA, T>::template entries<GemvArgs<TA, T>>()) {
    if (!active_isa().has(kernel.isa)) {
      std::printf("[          ] %s: needs %s\n", std::string(kernel.name).c_str(),
                  std::string(isa_name(kernel.isa)).c_str());
      continue;
    }
    SCOPED_TRACE(std::string(kernel.name));
    Context ctx;
    ctx.force(kernel.name);
    f(ctx, kernel);
  }
}

template <class TA, class T>
bool accepts(const KernelEntry<GemvArgs<TA, T>>& kernel, const Matrix<TA>& A) {
  GemvArgs<TA, T> args;
  args.A = A.view;
  return kernel.accepts(args);
}

template <class Types>
struct Gemv : testing::Test {};
template <class A, class Y>
struct Pair {
  using TA = A;
  using T = Y;
};
using Types = testing::Types<Pair<float, float>, Pair<double, double>, Pair<bf16, float>, Pair<f16, float>>;
TYPED_TEST_SUITE(Gemv, Types);

TYPED_TEST(Gemv, EverySizeAndLayout) {
  using TA = typename TypeParam::TA;
  using T = typename TypeParam::T;
  for_each_kernel<TA, T>([](Context& ctx, const auto& kernel) {
    Index accepted = 0;
    for (Index m : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33, 67})
      for (Index k : {1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 65, 100})
        for_each_layout<TA>(m, k, [&](const Matrix<TA>& A) {
          if (!accepts<TA, T>(kernel, A)) return;
          ++accepted;
          check<TA, T>(ctx, A, 1, 1, T(1), T(0));
        });
    EXPECT_GT(accepted, 0);
  });
}

TYPED_TEST(Gemv, StridedVectorsAlphaAndBeta) {
  using TA = typename TypeParam::TA;
  using T = typename TypeParam::T;
  for_each_kernel<TA, T>([](Context& ctx, const auto& kernel) {
    for_each_layout<TA>(21, 43, [&](const Matrix<TA>& A) {
      if (!accepts<TA, T>(kernel, A)) return;
      for (Index x_stride : {1, 3, -2})
        for (Index y_stride : {1, 2, -1})
          for (double alpha : {0.0, 1.0, -0.3})
            for (double beta : {0.0, 1.0, 0.7}) check<TA, T>(ctx, A, x_stride, y_stride, T(alpha), T(beta));
    });
  });
}

TYPED_TEST(Gemv, EveryBlockBoundary) {
  using TA = typename TypeParam::TA;
  using T = typename TypeParam::T;
  for_each_kernel<TA, T>([](Context& ctx, const auto& kernel) {
    for (const auto& [m, k] : {std::pair<Index, Index>{2049, 11}, {4100, 3}, {3, 2065}, {9, 1025}})
      for_each_layout<TA>(m, k, [&](const Matrix<TA>& A) {
        if (accepts<TA, T>(kernel, A)) check<TA, T>(ctx, A, -1, 1, T(1), T(1));
      });
  });
}

TYPED_TEST(Gemv, EmptyShapes) {
  using TA = typename TypeParam::TA;
  using T = typename TypeParam::T;
  Context ctx;
  for (double beta : {0.0, 1.0, 0.5})
    for (const auto& [m, k] : {std::pair<Index, Index>{0, 4}, {4, 0}, {0, 0}})
      check<TA, T>(ctx, Matrix<TA>(m, k, true, 1, 0, 1, 0, 1), 1, 1, T(1), T(beta));
}

TYPED_TEST(Gemv, NaNStaysInItsRow) {
  using TA = typename TypeParam::TA;
  using T = typename TypeParam::T;
  for_each_kernel<TA, T>([](Context& ctx, const auto& kernel) {
    for_each_layout<TA>(23, 37, [&](Matrix<TA> A) {
      if (!accepts<TA, T>(kernel, A)) return;
      const TA saved = A.view(6, 36);
      A.view(6, 36) = std::numeric_limits<TA>::quiet_NaN();
      const Vector<T> x(37, 1, 0, 2);
      Vector<T> y(23, 1, 0, 3);
      gemv(ctx, T(1), A.view, x.view, T(0), y.view);
      for (Index i = 0; i < 23; ++i) EXPECT_EQ(std::isnan(y.view[i]), i == 6) << i;
      A.view(6, 36) = saved;
    });
  });
}

TYPED_TEST(Gemv, SameBitsForAnyNumberOfThreads) {
  using TA = typename TypeParam::TA;
  using T = typename TypeParam::T;
  for_each_kernel<TA, T>([](Context& ctx, const auto& kernel) {
    for (const auto& [m, k] : {std::pair<Index, Index>{700, 501}, {5003, 37}})
      for (bool by_rows : {true, false}) {
        const Matrix<TA> A(m, k, by_rows, 1, 3, 1, 0, 1);
        const Vector<T> x(k, 1, 0, 2);
        Vector<T> one(m, 1, 0, 3);
        gemv(ctx, T(1.5), MatrixView<const TA>(A.view), x.view, T(0.5), one.view);
        for (Index threads : {2, 3}) {
          Context several = Context::with_threads(threads);
          several.force(kernel.name);
          Vector<T> y(m, 1, 0, 3);
          gemv(several, T(1.5), MatrixView<const TA>(A.view), x.view, T(0.5), y.view);
          EXPECT_EQ(0, std::memcmp(one.memory.data(), y.memory.data(), y.memory.bytes()))
              << threads << " threads, " << m << "x" << k;
        }
      }
  });
}

TEST(GemvErrors, NameBothOperandsAndTheKernels) {
  Context ctx;
  Buffer<float> a(12), x(4), y(4);
  const MatrixView<float> A(a.data(), 4, 3);
  try {
    gemv(ctx, 1.0f, A, VectorView<float>(x.data(), 4), 0.0f, VectorView<float>(y.data(), 4));
    FAIL() << "no exception";
  } catch (const shape_error& e) {
    EXPECT_STREQ(e.what(), "tessera: gemv of (4x3) * (4x1): columns 3 != rows 4");
  }
  try {
    gemv(ctx, 1.0f, A, VectorView<float>(x.data(), 3), 0.0f, VectorView<float>(y.data(), 3));
    FAIL() << "no exception";
  } catch (const shape_error& e) {
    EXPECT_STREQ(e.what(), "tessera: gemv of (4x3) * (3x1) is 4x1, the destination is 3x1");
  }
  ctx.force("gemv:abacus");
  EXPECT_THROW(gemv(ctx, 1.0f, A, VectorView<float>(x.data(), 3), 0.0f, VectorView<float>(y.data(), 4)),
               unsupported_error);
  ctx.force("gemv:xsimd");
  try {
    gemv(ctx, 1.0f, MatrixView<float>(a.data(), {2, 2}, {6, 2}), VectorView<float>(x.data(), 2), 0.0f,
         VectorView<float>(y.data(), 2));
    FAIL() << "no exception";
  } catch (const unsupported_error& e) {
    EXPECT_STREQ(e.what(), "tessera: forced kernel gemv:xsimd: neither rows nor columns of A are contiguous");
  }
}

}  // namespace
}  // namespace tessera
