#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string>
#include <support/oracle.hpp>
#include <tessera/kernels/batched/batched.hpp>
#include <vector>

namespace tessera {
namespace TESSERA_TEST_FILE {

/// `columns`: columns contiguous instead of rows; `gap` entries between lines and between matrices.
template <class T>
View<T, 3> placed(Buffer<T>& memory, Index batch, Index rows, Index cols, bool columns, Index gap, std::uint64_t seed) {
  const Index line = (columns ? rows : cols) + gap, item = (columns ? cols : rows) * line + gap;
  memory = test::random_buffer<T>(batch * item, seed);
  return columns ? View<T, 3>(memory.data(), {batch, rows, cols}, {item, 1, line})
                 : View<T, 3>(memory.data(), {batch, rows, cols}, {item, line, 1});
}

template <class T>
bool check(Context& ctx, Index batch, Index m, Index n, Index k, int layout, T alpha, T beta) {
  SCOPED_TRACE(detail::concat(batch, " of ", m, "x", n, "x", k, ", layout ", layout, ", beta ", beta));
  Buffer<T> a, b, c;
  const Index gap = (layout & 8) != 0 ? 3 : 0;
  const auto A = placed(a, batch, m, k, (layout & 1) != 0, (layout & 16) != 0 ? 0 : gap, 1);
  const auto B = placed(b, batch, k, n, (layout & 2) != 0, gap, 2);
  const auto C = placed(c, batch, m, n, (layout & 4) != 0, gap, 3);
  if (beta == T(0))
    for (auto& x : c) x = std::numeric_limits<T>::quiet_NaN();
  const Buffer<T> before = c;
  try {
    gemm_batched(ctx, alpha, A, B, beta, C);
  } catch (const unsupported_error&) {
    return false;
  }
  Buffer<T> outside = c;
  for (Index i = 0; i < batch; ++i) {
    const View<const T, 3> C0(before.data(), C.extents(), C.strides());
    test::expect_product(alpha, MatrixView<const T>(A[i]), MatrixView<const T>(B[i]), beta, C0[i],
                         MatrixView<const T>(C[i]));
    for (Index r = 0; r < m; ++r)
      for (Index j = 0; j < n; ++j) outside[&C(i, r, j) - c.data()] = C0(i, r, j);
  }
  EXPECT_TRUE(c.size() == 0 || std::memcmp(outside.data(), before.data(), before.bytes()) == 0) << "wrote outside C";
  return true;
}

template <class T>
struct GemmBatched : testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(GemmBatched, Types);

TYPED_TEST(GemmBatched, EveryKernel) {
  using T = TypeParam;
  for (const auto& kernel : BatchedKernels::entries<BatchedArgs<T>>()) {
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
      for (Index size : {1, 3, 4, 5, 8, 15, 16, 17, 31, 32, 33, 64})
        taken += check<T>(ctx, 3, size, size, size, 0, 1, 0);
      for (Index size : {8, 16, 32, 64})
        for (const T beta : {T(0), T(2)}) taken += check<T>(ctx, 40, size, size, size, 0, T(-0.5), beta);
      for (int layout = 0; layout < 16; ++layout) {
        taken += check<T>(ctx, 5, 4, 4, 4, layout, T(-0.5), 2);
        taken += check<T>(ctx, 2, 7, 19, 33, layout, 1, 0);
        for (Index size : {8, 16, 32})
          taken += check<T>(ctx, 3, size, 48, size, layout | 16, T(-0.5), layout < 8 ? 2 : 0);
        taken += check<T>(ctx, layout < 2 ? 400 : 3, 9, 8, 11, layout, 1, 1);
      }
      EXPECT_EQ(taken > 0, sizeof(T) == 4 || !kernel.name.ends_with("4x4"));
    }
  }
}

TYPED_TEST(GemmBatched, AnySizeAndSharedFactors) {
  using T = TypeParam;
  Context ctx;
  EXPECT_TRUE(check<T>(ctx, 2, 70, 33, 90, 0, 1, 0));
  for (const Index n : {0, 4})
    for (const Index k : {0, 4}) EXPECT_TRUE(check<T>(ctx, 3, 4, n, k, 0, 1, T(0.5)));
  const auto a = test::random_buffer<T>(64, 1), b = test::random_buffer<T>(64 * 5, 2);
  Buffer<T> c(64 * 5);
  const View<const T, 3> A(a.data(), {5, 8, 8}, {0, 8, 1}), B(b.data(), {5, 8, 8});
  const View<T, 3> C(c.data(), {5, 8, 8});
  gemm_batched(ctx, T(1), A, B, T(0), C);
  for (Index i = 0; i < 5; ++i)
    test::expect_product(T(1), A[i], B[i], T(0), MatrixView<const T>(C[i]), MatrixView<const T>(C[i]));
  EXPECT_THROW(gemm_batched(ctx, T(1), A, View<const T, 3>(b.data(), {4, 8, 8}), T(0), C), shape_error);
}

TYPED_TEST(GemmBatched, MatricesAnywhere) {
  using T = TypeParam;
  for (const Index threads : {1, 2})
    for (const auto& [m, n, k] : {std::array<Index, 3>{4, 4, 4}, {16, 16, 16}, {5, 19, 33}, {40, 70, 10}}) {
      SCOPED_TRACE(detail::concat(m, "x", n, "x", k));
      constexpr Index batch = 9;
      Context ctx = Context::with_threads(threads);
      const auto a = test::random_buffer<T>(batch * m * k, 1), b = test::random_buffer<T>(batch * k * n, 2);
      Buffer<T> c = test::random_buffer<T>(batch * m * n, 3);
      const Buffer<T> before = c;
      const Index order[batch] = {3, 4, 5, 8, 0, 7, 1, 2, 6};  // some neighbours, some not
      std::vector<const T*> pa, pb;
      std::vector<T*> pc;
      for (const Index i : order) {
        pa.push_back(a.data() + i * m * k);
        pb.push_back(b.data() + (i == 2 ? 0 : i) * k * n);  // one of B twice
        pc.push_back(c.data() + i * m * n);
      }
      gemm_batched(ctx, T(0.5), BatchOf<const T>{pa, m, k, k}, BatchOf<const T>{pb, k, n, n}, T(2),
                   BatchOf<T>{pc, m, n, n});
      for (std::size_t i = 0; i < pa.size(); ++i)
        test::expect_product(T(0.5), MatrixView<const T>(pa[i], m, k), MatrixView<const T>(pb[i], k, n), T(2),
                             MatrixView<const T>(before.data() + (pc[i] - c.data()), m, n),
                             MatrixView<const T>(pc[i], m, n));
      pa.pop_back();
      EXPECT_THROW(gemm_batched(ctx, T(1), BatchOf<const T>{pa, m, k, k}, BatchOf<const T>{pb, k, n, n}, T(0),
                                BatchOf<T>{pc, m, n, n}),
                   shape_error);
    }
}

}  // namespace
}  // namespace tessera
