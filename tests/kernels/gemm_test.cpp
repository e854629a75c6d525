#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <string>
#include <support/oracle.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <vector>

namespace tessera {
namespace TESSERA_TEST_FILE {

/// Where a matrix lies: row- or column-major, with a gap, a step, reversed or misaligned.
struct Layout {
  const char* name;
  bool row_major;
  Index gap, step;  // extra entries between lines; distance of neighbours
  bool reversed;
  Index offset;
};
constexpr Layout plain{"rows", true, 0, 1, false, 0};
constexpr Layout layouts[] = {plain,
                              {"columns", false, 0, 1, false, 0},
                              {"rows, gap, misaligned", true, 5, 1, false, 3},
                              {"columns, gap, misaligned", false, 3, 1, false, 1},
                              {"rows, every third", true, 0, 3, false, 0},
                              {"columns, every second", false, 1, 2, false, 0},
                              {"rows, reversed", true, 2, 1, true, 0},
                              {"columns, reversed", false, 0, 1, true, 0}};

/// A matrix in its own memory; entries between those of the matrix hold `fill` and must never change or be used.
template <class T>
struct Placed {
  Buffer<T> memory;
  MatrixView<T> view;

  Placed(Index rows, Index cols, Layout layout, std::uint64_t seed) {
    const Index lines = layout.row_major ? rows : cols, length = layout.row_major ? cols : rows;
    const Index pitch = length * layout.step + layout.gap;
    memory = Buffer<T>(lines * pitch + layout.offset + 1);
    for (auto& value : memory) value = std::numeric_limits<T>::quiet_NaN();
    T* first = memory.data() + layout.offset;
    Index line = pitch, next = layout.step;
    if (layout.reversed) {
      first += (lines - 1) * line + (length - 1) * next;
      line = -line;
      next = -next;
    }
    view = layout.row_major ? MatrixView<T>(first, {rows, cols}, {line, next})
                            : MatrixView<T>(first, {rows, cols}, {next, line});
    const auto values = test::random_buffer<T>(rows * cols, seed);
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < cols; ++j) view(i, j) = values[i * cols + j];
  }
  MatrixView<const T> get() const { return view; }
};

/// Entries of `after` outside the view are those of `before`, bit for bit.
template <class T>
void expect_only_view_written(const Placed<T>& before, const Placed<T>& after) {
  Buffer<T> check = after.memory;
  const Index shift = after.view.data() - after.memory.data();
  for (Index i = 0; i < after.view.rows(); ++i)
    for (Index j = 0; j < after.view.cols(); ++j) {
      const Index at = shift + i * after.view.row_stride() + j * after.view.col_stride();
      check[at] = before.memory[at];
    }
  EXPECT_EQ(0, std::memcmp(check.data(), before.memory.data(), check.bytes())) << "wrote outside the destination";
}

template <class TA, class T>
struct Case {
  Index m, n, k;
  Layout a = plain, b = plain, c = plain;
  T alpha = T(1), beta = T(0);
};

/// Kernels of few rows or columns refuse other shapes.
bool picky(std::string_view kernel) { return kernel.ends_with("_dot") || kernel.ends_with("_few"); }

/// False if the forced kernel refuses.
template <class TA, class T>
bool check(Context& ctx, const Case<TA, T>& shape) {
  SCOPED_TRACE(detail::concat(shape.m, "x", shape.n, "x", shape.k, " A ", shape.a.name, ", B ", shape.b.name, ", C ",
                              shape.c.name, ", alpha ", shape.alpha, ", beta ", shape.beta));
  const Placed<TA> A(shape.m, shape.k, shape.a, 1);
  const Placed<T> B(shape.k, shape.n, shape.b, 2);
  Placed<T> C(shape.m, shape.n, shape.c, 3);
  if (shape.beta == T(0))
    for (Index i = 0; i < shape.m; ++i)
      for (Index j = 0; j < shape.n; ++j) C.view(i, j) = std::numeric_limits<T>::quiet_NaN();
  Placed<T> result(shape.m, shape.n, shape.c, 3);
  result.memory = C.memory;
  result.view =
      MatrixView<T>(result.memory.data() + (C.view.data() - C.memory.data()), C.view.extents(), C.view.strides());
  try {
    gemm(ctx, shape.alpha, A.get(), B.get(), shape.beta, result.view);
  } catch (const unsupported_error& e) {
    EXPECT_TRUE(picky(ctx.forced("gemm"))) << e.what();  // others take everything
    return false;
  }
  test::expect_product(shape.alpha, A.get(), B.get(), shape.beta, C.get(), result.get());
  expect_only_view_written(C, result);
  return true;
}

/// `f(ctx, name)` with each kernel forced that this processor has; the others are named.
template <class TA, class T, class F>
void for_each_kernel(F&& f) {
  using Args = GemmArgs<TA, T, T>;
  for (const auto& kernel : GemmKernels<TA, T, T>::template entries<Args>()) {
    if (!active_isa().has(kernel.isa)) {
      std::printf("[          ] %s: needs %s\n", std::string(kernel.name).c_str(),
                  std::string(isa_name(kernel.isa)).c_str());
      continue;
    }
    SCOPED_TRACE(std::string(kernel.name));
    Context ctx;
    ctx.force(kernel.name);
    f(ctx);
  }
}

template <class Types>
struct Gemm : testing::Test {};
template <class A, class C>
struct Pair {
  using TA = A;
  using T = C;
};
using Types = testing::Types<Pair<float, float>, Pair<double, double>>;
TYPED_TEST_SUITE(Gemm, Types);

TYPED_TEST(Gemm, EverySizeAroundATile) {
  using TA = typename TypeParam::TA;
  using T = typename TypeParam::T;
  for_each_kernel<TA, T>([](Context& ctx) {
    for (Index m : {1, 2, 5, 6, 7, 13, 14, 15, 29})
      for (Index n : {1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 65})
        for (Index k : {1, 2, 3, 4, 5, 17, 64}) check<TA, T>(ctx, {m, n, k});
  });
}

TYPED_TEST(Gemm, EveryLayout) {
  using TA = typename TypeParam::TA;
  using T = typename TypeParam::T;
  for_each_kernel<TA, T>([](Context& ctx) {
    for (const auto& a : layouts)
      for (const auto& b : layouts)
        for (const auto& c : layouts) {
          check<TA, T>(ctx, {19, 37, 21, a, b, c, T(1), T(0)});
          check<TA, T>(ctx, {35, 6, 18, a, b, c, T(-1.5), T(0.75)});
          check<TA, T>(ctx, {3, 70, 40, a, b, c, T(2), T(1)});
        }
  });
}

TYPED_TEST(Gemm, FewRowsOrColumns) {
  using TA = typename TypeParam::TA;
  using T = typename TypeParam::T;
  for_each_kernel<TA, T>([](Context& ctx) {
    Index taken = 0;
    for (Index few : {1, 2, 3, 4, 5, 6, 7, 8, 15, 16})
      for (Index many : {1, 3, 4, 5, 8, 17, 83})
        for (Index k : {32, 33, 47, 100})
          for (const auto& c : {layouts[0], layouts[1], layouts[4]}) {
            taken += check<TA, T>(ctx, {few, many, k, layouts[2], layouts[3], c, T(1), T(0)});
            taken += check<TA, T>(ctx, {many, few, k, layouts[2], layouts[3], c, T(-0.5), T(2)});
          }
    // Sums that go in parts, tiles that wait for one another.
    for (Index few : {2, 3, 5, 8})
      taken += check<TA, T>(ctx, {83, few, 1100, layouts[2], layouts[3], layouts[0], T(1), T(1)});
    const Index shapes = 10 * 7 * 4 * 3 * 2 + 4;
    if (picky(ctx.forced("gemm")))
      EXPECT_GT(taken, shapes / 3);
    else
      EXPECT_EQ(taken, shapes);
  });
}

TYPED_TEST(Gemm, EveryBlockBoundary) {
  using TA = typename TypeParam::TA;
  using T = typename TypeParam::T;
  for_each_kernel<TA, T>([](Context& ctx) {
    check<TA, T>(ctx, {15, 33, 255});
    check<TA, T>(ctx, {15, 33, 513, layouts[1], layouts[1], layouts[0], T(1), T(2)});
    check<TA, T>(ctx, {15, 17, 1100, layouts[0], layouts[1], layouts[1], T(0.5), T(-1)});
    check<TA, T>(ctx, {301, 35, 33, layouts[0], layouts[0], layouts[0], T(1), T(1)});
    check<TA, T>(ctx, {9, 2065, 19, layouts[0], layouts[1], layouts[0], T(1), T(1)});
    check<TA, T>(ctx, {2065, 9, 19, layouts[1], layouts[0], layouts[1], T(1), T(1)});
  });
}

TYPED_TEST(Gemm, AlphaAndBeta) {
  using TA = typename TypeParam::TA;
  using T = typename TypeParam::T;
  for_each_kernel<TA, T>([](Context& ctx) {
    for (double alpha : {0.0, 1.0, -1.0, 0.3})
      for (double beta : {0.0, 1.0, -1.0, 0.7})
        for (const auto& c : layouts) check<TA, T>(ctx, {17, 35, 9, plain, plain, c, T(alpha), T(beta)});
  });
}

TYPED_TEST(Gemm, EmptyShapes) {
  using TA = typename TypeParam::TA;
  using T = typename TypeParam::T;
  for_each_kernel<TA, T>([](Context& ctx) {
    for (double beta : {0.0, 1.0, 0.5}) {
      check<TA, T>(ctx, {0, 5, 3, plain, plain, plain, T(1), T(beta)});
      check<TA, T>(ctx, {5, 0, 3, plain, plain, plain, T(1), T(beta)});
      check<TA, T>(ctx, {5, 7, 0, plain, plain, plain, T(1), T(beta)});
      check<TA, T>(ctx, {0, 0, 0, plain, plain, plain, T(1), T(beta)});
    }
  });
}

TYPED_TEST(Gemm, AlphaZeroReadsNeitherFactor) {
  using TA = typename TypeParam::TA;
  using T = typename TypeParam::T;
  for_each_kernel<TA, T>([](Context& ctx) {
    Buffer<TA> a(6);
    Buffer<T> b(6), c(9);
    for (auto& x : a) x = std::numeric_limits<TA>::quiet_NaN();
    for (auto& x : b) x = std::numeric_limits<T>::quiet_NaN();
    for (auto& x : c) x = T(2);
    gemm(ctx, T(0), MatrixView<const TA>(a.data(), 3, 2), MatrixView<const T>(b.data(), 2, 3), T(0.5),
         MatrixView<T>(c.data(), 3, 3));
    for (auto x : c) EXPECT_EQ(x, T(1));
  });
}

TYPED_TEST(Gemm, NaNAndInfinityStayInTheirRowsAndColumns) {
  using TA = typename TypeParam::TA;
  using T = typename TypeParam::T;
  for_each_kernel<TA, T>([](Context& ctx) {
    Placed<TA> A(17, 19, plain, 1);
    Placed<T> B(19, 35, plain, 2), C(17, 35, plain, 3);
    A.view(4, 7) = std::numeric_limits<TA>::quiet_NaN();
    B.view(3, 20) = std::numeric_limits<T>::infinity();
    if (picky(ctx.forced("gemm"))) return;  // takes no factor of this shape
    gemm(ctx, T(1), A.get(), B.get(), T(0), C.view);
    for (Index i = 0; i < 17; ++i)
      for (Index j = 0; j < 35; ++j) {
        EXPECT_EQ(std::isnan(C.view(i, j)), i == 4) << i << ", " << j;
        EXPECT_EQ(std::isinf(C.view(i, j)), i != 4 && j == 20) << i << ", " << j;
      }
  });
}

TYPED_TEST(Gemm, SameBitsForAnyNumberOfThreads) {
  using TA = typename TypeParam::TA;
  using T = typename TypeParam::T;
  // Each is enough work to be cut into pieces.
  constexpr Index shapes[][3] = {{130, 150, 120}, {290, 50, 530}, {5, 2100, 220},
                                 {1300, 3, 600},  {7, 1000, 300}, {600, 16, 300}};
  for_each_kernel<TA, T>([&](Context& ctx) {
    const std::string forced(ctx.forced("gemm"));
    for (const auto& [m, n, k] : shapes)
      for (const auto& layout : {layouts[0], layouts[1]}) {
        SCOPED_TRACE(detail::concat(m, "x", n, "x", k, " ", layout.name));
        const Placed<TA> A(m, k, layout, 1);
        const Placed<T> B(k, n, layout.row_major && std::min(m, n) <= 16 ? layouts[1] : layout, 2);
        Placed<T> one(m, n, layout, 3);
        try {
          gemm(ctx, T(1.5), A.get(), B.get(), T(0.5), one.view);
        } catch (const unsupported_error&) {
          EXPECT_TRUE(picky(forced));
          continue;
        }
        for (Index threads : {2, 3}) {
          Context several = Context::with_threads(threads);
          several.force(forced);
          Placed<T> C(m, n, layout, 3);
          gemm(several, T(1.5), A.get(), B.get(), T(0.5), C.view);
          EXPECT_EQ(0, std::memcmp(one.memory.data(), C.memory.data(), C.memory.bytes())) << threads << " threads";
        }
      }
  });
}

TYPED_TEST(Gemm, UnforcedChoiceIsRight) {
  using TA = typename TypeParam::TA;
  using T = typename TypeParam::T;
  Context ctx;
  for (Index m : {1, 2, 8, 33})
    for (Index n : {1, 3, 16, 40})
      for (Index k : {1, 30, 100})
        for (const auto& a : {layouts[0], layouts[1], layouts[4]})
          for (const auto& b : {layouts[0], layouts[1], layouts[6]})
            for (const auto& c : {layouts[0], layouts[1], layouts[5]})
              check<TA, T>(ctx, {m, n, k, a, b, c, T(0.5), T(2)});
}

TYPED_TEST(Gemm, UnknownForcedKernelThrows) {
  using TA = typename TypeParam::TA;
  using T = typename TypeParam::T;
  Buffer<TA> a(4);
  Buffer<T> b(4), c(4);
  Context ctx;
  ctx.force("gemm:abacus");
  try {
    gemm(ctx, T(1), MatrixView<const TA>(a.data(), 2, 2), MatrixView<const T>(b.data(), 2, 2), T(0),
         MatrixView<T>(c.data(), 2, 2));
    FAIL() << "no exception";
  } catch (const unsupported_error& e) {
    EXPECT_NE(std::string(e.what()).find("gemm:abacus"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("gemm:ref"), std::string::npos) << e.what();
  }
}

TEST(GemmShapes, ErrorsNameBothOperands) {
  Context ctx;
  Buffer<float> a(12), b(12), c(16);
  const auto message = [&](MatrixView<float> A, MatrixView<float> B, MatrixView<float> C) {
    try {
      gemm(ctx, 1.0f, A, B, 0.0f, C);
    } catch (const shape_error& e) {
      return std::string(e.what());
    }
    return std::string("no exception");
  };
  EXPECT_EQ(message({a.data(), 4, 3}, {b.data(), 4, 3}, {c.data(), 4, 3}),
            "tessera: gemm of (4x3) * (4x3): columns 3 != rows 4");
  EXPECT_EQ(message({a.data(), 4, 3}, {b.data(), 3, 4}, {c.data(), 4, 3}),
            "tessera: gemm of (4x3) * (3x4) is 4x4, the destination is 4x3");
}

TEST(GemmSlow, LargeProductsAreWithinTheBound) {
  Context ctx = Context::with_threads(2);
  check<float, float>(ctx, {515, 517, 519, layouts[0], layouts[1], layouts[0], 1.0f, 0.0f});
  check<float, float>(ctx, {300, 300, 2100, layouts[1], layouts[0], layouts[1], 1.0f, 1.0f});
}

}  // namespace
}  // namespace tessera
