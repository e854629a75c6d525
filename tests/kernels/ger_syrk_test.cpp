#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <limits>
#include <string>
#include <support/oracle.hpp>
#include <tessera/kernels/gemm/syrk.hpp>
#include <tessera/kernels/ger/ger.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

enum class Order { rows, columns, spread };

/// A view with gaps; what is not of the view must stay.
template <class T>
MatrixView<T> placed(Buffer<T>& memory, Index rows, Index cols, Order order, std::uint64_t seed) {
  const Index step = order == Order::spread ? 2 : 1, line = (order == Order::columns ? rows : cols) * step + 3;
  memory = test::random_buffer<T>((order == Order::columns ? cols : rows) * line + 1, seed);
  return order == Order::columns ? MatrixView<T>(memory.data() + 1, {rows, cols}, {1, line})
                                 : MatrixView<T>(memory.data() + 1, {rows, cols}, {line, step});
}

template <class T>
MatrixView<const T> same_place(const Buffer<T>& memory, MatrixView<T> of, const Buffer<T>& from) {
  return {memory.data() + (of.data() - from.data()), of.extents(), of.strides()};
}

template <class TA, class T>
bool check_syrk(Context& ctx, Index n, Index k, Order a, Order c, Triangle triangle, T alpha, T beta) {
  SCOPED_TRACE(detail::concat(n, "x", k, " orders ", int(a), int(c), " triangle ", int(triangle), " beta ", beta));
  Buffer<TA> ma;
  Buffer<T> mc;
  const auto A = placed(ma, n, k, a, 1);
  const auto C = placed(mc, n, n, c, 2);
  const auto wanted = [&](Index i, Index j) {
    return triangle == Triangle::both || (triangle == Triangle::lower ? i >= j : i <= j);
  };
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < i; ++j) C(i, j) = C(j, i);
  if (beta == T(0))
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < n; ++j)
        if (wanted(i, j)) C(i, j) = std::numeric_limits<T>::quiet_NaN();
  Buffer<T> before = mc;
  try {
    syrk(ctx, alpha, MatrixView<TA>(A), beta, C, triangle);
  } catch (const unsupported_error&) {
    return false;  // a kernel of few rows or columns
  }
  // All of the product, to compare with what is wanted; the rest must be as before.
  Buffer<T> all = mc;
  const auto full = MatrixView<T>(all.data() + 1, C.extents(), C.strides());
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < n; ++j) {
      if (!wanted(i, j)) full(i, j) = C(j, i);
      EXPECT_TRUE(triangle != Triangle::both || C(i, j) == C(j, i));
    }
  test::expect_product(alpha, MatrixView<const TA>(A), MatrixView<const TA>(A.transposed()), beta,
                       same_place(before, C, mc), MatrixView<const T>(full));
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < n; ++j)
      if (wanted(i, j)) before[&C(i, j) - mc.data()] = C(i, j);
  EXPECT_EQ(0, std::memcmp(before.data(), mc.data(), mc.bytes())) << "wrote another entry";
  return true;
}

template <class A, class C>
struct Pair {
  using TA = A;
  using T = C;
};
template <class P>
struct Syrk : testing::Test {};
using Types = testing::Types<Pair<float, float>, Pair<double, double>>;
TYPED_TEST_SUITE(Syrk, Types);

constexpr Triangle triangles[] = {Triangle::lower, Triangle::upper, Triangle::both};

TYPED_TEST(Syrk, EveryKernel) {
  using TA = typename TypeParam::TA;
  using T = typename TypeParam::T;
  for (const auto& kernel : GemmKernels<TA, TA, T>::template entries<GemmArgs<TA, TA, T>>()) {
    if (!active_isa().has(kernel.isa)) {
      std::printf("[          ] %s: needs %s\n", std::string(kernel.name).c_str(),
                  std::string(isa_name(kernel.isa)).c_str());
      continue;
    }
    SCOPED_TRACE(std::string(kernel.name));
    for (const Index threads : {1, 2}) {
      Context ctx = Context::with_threads(threads);
      ctx.force(kernel.name);
      Index taken = 0;
      for (const auto triangle : triangles) {
        for (const Index n : {1, 13, 15, 65})
          for (const Index k : {1, 40}) taken += check_syrk<TA, T>(ctx, n, k, Order::rows, Order::rows, triangle, 1, 0);
        for (const auto a : {Order::rows, Order::columns, Order::spread})
          for (const auto c : {Order::rows, Order::columns, Order::spread})
            taken += check_syrk<TA, T>(ctx, 37, 19, a, c, triangle, T(-0.5), T(2));
        taken += check_syrk<TA, T>(ctx, 40, 1040, Order::rows, Order::rows, triangle, 1, 1);
        taken += check_syrk<TA, T>(ctx, 300, 40, Order::columns, Order::rows, triangle, 1, T(0.5));
      }
      EXPECT_EQ(taken > 0, !kernel.name.ends_with("_dot") && !kernel.name.ends_with("_few"));
    }
  }
}

TYPED_TEST(Syrk, SameBitsForAnyNumberOfThreads) {
  using TA = typename TypeParam::TA;
  using T = typename TypeParam::T;
  for (const auto order : {Order::rows, Order::spread}) {
    Buffer<TA> ma;
    Buffer<T> one;
    const auto A = placed(ma, 210, 530, Order::rows, 1);
    const auto C = placed(one, 210, 210, order, 2);
    const Buffer<T> before = one;
    Context ctx;
    syrk(ctx, T(1.5), A, T(0.5), C, Triangle::lower);
    for (const Index threads : {2, 3}) {
      Context several = Context::with_threads(threads);
      Buffer<T> other = before;
      syrk(several, T(1.5), A, T(0.5), MatrixView<T>(other.data() + 1, C.extents(), C.strides()), Triangle::lower);
      EXPECT_EQ(0, std::memcmp(one.data(), other.data(), one.bytes()));
    }
  }
}

TEST(SyrkEdges, EmptyAndShapes) {
  Context ctx;
  Buffer<float> c(9);
  for (auto& x : c) x = 4;
  const MatrixView<float> C(c.data(), 3, 3);
  syrk(ctx, 1.0f, MatrixView<const float>(nullptr, 3, 0), 0.5f, C, Triangle::upper);
  for (Index i = 0; i < 3; ++i)
    for (Index j = 0; j < 3; ++j) EXPECT_EQ(C(i, j), j >= i ? 2 : 4);
  syrk(ctx, 1.0f, MatrixView<const float>(nullptr, 0, 3), 0.5f, MatrixView<float>(nullptr, 0, 0));
  try {
    syrk(ctx, 1.0f, MatrixView<const float>(c.data(), 4, 2), 0.0f, C);
    FAIL() << "no exception";
  } catch (const shape_error& e) {
    EXPECT_STREQ(e.what(), "tessera: syrk of (4x2) is 4x4, the destination is 3x3");
  }
}

template <class T>
struct Ger : testing::Test {};
using Reals = testing::Types<float, double>;
TYPED_TEST_SUITE(Ger, Reals);

TYPED_TEST(Ger, EveryKernel) {
  using T = TypeParam;
  for (const auto& kernel : GerKernels::entries<GerArgs<T>>()) {
    if (!active_isa().has(kernel.isa)) {
      std::printf("[          ] %s: needs %s\n", std::string(kernel.name).c_str(),
                  std::string(isa_name(kernel.isa)).c_str());
      continue;
    }
    SCOPED_TRACE(std::string(kernel.name));
    for (const Index threads : {1, 2})
      for (const Index m : {0, 3, 130})
        for (const Index n : {0, 1, 8, 17, 260})
          for (const auto order : {Order::rows, Order::columns, Order::spread}) {
            SCOPED_TRACE(detail::concat(m, "x", n, " order ", int(order)));
            Context ctx = Context::with_threads(threads);
            ctx.force(kernel.name);
            Buffer<T> memory, mx, my;
            const auto A = placed(memory, m, n, order, 1);
            const auto x = placed(mx, std::max<Index>(m, 1), 1, Order::spread, 2);
            const auto y = placed(my, 1, n, n % 2 == 0 ? Order::rows : Order::spread, 3);
            Buffer<T> before = memory;
            ger(ctx, T(-1.5), x.slice(0, 0, m).col(0), y.row(0), A);
            test::expect_product(T(-1.5), MatrixView<const T>(x.slice(0, 0, m)), MatrixView<const T>(y), T(1),
                                 same_place(before, A, memory), MatrixView<const T>(A));
            for (Index i = 0; i < m; ++i)
              for (Index j = 0; j < n; ++j) before[&A(i, j) - memory.data()] = A(i, j);
            EXPECT_EQ(0, std::memcmp(before.data(), memory.data(), memory.bytes())) << "wrote outside A";
          }
  }
  Context ctx;
  Buffer<T> a(6), x(2);
  EXPECT_THROW(
      ger(ctx, T(1), VectorView<const T>(x.data(), 2), VectorView<const T>(x.data(), 2), MatrixView<T>(a.data(), 2, 3)),
      shape_error);
}

}  // namespace
}  // namespace tessera
