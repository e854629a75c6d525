// The Walsh–Hadamard transform in every lane: lengths, batches, layouts, in place, int8, threads.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include <support/oracle.hpp>
#include <tessera/kernels/fwht/fwht.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

using test::random_buffer;

/// (batch, n) in a layout of choice: rows, lines, neither, reversed.
template <class T>
MatrixView<T> laid_out(T* data, Index batch, Index n, int layout) {
  switch (layout) {
    case 0:
      return {data, {batch, n}, {n + 3, 1}};
    case 1:
      return {data, {batch, n}, {1, batch + 2}};
    case 2:
      return {data, {batch, n}, {2 * n + 1, 2}};
    default:
      return {data + n - 1, {batch, n}, {n, -1}};
  }
}
constexpr int layouts = 4;
template <class T>
Buffer<T> room(Index batch, Index n) {
  return Buffer<T>((batch + 3) * (2 * n + 4));
}

template <class TX, class T, class F>
void for_each_kernel(F&& f) {
  for (const auto& kernel : FwhtKernels::entries<FwhtArgs<TX, T>>()) {
    if (!active_isa().has(kernel.isa)) continue;
    Context ctx;
    ctx.force(kernel.name);
    f(ctx, kernel);
  }
}

template <class T>
class Fwht : public ::testing::Test {};
using Reals = ::testing::Types<float, double>;
TYPED_TEST_SUITE(Fwht, Reals);

TYPED_TEST(Fwht, EveryKernelLengthAndLayout) {
  using T = TypeParam;
  for_each_kernel<T, T>([&](Context& ctx, const auto& kernel) {
    for (const Index n : {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 2048, 8192})
      for (const Index batch : {1, 3, 17})
        for (int layout = 0; layout < layouts; ++layout) {
          if (n > 512 && batch > 3) continue;
          Buffer<T> x = room<T>(batch, n), y = room<T>(batch, n);
          const auto values = random_buffer<T>(batch * n, static_cast<std::uint64_t>(n + layout));
          const auto X = laid_out(x.data(), batch, n, layout);
          const auto Y = laid_out(y.data(), batch, n, (layout + static_cast<int>(n)) % 2 ? layout : 0);
          for (Index b = 0; b < batch; ++b)
            for (Index i = 0; i < n; ++i) X(b, i) = values[b * n + i];
          FwhtArgs<T, T> args;
          args.X = X;
          args.Y = Y;
          if (kernel.reject(args) != nullptr) continue;
          fwht(ctx, X, T(0.5), Y);
          const double unit = test::gamma<T>(std::log2(static_cast<double>(n)) + 2);
          for (Index b = 0; b < batch; ++b) {
            std::vector<double> exact(static_cast<std::size_t>(n));
            double size = 0;
            for (Index i = 0; i < n; ++i) {
              exact[static_cast<std::size_t>(i)] = 0.5 * static_cast<double>(values[b * n + i]);
              size += std::abs(exact[static_cast<std::size_t>(i)]);
            }
            detail::fwht_loops(exact.data(), n, 1);
            for (Index i = 0; i < n; ++i)
              ASSERT_NEAR(static_cast<double>(Y(b, i)), exact[static_cast<std::size_t>(i)], unit * size)
                  << kernel.name << " n=" << n << " batch=" << batch << " layout=" << layout << " at " << b << ", "
                  << i;
          }
          fwht(ctx, X, T(0.5), X);  // in place
          for (Index b = 0; b < batch; ++b)
            for (Index i = 0; i < n; ++i)
              ASSERT_NEAR(static_cast<double>(X(b, i)), static_cast<double>(Y(b, i)), 1e-4 * static_cast<double>(n));
        }
  });
}

TEST(Fwht, OfInt8IsExact) {
  for_each_kernel<std::int8_t, std::int32_t>([&](Context& ctx, const auto& kernel) {
    for (const Index n : {1, 4, 16, 64, 1024, 16384})
      for (int layout = 0; layout < layouts; ++layout) {
        const Index batch = 5;
        Buffer<std::int8_t> x = room<std::int8_t>(batch, n);
        Buffer<std::int32_t> y = room<std::int32_t>(batch, n);
        const auto X = laid_out(x.data(), batch, n, layout);
        const auto Y = laid_out(y.data(), batch, n, layout);
        const Philox draws(7);
        std::vector<std::int32_t> exact(static_cast<std::size_t>(batch * n));
        for (Index b = 0; b < batch; ++b) {
          for (Index i = 0; i < n; ++i) {
            X(b, i) = static_cast<std::int8_t>(draws.bits(static_cast<std::uint64_t>(b * n + i)));
            exact[static_cast<std::size_t>(b * n + i)] = X(b, i);
          }
          detail::fwht_loops(exact.data() + b * n, n, 1);
        }
        FwhtArgs<std::int8_t, std::int32_t> args;
        args.X = X;
        args.Y = Y;
        if (kernel.reject(args) != nullptr) continue;
        fwht(ctx, MatrixView<const std::int8_t>(X), 3, Y);
        for (Index b = 0; b < batch; ++b)
          for (Index i = 0; i < n; ++i)
            ASSERT_EQ(Y(b, i), 3 * exact[static_cast<std::size_t>(b * n + i)]) << kernel.name << " n=" << n;
      }
  });
}

TEST(Fwht, IsTheWalshHadamardMatrixInNaturalOrder) {
  const Index n = 32;
  Buffer<double> unit(n * n), h(n * n);
  for (Index i = 0; i < n; ++i) unit[i * n + i] = 1;
  fwht(default_context(), MatrixView<const double>(unit.data(), n, n), 1.0, MatrixView<double>(h.data(), n, n));
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < n; ++j)
      EXPECT_EQ(h[i * n + j], std::popcount(static_cast<unsigned>(i & j)) % 2 == 0 ? 1.0 : -1.0);
}

TEST(Fwht, BitsDoNotDependOnThreads) {
  const Index batch = 300, n = 1024;
  const auto x = random_buffer<float>(batch * n, 3);
  Buffer<float> one(batch * n), many(batch * n);
  Context threads = Context::with_threads(3);
  for (int layout = 0; layout < 2; ++layout) {
    const auto view_of = [&](auto* data) {
      return layout == 0 ? MatrixView<std::remove_pointer_t<decltype(data)>>(data, batch, n)
                         : MatrixView<std::remove_pointer_t<decltype(data)>>(data, {batch, n}, {1, batch});
    };
    fwht(default_context(), view_of(x.data()), 1.0f, view_of(one.data()));
    fwht(threads, view_of(x.data()), 1.0f, view_of(many.data()));
    EXPECT_EQ(std::memcmp(one.data(), many.data(), one.bytes()), 0);
  }
}

TEST(Fwht, RefusesOtherShapes) {
  Buffer<float> x(64);
  EXPECT_THROW(
      fwht(default_context(), MatrixView<const float>(x.data(), 2, 12), 1.0f, MatrixView<float>(x.data(), 2, 12)),
      shape_error);
  EXPECT_THROW(
      fwht(default_context(), MatrixView<const float>(x.data(), 2, 8), 1.0f, MatrixView<float>(x.data(), 2, 16)),
      shape_error);
  fwht(default_context(), MatrixView<const float>(x.data(), 0, 8), 1.0f, MatrixView<float>(x.data(), 0, 8));
}

}  // namespace
}  // namespace tessera
