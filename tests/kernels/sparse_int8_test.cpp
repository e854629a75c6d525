// Products of sparse int8 with bytes: every kernel against the obvious integers, to the bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include <support/amx_emulator.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/kernels/sparse_int8/sparse_int8.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

enum class Order { rows, columns, spread };

/// A (rows, cols) of random numbers in memory of its own, with something around it.
template <class T>
struct Numbers {
  Buffer<T> memory;
  MatrixView<T> view;
  Numbers(Index rows, Index cols, Order order, std::uint64_t seed, int low, int high) {
    const Index step = order == Order::spread ? 2 : 1, line = (order == Order::columns ? rows : cols) * step + 1;
    memory = Buffer<T>((order == Order::columns ? cols : rows) * line + 3);
    const Philox draws(seed);
    for (Index i = 0; i < memory.size(); ++i) {
      const auto at = static_cast<std::uint64_t>(i);
      const int draw = low + static_cast<int>(draws.below(at, static_cast<std::uint32_t>(high - low + 1)));
      memory[i] = static_cast<T>(draws.below(at + (1u << 30), 4) == 0 ? (draw % 2 == 0 ? low : high) : draw);
    }
    view = order == Order::columns ? MatrixView<T>(memory.data() + 1, {rows, cols}, {1, line})
                                   : MatrixView<T>(memory.data() + 1, {rows, cols}, {line, step});
  }
};

/// Blocks of R×1; every fifth block row is empty, one is full.
struct Blocks {
  Index rows, cols, R;
  std::vector<std::int32_t> ptr{0}, col;
  std::vector<std::int8_t> values;
  Buffer<std::int32_t> dense;

  Blocks(Index m, Index k, Index r, double density) : rows(m), cols(k), R(r), dense(m * k) {
    const Philox draws(9);
    for (Index b = 0; b * R < m; ++b) {
      for (Index j = 0; j < k; ++j) {
        const auto at = static_cast<std::uint64_t>(b * k + j);
        if (b % 5 == 3 || (b != 2 && static_cast<double>(draws.uniform(at)) >= density)) continue;
        col.push_back(static_cast<std::int32_t>(j));
        for (Index i = 0; i < R; ++i) {
          const auto draw = static_cast<int>(draws.below((at + 1) * 1000 + static_cast<std::uint64_t>(i), 300));
          values.push_back(static_cast<std::int8_t>(draw >= 255 ? -128 : draw - 127));
          if (b * R + i < m) dense[(b * R + i) * k + j] = values.back();
        }
      }
      ptr.push_back(static_cast<std::int32_t>(col.size()));
    }
  }
  BsrInt8Args args() const {
    BsrInt8Args a;
    a.rows = rows;
    a.cols = cols;
    a.block_rows = R;
    a.block_ptr = ptr.data();
    a.block_col = col.data();
    a.values = values.data();
    return a;
  }
};

/// N of each M.
struct Groups {
  Index rows, cols, n, m, bits = 1, line = 0;
  std::vector<std::int8_t> values;
  std::vector<std::uint8_t> codes;
  Buffer<std::int32_t> dense;

  Groups(Index r, Index k, Index n_, Index m_) : rows(r), cols(k), n(n_), m(m_), dense(r * k) {
    while ((Index{1} << bits) < m) ++bits;
    const Index groups = (k + m - 1) / m;
    line = (groups * n * bits + 7) / 8;
    codes.resize(static_cast<std::size_t>(r * line + 8));
    const Philox draws(10);
    for (Index i = 0; i < r; ++i)
      for (Index g = 0; g < groups; ++g) {
        Index place = 0;
        for (Index t = 0; t < n; ++t, ++place) {
          const auto at = static_cast<std::uint64_t>((i * groups + g) * n + t);
          place += draws.below(at, static_cast<std::uint32_t>(m - n + t - place + 1));
          values.push_back(static_cast<std::int8_t>(static_cast<int>(draws.below(at + (1u << 30), 256)) - 128));
          const Index bit = (g * n + t) * bits, j = g * m + place;
          const auto word = static_cast<unsigned>(place) << (bit % 8);
          auto* const to = codes.data() + i * line + bit / 8;
          to[0] = static_cast<std::uint8_t>(to[0] | (word & 255));
          if (word > 255) to[1] = static_cast<std::uint8_t>(to[1] | (word >> 8));
          if (j < k) dense[i * k + j] = values.back();
        }
      }
  }
  NmInt8Args args() const {
    NmInt8Args a;
    a.rows = rows;
    a.cols = cols;
    a.n = n;
    a.m = m;
    a.bits = bits;
    a.line = line;
    a.values = values.data();
    a.codes = codes.data();
    return a;
  }
};

/// alpha A (X - zero) + beta C modulo 2^32, of the dense A, row by row.
template <class T>
Buffer<std::int32_t> expected(const Buffer<std::int32_t>& A, std::int32_t alpha, MatrixView<const T> X,
                              std::int32_t zero, std::int32_t beta, MatrixView<const std::int32_t> C) {
  const Index m = C.rows(), n = C.cols(), k = X.rows();
  Buffer<std::int32_t> x(k * n), all(m * n);
  for (Index t = 0; t < k; ++t)
    for (Index j = 0; j < n; ++j) x[t * n + j] = X(t, j) - zero;
  std::vector<std::uint32_t> sum(static_cast<std::size_t>(n));
  for (Index i = 0; i < m; ++i) {
    std::fill(sum.begin(), sum.end(), 0u);
    for (Index t = 0; t < k; ++t) {
      const std::int32_t w = A[i * k + t];
      if (w == 0) continue;
      for (Index j = 0; j < n; ++j) sum[static_cast<std::size_t>(j)] += static_cast<std::uint32_t>(w * x[t * n + j]);
    }
    for (Index j = 0; j < n; ++j)
      all[i * n + j] =
          static_cast<std::int32_t>(static_cast<std::uint32_t>(alpha) * sum[static_cast<std::size_t>(j)] +
                                    static_cast<std::uint32_t>(beta) * static_cast<std::uint32_t>(C(i, j)));
  }
  return all;
}

template <class T, class A>
void check(Context& ctx, const A& a, Index n, Order x_order, Order c_order, std::int32_t alpha, std::int32_t beta) {
  SCOPED_TRACE(detail::concat(a.rows, "x", a.cols, " n ", n, " orders ", int(x_order), int(c_order), " beta ", beta));
  constexpr int low = std::is_signed_v<T> ? -128 : 0;
  const Numbers<T> X(a.cols, n, x_order, 3, low, low + 255);
  Numbers<std::int32_t> C(a.rows, n, c_order, 4, -100000, 100000);
  const auto before = C.memory;
  const std::int32_t zero = beta % 2 == 0 ? low + 255 : low + 3;
  const auto all = expected<T>(a.dense, alpha, X.view, zero, beta, C.view);
  sparse_int8(ctx, a.args(), alpha, MatrixView<const T>(X.view), beta, C.view, zero);
  for (Index i = 0; i < a.rows; ++i)
    for (Index j = 0; j < n; ++j) ASSERT_EQ(C.view(i, j), all[i * n + j]) << i << ' ' << j;
  const MatrixView<const std::int32_t> old(before.data() + 1, C.view.extents(), C.view.strides());
  for (Index i = 0; i < a.rows; ++i)  // nothing beside C is written
    for (Index j = 0; j < n; ++j) C.view(i, j) = old(i, j);
  ASSERT_TRUE(std::equal(before.begin(), before.end(), C.memory.begin()));
}

template <class A>
void check_all(Context& ctx, const A& a, const std::vector<Index>& columns) {
  int turn = 0;
  const std::int32_t betas[] = {0, 1, -3};
  for (const Index n : columns)
    for (const Order x : {Order::rows, Order::columns, Order::spread}) {
      const Order c = Order((turn + int(x)) % 3);
      check<std::uint8_t>(ctx, a, n, x, c, turn % 2 == 0 ? 1 : -7, betas[turn % 3]);
      check<std::int8_t>(ctx, a, n, x, c, turn % 2 == 0 ? 1 : 5, betas[(turn + 1) % 3]);
      ++turn;
    }
}

template <class Kernels, class Args, class F>
void for_each_kernel(F&& f) {
  for (const auto& kernel : Kernels::template entries<Args>()) {
    if (!active_isa().has(kernel.isa)) continue;
    SCOPED_TRACE(kernel.name);
    Context ctx, threads = Context::with_threads(2);
    ctx.force(std::string(kernel.name));
    threads.force(std::string(kernel.name));
    f(ctx, threads);
  }
}

TEST(SparseInt8, BlocksOfEveryKernelAreExact) {
  for_each_kernel<BsrInt8Kernels, BsrInt8Args>([](Context& ctx, Context& threads) {
    if (ctx.forced("bsr_int8") == "bsr_int8:amx_int8") return;  // below
    for (const Index R : {1, 2, 3, 4, 7, 16, 64}) {
      check_all(ctx, Blocks(1, 1, R, 1.0), {1, 16});
      check_all(ctx, Blocks(37, 53, R, 0.3), {1, 2, 5, 16, 17, 40});
    }
    check_all(ctx, Blocks(70, 1601, 4, 0.1), {19});  // parts of columns
    check_all(ctx, Blocks(9, 20, 4, 0.5), {520});    // parts of X
    check_all(ctx, Blocks(20, 31, 4, 0.0), {3});
    check_all(ctx, Blocks(10, 30, 4, 0.4), {4, 32, 63, 64, 65, 100, 512});
    check_all(ctx, Blocks(5, 4100, 1, 0.02), {3, 64});  // parts of columns where panels are of bytes
    check_all(threads, Blocks(300, 100, 4, 0.2), {33});
  });
}

TEST(SparseInt8, BlocksInTilesAreExact) {
  const test::AmxEmulation amx;
  if (!active_isa().has(Isa::amx_int8) || !active_isa().has(Isa::avx512_vnni))
    GTEST_SKIP() << "needs amx_int8 and avx512_vnni";
  Context ctx, threads = Context::with_threads(2);
  for (Context* const context : {&ctx, &threads}) context->force("bsr_int8:amx_int8");
  for (const Index R : {4, 5, 7, 16, 20, 64}) {
    check_all(ctx, Blocks(1, 1, R, 1.0), {16});
    check_all(ctx, Blocks(37, 53, R, 0.3), {16, 17, 40});
  }
  check_all(ctx, Blocks(70, 300, 16, 0.7), {19, 33});  // several tiles a row of blocks
  check_all(ctx, Blocks(20, 31, 4, 0.0), {18});
  check_all(ctx, Blocks(10, 70, 4, 0.9), {32, 48, 63, 64, 65, 68, 100});
  check_all(ctx, Blocks(9, 20, 4, 0.5), {512, 513, 528});  // parts of X, none too narrow
  check_all(ctx, Blocks(9, 4100, 4, 0.02), {20});          // parts of columns
  check_all(threads, Blocks(300, 100, 4, 0.2), {33});
  check_all(threads, Blocks(150, 70, 48, 0.6), {50});
}

TEST(SparseInt8, TilesTakeWhatFillsThem) {
  const test::AmxEmulation amx;
  if (!active_isa().has(Isa::amx_int8) || !active_isa().has(Isa::avx512_vnni))
    GTEST_SKIP() << "needs amx_int8 and avx512_vnni";
  const auto chosen = [](Index R, Index n) {
    const Blocks A(64, 40, R, 0.5);
    auto args = A.args();
    args.C = MatrixView<std::int32_t>(nullptr, A.rows, n);
    return std::string(BsrInt8Kernels::select(Context(), args).name);
  };
  EXPECT_EQ(chosen(4, 16), "bsr_int8:amx_int8");
  EXPECT_EQ(chosen(64, 200), "bsr_int8:amx_int8");
  EXPECT_EQ(chosen(4, 15), "bsr_int8:avx512_vnni");
  EXPECT_EQ(chosen(3, 16), "bsr_int8:avx512_vnni");
}

TEST(SparseInt8, GroupsOfEveryKernelAreExact) {
  for (const auto& [n, m] : std::vector<std::pair<Index, Index>>{{2, 4}, {1, 2}, {4, 8}, {3, 5}, {1, 1}})
    for_each_kernel<NmInt8Kernels, NmInt8Args>([&, n = n, m = m](Context& ctx, Context& threads) {
      NmInt8Args args;
      args.n = n;
      args.m = m;
      const auto forced = ctx.forced("nm_int8");
      if ((n != 2 || m != 4) && forced != "nm_int8:portable" && forced != "nm_int8:ref") return;
      const bool few = forced == "nm_int8:avx512_vbmi";
      for (const Index k : {1, 3, 16, 77})
        check_all(ctx, Groups(21, k, n, m), few ? std::vector<Index>{1, 2, 3, 4} : std::vector<Index>{1, 4, 5, 16, 35});
      if (n != 2) return;
      if (few) return check_all(threads, Groups(300, 601, n, m), {1, 3});
      check_all(ctx, Groups(130, 601, n, m), {2, 19});
      check_all(threads, Groups(300, 40, n, m), {33});
    });
  Context ctx;
  if (!active_isa().has(Isa::avx2)) return;
  ctx.force("nm_int8:avx2");
  const Groups odd(3, 8, 3, 5);
  Buffer<std::int8_t> x(8);
  Buffer<std::int32_t> y(3);
  EXPECT_THROW(sparse_int8(ctx, odd.args(), 1, MatrixView<const std::int8_t>(x.data(), 8, 1), 0,
                           MatrixView<std::int32_t>(y.data(), 3, 1)),
               unsupported_error);
}

// What SP03's table is of: BERT's layers, 128 tokens, at each sparsity.
TEST(SparseInt8, LayersOfBertAreExact) {
  for (const Index m : {768, 3072})
    for (const double density : {0.3, 0.25, 0.2, 0.15, 0.1})
      for (const Index R : {4, 16}) {
        if (m == 3072 && R == 16 && density != 0.2) continue;
        Context ctx;
        check<std::uint8_t>(ctx, Blocks(m, 768, R, density), 128, R == 4 ? Order::rows : Order::columns,
                            R == 4 ? Order::rows : Order::columns, 1, 0);
      }
  Context ctx;
  check<std::int8_t>(ctx, Groups(768, 768, 2, 4), 128, Order::rows, Order::rows, 1, 0);
}

TEST(SparseInt8, TheLargestSumsWrapAsIntegersDo) {
  const test::AmxEmulation amx;
  for_each_kernel<BsrInt8Kernels, BsrInt8Args>([](Context& ctx, Context&) {
    const bool tiles = ctx.forced("bsr_int8") == "bsr_int8:amx_int8";
    if (tiles && !active_isa().has(Isa::avx512_vnni)) return;
    const Index K = 70000, R = tiles ? 4 : 1, N = tiles ? 16 : 1;  // K times 255 times 128 is over 2^31
    std::vector<std::int32_t> ptr{0, static_cast<std::int32_t>(K)}, col(static_cast<std::size_t>(K));
    for (std::size_t k = 0; k < col.size(); ++k) col[k] = static_cast<std::int32_t>(k);
    const std::vector<std::int8_t> values(static_cast<std::size_t>(K * R), -128);
    const std::vector<std::uint8_t> x(static_cast<std::size_t>(K * N), 255);
    BsrInt8Args a;
    a.rows = R;
    a.cols = K;
    a.block_rows = R;
    a.block_ptr = ptr.data();
    a.block_col = col.data();
    a.values = values.data();
    Buffer<std::int32_t> y(R * N);
    sparse_int8(ctx, a, 1, MatrixView<const std::uint8_t>(x.data(), K, N), 0, MatrixView<std::int32_t>(y.data(), R, N));
    for (const std::int32_t sum : y)
      EXPECT_EQ(sum, static_cast<std::int32_t>(static_cast<std::uint32_t>(std::int64_t{K} * 255 * -128)));
  });
}

TEST(SparseInt8, WrongShapesAreRefused) {
  Context ctx;
  const Blocks A(8, 6, 4, 0.5);
  Buffer<std::uint8_t> x(64);
  Buffer<std::int32_t> y(64);
  const auto product = [&](Index k, Index n, Index m, std::int32_t zero) {
    sparse_int8(ctx, A.args(), 1, MatrixView<const std::uint8_t>(x.data(), k, n), 0,
                MatrixView<std::int32_t>(y.data(), m, n), zero);
  };
  EXPECT_NO_THROW(product(6, 3, 8, 255));
  EXPECT_THROW(product(5, 3, 8, 0), shape_error);
  EXPECT_THROW(product(6, 3, 7, 0), shape_error);
  EXPECT_THROW(product(6, 3, 8, 256), unsupported_error);
  EXPECT_THROW(product(6, 3, 8, -1), unsupported_error);
  EXPECT_NO_THROW(product(6, 0, 8, 0));
}

template <class T>
void check_bytes(Order order, Index k, Index n, Index panel, bool narrow) {
  SCOPED_TRACE(detail::concat(k, "x", n, " order ", int(order), " panels of ", panel, narrow ? ", narrow" : ""));
  const Numbers<T> X(k, n, order, 8, std::is_same_v<T, std::uint8_t> ? 0 : -128, 127);
  Buffer<float> scales(n);
  Int8BytesArgs<T> args;
  args.X = X.view;
  args.scales = scales.data();
  args.to.C = MatrixView<std::int32_t>(nullptr, {1, n}, {n, 1});
  args.to.cols = k;
  args.to.byte_panel = panel;
  args.to.narrow = narrow;
  Buffer<std::uint8_t> all[2] = {Buffer<std::uint8_t>(args.size()), Buffer<std::uint8_t>(args.size())};
  for (const auto& kernel : Int8BytesKernels<T>::template entries<Int8BytesArgs<T>>()) {
    if (!kernel.accepts(args)) continue;
    auto& bytes = all[kernel.isa == Isa::portable ? 0 : 1];
    std::fill(bytes.begin(), bytes.end(), std::uint8_t{77});
    args.bytes = bytes.data();
    kernel.run(args, {0, args.down(), 0});
    if (kernel.isa != Isa::portable) continue;
    for (Index j = 0; j < n; ++j)
      for (Index t = 0; t < k; ++t) {
        const Index at = j / panel * panel, width = args.to.byte_width(at);
        const int code = bytes[at * k + t * width + args.to.byte_place(j - at, width)] - args.byte_zero();
        if constexpr (std::is_same_v<T, float>) {
          ASSERT_NEAR(static_cast<float>(code) * scales[j], X.view(t, j), 0.5001f * scales[j]);
        } else {
          ASSERT_EQ(code, X.view(t, j) - args.zero);
        }
      }
    if (active_isa().has(Isa::avx512) && order != Order::spread) {
      ASSERT_TRUE(std::equal(all[0].begin(), all[0].end(), all[1].begin()));
    }
  }
}

TEST(SparseInt8, BytesOfEveryKernelAreTheSame) {
  for (const Order order : {Order::rows, Order::columns, Order::spread})
    for (const Index n : {1, 4, 5, 16, 17, 40, 64, 70, 130})
      for (const Index k : {1, 16, 29})
        for (const Index panel : {32, 64}) {
          check_bytes<float>(order, k, n, panel, panel == 64);
          check_bytes<std::uint8_t>(order, k, n, panel, panel == 64);
          check_bytes<std::int8_t>(order, k, n, panel, panel == 64);
        }
}

TEST(SparseInt8, PanelsOfEveryKernelAreTheSame) {
  for (const Order order : {Order::rows, Order::columns, Order::spread})
    for (const Index n : {1, 7, 16, 33})
      for (const Index k : {1, 8, 29}) {
        Numbers<float> X(k, n, order, 5, -1000, 1000);
        X.view(0, 0) = 0.37f;
        if (n > 7) {
          X.view(k - 1, 3) = std::numeric_limits<float>::quiet_NaN();
          X.view(k / 2, 5) = -std::numeric_limits<float>::infinity();
          for (Index t = 0; t < k; ++t) X.view(t, 6) = 0x1p-140f;
        }
        Int8PanelArgs<float> args;
        args.X = X.view;
        Buffer<std::int16_t> plain(args.down() * 16 * k), panels(plain.size());
        Buffer<float> scales(n), others(n);
        args.panels = plain.data();
        args.scales = scales.data();
        Int8PanelsRef::run(args, {0, args.down(), 0});
        for (Index j = 0; j < n; ++j)
          for (Index t = 0; t < k; ++t) {
            const int code = plain[j / 16 * 16 * k + t * 16 + j % 16];
            ASSERT_LE(std::abs(code), 127);
            if (std::isfinite(scales[j]))
              ASSERT_NEAR(static_cast<float>(code) * scales[j], X.view(t, j), 0.5001f * scales[j] + 0x1p-126f);
            else
              ASSERT_EQ(code, 0);
          }
        for (const auto& kernel : Int8PanelKernels<float>::entries<Int8PanelArgs<float>>()) {
          if (!kernel.accepts(args)) continue;
          auto other = args;
          other.panels = panels.data();
          other.scales = others.data();
          std::fill(panels.begin(), panels.end(), std::int16_t{-1});
          kernel.run(other, {0, args.down(), 0});
          ASSERT_TRUE(std::equal(plain.begin(), plain.end(), panels.begin())) << kernel.name;
          for (Index j = 0; j < n; ++j)
            ASSERT_TRUE(scales[j] == others[j] || (scales[j] != scales[j] && others[j] != others[j]));
        }
      }
}

}  // namespace
}  // namespace tessera
