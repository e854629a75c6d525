// Every instruction against a plain model of it; natively where the processor has AMX.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <support/amx_emulator.hpp>
#include <tessera/core/buffer.hpp>
#include <tessera/core/context.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/simd/amx.hpp>

#if TESSERA_TEST_AMX
namespace tessera::test {
namespace TESSERA_TEST_FILE {

using amx::TileConfig;

struct Amx : testing::Test {
  AmxEmulation emulation;
  void SetUp() override {
    if (!active_isa().has(Isa::amx_bf16) || !active_isa().has(Isa::amx_int8)) GTEST_SKIP() << "needs amx or avx512";
  }
};

struct Bytes {
  alignas(64) std::uint8_t row[16][64];
  explicit Bytes(std::uint64_t seed) {
    const Philox draws(seed);
    std::uint64_t at = 0;
    for (auto& r : row)
      for (auto& byte : r) byte = static_cast<std::uint8_t>(draws.bits(at++) & 0xff);
  }
};

/// All of tile T, whatever its configuration: that of 16 x 64 after it.
template <int T>
Bytes whole() {
  Bytes all(0);
  amx::store<T>(all.row, 64);
  return all;
}

TEST_F(Amx, ConfigurationIsStoredAsItWasLoaded) {
  TileConfig config, stored;
  for (int t = 0; t < 8; ++t) config.set(t, t + 1, 4 * (t + 3));
  {
    const amx::Tiles tiles(config);
    __asm__ volatile("sttilecfg %0" : "=m"(stored) : : "memory");
    EXPECT_EQ(0, std::memcmp(&config, &stored, 64));
  }
  TileConfig none;
  none.palette = 0;
  stored.set(4, 7, 8);
  __asm__ volatile("sttilecfg %0" : "=m"(stored) : : "memory");
  EXPECT_EQ(0, std::memcmp(&none, &stored, 64));
}

TEST_F(Amx, LoadsAndStoresRowsOfTheConfiguredShape) {
  TileConfig config = TileConfig::full();
  config.set(3, 5, 12);
  const Bytes from(1);
  Bytes to(2);
  const Bytes before = to;
  {
    const amx::Tiles tiles(config);
    amx::load<3>(from.row, 128);
    amx::store<3>(&to.row[0][8], 64);
    amx::load<1>(from.row, 64);
    const Bytes all = whole<1>();
    EXPECT_EQ(0, std::memcmp(all.row, from.row, sizeof all));
    amx::zero<1>();
    const Bytes zeros = whole<1>();
    for (const auto& row : zeros.row)
      for (int byte : row) EXPECT_EQ(byte, 0);
  }
  for (int r = 0; r < 16; ++r)
    for (int b = 0; b < 64; ++b) {
      const bool written = r < 5 && b >= 8 && b < 20;
      EXPECT_EQ(to.row[r][b], written ? from.row[2 * r][b - 8] : before.row[r][b]) << r << ' ' << b;
    }
}

TEST_F(Amx, LoadsBeginAtStartRow) {
  TileConfig config = TileConfig::full();
  config.start_row = 3;
  const Bytes from(4);
  const amx::Tiles tiles(config);
  amx::load<2>(from.row, 64);  // the rows before start_row stay zero; start_row is 0 afterwards
  const Bytes got = whole<2>();
  for (int r = 0; r < 16; ++r)
    for (int b = 0; b < 64; ++b) EXPECT_EQ(got.row[r][b], r < 3 ? 0 : from.row[r][b]);
}

/// A load in every form of address: the register of the base and of the step, scale, displacement.
#define TESSERA_LOAD(text, base, step, b, s) \
  __asm__ volatile("mov %0, %%" b "\n mov %1, %%" s "\n " text : : "r"(base), "r"(step) : b, s, "memory")

TEST_F(Amx, EveryAddressAndRegister) {
  const Bytes from(5);
  const auto p = reinterpret_cast<std::uintptr_t>(from.row);
  const Index one = 64, half = 32, eighth = 8;
  const amx::Tiles tiles(TileConfig::full());
  const auto same = [&](const Bytes& got) { return std::memcmp(got.row, from.row, sizeof from.row) == 0; };
  TESSERA_LOAD("tileloadd (%%rax,%%rcx,1), %%tmm0", p, one, "rax", "rcx");
  TESSERA_LOAD("tileloadd (%%rdx,%%rsi,2), %%tmm1", p, half, "rdx", "rsi");
  TESSERA_LOAD("tileloaddt1 64(%%rdi,%%r8,8), %%tmm2", p - 64, eighth, "rdi", "r8");
  TESSERA_LOAD("tileloadd -128(%%r9,%%r10,1), %%tmm3", p + 128, one, "r9", "r10");
  TESSERA_LOAD("tileloadd 4096(%%r12,%%r11,1), %%tmm4", p - 4096, one, "r12", "r11");
  TESSERA_LOAD("tileloaddt1 (%%r13,%%r14,1), %%tmm5", p, one, "r13", "r14");
  TESSERA_LOAD("tileloadd (%%r15,%%rax,8), %%tmm6", p, eighth, "r15", "rax");
  TESSERA_LOAD("tileloadd -8(%%rsi,%%r12,1), %%tmm7", p + 8, one, "rsi", "r12");
  EXPECT_TRUE(same(whole<0>()) && same(whole<1>()) && same(whole<2>()) && same(whole<3>()));
  EXPECT_TRUE(same(whole<4>()) && same(whole<5>()) && same(whole<6>()) && same(whole<7>()));
  // No index: every row is the first one.
  __asm__ volatile("mov %0, %%rax\n .byte 0xc4, 0xe2, 0x7b, 0x4b, 0x04, 0x20" : : "r"(p) : "rax", "memory");
  const Bytes first = whole<0>();
  for (const auto& row : first.row) EXPECT_EQ(0, std::memcmp(row, from.row, 64));
  Bytes back(6);
  TESSERA_LOAD("tilestored %%tmm4, (%%r8,%%r9,2)", back.row[0], half, "r8", "r9");
  EXPECT_TRUE(same(back));
}

/// Step backwards: a negative stride.
TEST_F(Amx, NegativeStride) {
  const Bytes from(7);
  const amx::Tiles tiles(TileConfig::full());
  amx::load<0>(from.row[15], -64);
  const Bytes got = whole<0>();
  for (int r = 0; r < 16; ++r) EXPECT_EQ(0, std::memcmp(got.row[r], from.row[15 - r], 64));
}

struct Shape {
  int m, n, k;  // rows, columns of words, words of a sum
};
constexpr Shape shapes[] = {{16, 16, 16}, {1, 1, 1}, {3, 5, 7}, {16, 1, 2}, {1, 16, 16}, {7, 16, 1}};

TileConfig config_of(Shape s) {
  TileConfig config = TileConfig::full();
  config.set(0, s.m, 4 * s.n);
  config.set(1, s.m, 4 * s.k);
  config.set(2, s.k, 4 * s.n);
  return config;
}

template <bool SA, bool SB>
void check_bytes(Shape s) {
  const Bytes a(8), b(9);
  Bytes c(10), got = c;
  for (int i = 0; i < s.m; ++i)
    for (int j = 0; j < s.n; ++j) {
      std::uint32_t sum;
      std::memcpy(&sum, c.row[i] + 4 * j, 4);
      for (int k = 0; k < 4 * s.k; ++k) {
        const int x = a.row[i][k], y = b.row[k / 4][4 * j + k % 4];
        sum += static_cast<std::uint32_t>((SA && x > 127 ? x - 256 : x) * (SB && y > 127 ? y - 256 : y));
      }
      std::memcpy(c.row[i] + 4 * j, &sum, 4);
    }
  const amx::Tiles tiles(config_of(s));
  amx::load<0>(got.row, 64);
  amx::load<1>(a.row, 64);
  amx::load<2>(b.row, 64);
  amx::dot_i8<SA, SB, 0, 1, 2>();
  amx::store<0>(got.row, 64);
  EXPECT_EQ(0, std::memcmp(got.row, c.row, sizeof c.row)) << s.m << ' ' << s.n << ' ' << s.k << SA << SB;
}

TEST_F(Amx, DotsOfBytes) {
  for (const Shape s : shapes) {
    check_bytes<true, true>(s);
    check_bytes<true, false>(s);
    check_bytes<false, true>(s);
    check_bytes<false, false>(s);
  }
}

float flushed(float x) { return std::abs(x) < std::numeric_limits<float>::min() ? std::copysign(0.0f, x) : x; }
float fused(float x, float y, float z) { return flushed(std::fma(flushed(x), flushed(y), flushed(z))); }
float added(float x, float y) { return flushed(flushed(x) + flushed(y)); }

void check_halves(Shape s, int exponents) {
  // Numbers of close exponents, or of all: subnormal, infinite and NaN too.
  const Philox draws(11);
  std::uint64_t at = 0;
  const auto half = [&] {
    const auto bits = static_cast<std::uint32_t>(draws.bits(at++));
    const std::uint32_t exponent =
        exponents == 0 ? bits >> 8 & 255 : 127u + (bits >> 8) % static_cast<unsigned>(exponents);
    return static_cast<std::uint16_t>((bits & 0x807f) | exponent << 7);
  };
  Bytes a(0), b(0), c(0), got(0);
  for (int r = 0; r < 16; ++r)
    for (int e = 0; e < 32; ++e) {
      const std::uint16_t x = half(), y = half();
      std::memcpy(a.row[r] + 2 * e, &x, 2);
      std::memcpy(b.row[r] + 2 * e, &y, 2);
      const auto z = static_cast<std::uint32_t>(half()) << 16 | (static_cast<std::uint32_t>(e) * 977u);
      if (e < 16) std::memcpy(c.row[r] + 4 * e, &z, 4);
    }
  got = c;
  const auto value = [](const Bytes& from, int r, int e) {
    std::uint16_t bits;
    std::memcpy(&bits, from.row[r] + 2 * e, 2);
    const auto wide = static_cast<std::uint32_t>(bits) << 16;
    float x;
    std::memcpy(&x, &wide, 4);
    return x;
  };
  {
    const amx::Tiles tiles(config_of(s));
    amx::load<0>(got.row, 64);
    amx::load<1>(a.row, 64);
    amx::load<2>(b.row, 64);
    amx::dot_bf16<0, 1, 2>();
    amx::store<0>(got.row, 64);
  }
  for (int i = 0; i < s.m; ++i)
    for (int j = 0; j < s.n; ++j) {
      float even = 0, odd = 0, sum, result;
      for (int k = 0; k < s.k; ++k) {
        even = fused(value(a, i, 2 * k), value(b, k, 2 * j), even);
        odd = fused(value(a, i, 2 * k + 1), value(b, k, 2 * j + 1), odd);
      }
      std::memcpy(&sum, c.row[i] + 4 * j, 4);
      sum = added(sum, added(even, odd));
      std::memcpy(&result, got.row[i] + 4 * j, 4);
      EXPECT_TRUE((std::isnan(sum) && std::isnan(result)) || std::memcmp(&sum, &result, 4) == 0)
          << i << ' ' << j << ": " << result << ", expected " << sum;
    }
}

TEST_F(Amx, DotsOfHalves) {
  for (const Shape s : shapes)
    for (int exponents : {1, 6, 60, 0}) check_halves(s, exponents);
}

TEST_F(Amx, RowsAndColumnsBeyondTheShapeBecomeZero) {
  if (cpu_isa().has(Isa::amx_int8)) GTEST_SKIP() << "looks into the emulator";
  const amx::Tiles tiles(config_of({3, 5, 7}));
  Bytes garbage(12);
  for (auto& tile : amx_emulator::state.tile) std::memcpy(tile.row, garbage.row, sizeof garbage.row);
  amx::load<1>(garbage.row, 64);
  amx::dot_i8<true, true, 0, 1, 2>();
  for (const int t : {0, 1})
    for (int r = 0; r < 16; ++r)
      for (std::uint32_t b = 0; b < 64; ++b) {
        const auto& tile = amx_emulator::state.tile[t];
        EXPECT_TRUE((r < 3 && b < tile.bytes) || tile.row[r][b] == 0);
      }
}

TEST_F(Amx, TheSameUseIsRefusedThatTheProcessorRefuses) {
  if (cpu_isa().has(Isa::amx_int8)) GTEST_SKIP() << "looks at the emulator's messages";
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  static Bytes memory(13);
  EXPECT_DEATH(amx::zero<0>(), "TILEZERO: #UD: no tiles are configured");
  EXPECT_DEATH(
      {
        TileConfig config;
        config.set(1, 4, 16);
        const amx::Tiles tiles(config);
        amx::load<2>(memory.row, 64);
      },
      "TILELOADD: #UD: tile 2 is not configured");
  EXPECT_DEATH(
      {
        TileConfig config = TileConfig::full();
        config.set(1, 16, 60);
        const amx::Tiles tiles(config);
        (amx::dot_bf16<0, 1, 2>());
      },
      "TDPBF16PS: #UD: shapes do not fit");
  EXPECT_DEATH(
      {
        const amx::Tiles tiles(TileConfig::full());
        __asm__ volatile(".byte 0xc4, 0xe2, 0x6a, 0x5e, 0xc0");  // of tiles 0, 0 and 2: assemblers refuse it
      },
      "TDPBSUD: #UD: tiles are not three different ones");
  EXPECT_DEATH(
      {
        TileConfig config = TileConfig::full();
        config.rows[5] = 17;
        const amx::Tiles tiles(config);
      },
      "LDTILECFG: #GP: tile 5 has more than 16 rows");
}

TEST_F(Amx, EachThreadHasItsOwnTiles) {
  Context ctx = Context::with_threads(2);
  Buffer<int> wrong(8);
  ctx.run(8, [&](Index p, Index) {
    const Bytes from(static_cast<std::uint64_t>(p));
    for (int times = 0; times < 20; ++times) {
      const amx::Tiles tiles(TileConfig::full());
      amx::load<0>(from.row, 64);
      wrong[p] += std::memcmp(whole<0>().row, from.row, sizeof from.row) != 0;
    }
  });
  for (int count : wrong) EXPECT_EQ(count, 0);
}

}  // namespace
}  // namespace tessera::test
#endif
