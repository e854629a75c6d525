/// AMX on processors that lack it: a SIGILL handler that executes the tile instructions on tiles of its own, a set for
/// each thread. Semantics after Intel's "Software Developer's Manual", volume 2 (LDTILECFG … TILEZERO) and §2.10 of
/// volume 2A (exception classes): palette 1, eight tiles of at most 16 rows of 64 bytes; rows and columns beyond those
/// configured become zero. What the processor would refuse with #UD or #GP ends the program with the reason.
/// Addresses with a segment or an address-size prefix are not decoded.
#pragma once

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <tessera/simd/amx.hpp>
#include <tessera/simd/isa.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86 && defined(__linux__)
#include <signal.h>
#include <ucontext.h>
#include <unistd.h>
#define TESSERA_TEST_AMX 1
#else
#define TESSERA_TEST_AMX 0
#endif

namespace tessera::test {

#if TESSERA_TEST_AMX
namespace amx_emulator {

struct Tile {
  std::uint32_t rows = 0, bytes = 0;
  alignas(64) std::uint8_t row[16][64] = {};
};
struct State {
  bool configured = false;
  std::uint32_t start_row = 0;
  Tile tile[8];
};
inline thread_local State state;

enum class Op { none, load_config, store_config, release, zero, load, store, dot_bf16, dot_ss, dot_su, dot_us, dot_uu };
inline const char* name_of(Op op) {
  constexpr std::array<const char*, 12> names{"none",     "LDTILECFG", "STTILECFG",  "TILERELEASE",
                                              "TILEZERO", "TILELOADD", "TILESTORED", "TDPBF16PS",
                                              "TDPBSSD",  "TDPBSUD",   "TDPBUSD",    "TDPBUUD"};
  return names[static_cast<std::size_t>(op)];
}

struct Instruction {
  Op op = Op::none;
  int length = 0;
  int reg = 0, rm = 0, vvvv = 0;  // numbers of tiles
  bool sib = false;
  std::uint64_t base = 0, index = 0;  // address of a tile: base, step index; of a configuration: base + index
};

[[noreturn]] inline void refuse(const Instruction& in, const char* fault, const char* why, int tile = -1) {
  char text[200];
  const int n = tile < 0 ? std::snprintf(text, sizeof text, "AMX emulator: %s: %s: %s\n", name_of(in.op), fault, why)
                         : std::snprintf(text, sizeof text, "AMX emulator: %s: %s: tile %d %s\n", name_of(in.op), fault,
                                         tile, why);
  if (write(2, text, static_cast<std::size_t>(n)) != n) std::abort();
  std::abort();
}

/// False if there is no tile instruction at `ip`.
inline bool decode(const std::uint8_t* ip, const greg_t* registers, Instruction& in) {
  constexpr int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                             REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  const auto value = [&](int number) { return static_cast<std::uint64_t>(registers[order[number]]); };
  if (ip[0] != 0xc4 || (ip[1] & 0x1f) != 2 || (ip[2] & 0x84) != 0) return false;  // VEX.128.0F38.W0
  const int more_reg = (ip[1] & 0x80) == 0 ? 8 : 0, more_index = (ip[1] & 0x40) == 0 ? 8 : 0;
  const int more_base = (ip[1] & 0x20) == 0 ? 8 : 0, prefix = ip[2] & 3;  // prefixes none 66 F3 F2
  const int mod = ip[4] >> 6, low = ip[4] & 7;
  const bool memory = mod != 3;
  in.reg = (ip[4] >> 3 & 7) + more_reg;
  in.rm = low + more_base;
  in.vvvv = ~(ip[2] >> 3) & 15;
  switch (ip[3]) {
    case 0x49:
      if (memory && in.reg == 0 && prefix < 2) in.op = prefix == 0 ? Op::load_config : Op::store_config;
      if (ip[4] == 0xc0 && prefix == 0) in.op = Op::release;
      if (!memory && low == 0 && prefix == 3) in.op = Op::zero;
      break;
    case 0x4b:
      if (memory && prefix != 0) in.op = prefix == 2 ? Op::store : Op::load;  // F2 and, with a hint, 66
      break;
    case 0x5c:
      if (!memory && prefix == 2) in.op = Op::dot_bf16;
      break;
    case 0x5e: {
      constexpr Op dots[4] = {Op::dot_uu, Op::dot_us, Op::dot_su, Op::dot_ss};
      if (!memory) in.op = dots[prefix];
      break;
    }
    default:
      break;
  }
  if (in.op == Op::none) return false;
  const std::uint8_t* p = ip + 5;
  bool relative = false;
  if (memory) {
    int wide = mod == 1 ? 1 : mod == 2 ? 4 : 0;
    if (low == 4) {
      in.sib = true;
      const int index = (*p >> 3 & 7) + more_index, base = *p & 7;
      if (index != 4) in.index = value(index) << (*p >> 6);
      if (base == 5 && mod == 0)
        wide = 4;
      else
        in.base = value(base + more_base);
      ++p;
    } else if (low == 5 && mod == 0) {
      relative = true;
      wide = 4;
    } else {
      in.base = value(in.rm);
    }
    std::int32_t displacement = 0;
    if (wide == 1) displacement = static_cast<std::int8_t>(*p);
    if (wide == 4) std::memcpy(&displacement, p, 4);
    p += wide;
    in.base += static_cast<std::uint64_t>(std::int64_t{displacement});
    if (relative) in.base += reinterpret_cast<std::uint64_t>(p);
  }
  in.length = static_cast<int>(p - ip);
  return true;
}

inline Tile& valid(const Instruction& in, int number) {
  if (!state.configured) refuse(in, "#UD", "no tiles are configured");
  if (number > 7) refuse(in, "#UD", "does not exist", number);
  Tile& tile = state.tile[number];
  if (tile.rows == 0) refuse(in, "#UD", "is not configured", number);
  if (tile.bytes % 4 != 0) refuse(in, "#UD", "has rows that are not a multiple of 4 bytes", number);
  return tile;
}

inline void zero_rows_beyond(Tile& tile) {
  for (std::uint32_t r = tile.rows; r < 16; ++r) std::memset(tile.row[r], 0, 64);
}

inline void load_config(const Instruction& in) {
  amx::TileConfig config;
  std::memcpy(&config, reinterpret_cast<const void*>(in.base + in.index), sizeof config);
  if (config.palette == 0) {
    state = State{};
    return;
  }
  if (config.palette != 1) refuse(in, "#GP", "the palette is neither 0 nor 1");
  std::uint32_t reserved = 0;
  for (int i = 0; i < 14; ++i) reserved |= config.reserved0[i];
  for (int i = 0; i < 8; ++i) reserved |= static_cast<std::uint32_t>(config.reserved1[i] | config.reserved2[i]);
  if (reserved != 0) refuse(in, "#GP", "reserved bytes are not zero");
  for (int t = 0; t < 8; ++t) {
    if (config.rows[t] > 16) refuse(in, "#GP", "has more than 16 rows", t);
    if (config.row_bytes[t] > 64) refuse(in, "#GP", "has more than 64 bytes a row", t);
    if ((config.rows[t] == 0) != (config.row_bytes[t] == 0)) refuse(in, "#GP", "has rows or bytes, not both", t);
  }
  state = State{};
  state.configured = true;
  state.start_row = config.start_row;
  for (int t = 0; t < 8; ++t) {
    state.tile[t].rows = config.rows[t];
    state.tile[t].bytes = config.row_bytes[t];
  }
}

inline void store_config(const Instruction& in) {
  amx::TileConfig config;
  config.palette = state.configured ? 1 : 0;
  config.start_row = static_cast<std::uint8_t>(state.start_row);
  for (int t = 0; t < 8; ++t)
    config.set(t, static_cast<int>(state.tile[t].rows), static_cast<int>(state.tile[t].bytes));
  std::memcpy(reinterpret_cast<void*>(in.base + in.index), &config, sizeof config);
}

inline void move(const Instruction& in) {
  if (!in.sib) refuse(in, "#UD", "the address has no SIB byte");
  Tile& tile = valid(in, in.reg);
  if (state.start_row >= tile.rows) refuse(in, "#UD", "has no start_row", in.reg);
  for (std::uint32_t r = state.start_row; r < tile.rows; ++r) {
    auto* memory = reinterpret_cast<std::uint8_t*>(in.base + r * in.index);
    if (in.op == Op::load) {
      std::memset(tile.row[r], 0, 64);
      std::memcpy(tile.row[r], memory, tile.bytes);
    } else {
      std::memcpy(memory, tile.row[r], tile.bytes);
    }
  }
  if (in.op == Op::load) zero_rows_beyond(tile);
  state.start_row = 0;
}

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)

/// Row by row: sums of even and of odd entries, each by fused multiply-adds from zero, then their sum, then that plus
/// C.
TESSERA_NOINLINE inline void dot_bf16(Tile& c, const Tile& a, const Tile& b) {
  const __m512i high = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  const auto columns = static_cast<__mmask16>((1u << (c.bytes / 4)) - 1u);
  for (std::uint32_t m = 0; m < c.rows; ++m) {
    __m512 even = _mm512_setzero_ps(), odd = _mm512_setzero_ps();
    for (std::uint32_t k = 0; k < a.bytes / 4; ++k) {
      std::int32_t pair;
      __builtin_memcpy(&pair, a.row[m] + 4 * k, 4);
      const __m512i x = _mm512_set1_epi32(pair), y = _mm512_load_si512(b.row[k]);
      even = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_slli_epi32(x, 16)),
                             _mm512_castsi512_ps(_mm512_slli_epi32(y, 16)), even);
      odd = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_and_si512(x, high)),
                            _mm512_castsi512_ps(_mm512_and_si512(y, high)), odd);
    }
    const __m512 sum = _mm512_add_ps(_mm512_load_ps(c.row[m]), _mm512_add_ps(even, odd));
    _mm512_store_ps(c.row[m], _mm512_maskz_mov_ps(columns, sum));
  }
}

template <bool SignedA, bool SignedB>
TESSERA_NOINLINE inline void dot_i8(Tile& c, const Tile& a, const Tile& b) {
  const auto columns = static_cast<__mmask16>((1u << (c.bytes / 4)) - 1u);
  for (std::uint32_t m = 0; m < c.rows; ++m) {
    __m512i sum = _mm512_load_si512(c.row[m]);
    for (std::uint32_t k = 0; k < a.bytes / 4; ++k)
      for (unsigned e = 0; e < 4; ++e) {
        const std::uint8_t byte = a.row[m][4 * k + e];
        const int x = SignedA ? static_cast<std::int8_t>(byte) : byte;
        const __m512i top = _mm512_sllv_epi32(_mm512_load_si512(b.row[k]), _mm512_set1_epi32(24 - 8 * int(e)));
        const __m512i y = SignedB ? _mm512_srai_epi32(top, 24) : _mm512_srli_epi32(top, 24);
        sum = _mm512_add_epi32(sum, _mm512_mullo_epi32(_mm512_set1_epi32(x), y));
      }
    _mm512_store_si512(c.row[m], _mm512_maskz_mov_epi32(columns, sum));
  }
}

TESSERA_TARGET_END

inline void multiply(const Instruction& in) {
  if (in.reg == in.rm || in.reg == in.vvvv || in.rm == in.vvvv) refuse(in, "#UD", "tiles are not three different ones");
  Tile& c = valid(in, in.reg);
  const Tile &a = valid(in, in.rm), &b = valid(in, in.vvvv);
  if (state.start_row != 0) refuse(in, "#UD", "start_row is not zero");
  if (c.rows != a.rows || c.bytes != b.bytes || a.bytes / 4 != b.rows) refuse(in, "#UD", "shapes do not fit");
  const unsigned mode = _mm_getcsr();
  if (in.op == Op::dot_bf16) {
    _mm_setcsr(0x9fc0);  // subnormal inputs and outputs are zero; to nearest even; nothing raised
    dot_bf16(c, a, b);
    _mm_setcsr(mode);
  } else if (in.op == Op::dot_ss) {
    dot_i8<true, true>(c, a, b);
  } else if (in.op == Op::dot_su) {
    dot_i8<true, false>(c, a, b);
  } else if (in.op == Op::dot_us) {
    dot_i8<false, true>(c, a, b);
  } else {
    dot_i8<false, false>(c, a, b);
  }
  zero_rows_beyond(c);
}

inline struct sigaction previous;

inline void on_illegal_instruction(int, siginfo_t*, void* context) {
  auto* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  Instruction in;
  if (!decode(reinterpret_cast<const std::uint8_t*>(registers[REG_RIP]), registers, in)) {
    sigaction(SIGILL, &previous, nullptr);  // not ours: happens again
    return;
  }
  const bool dot = in.op >= Op::dot_bf16;
  if (!dot && in.vvvv != 0) refuse(in, "#UD", "VEX.vvvv is used");
  switch (in.op) {
    case Op::load_config:
      load_config(in);
      break;
    case Op::store_config:
      store_config(in);
      break;
    case Op::release:
      state = State{};
      break;
    case Op::zero:
      std::memset(valid(in, in.reg).row, 0, sizeof(Tile::row));
      if (state.start_row != 0) refuse(in, "#UD", "start_row is not zero");
      break;
    case Op::load:
    case Op::store:
      move(in);
      break;
    default:
      multiply(in);
      break;
  }
  registers[REG_RIP] += in.length;
}

}  // namespace amx_emulator
#endif

/// Makes the AMX kernels run as long as it lives: natively where the processor has AMX, else emulated. Not where
/// TESSERA_ISA excludes them, nor without AVX-512, which those kernels use besides.
class AmxEmulation {
 public:
  AmxEmulation() : before_(detail::emulated_isa) {
#if TESSERA_TEST_AMX
    constexpr auto bits = IsaSet().with(Isa::amx_bf16).with(Isa::amx_int8);
    if (!cpu_isa().has(Isa::avx512) || (cpu_isa() & bits) == bits) return;
    const char* wanted = std::getenv("TESSERA_ISA");
    struct sigaction action = {};
    action.sa_sigaction = &amx_emulator::on_illegal_instruction;
    action.sa_flags = SA_SIGINFO;
    static const bool installed = sigaction(SIGILL, &action, &amx_emulator::previous) == 0;
    if (installed) detail::emulated_isa = wanted == nullptr || *wanted == '\0' ? bits : bits & parse_isa(wanted);
#endif
  }
  ~AmxEmulation() { detail::emulated_isa = before_; }
  AmxEmulation(const AmxEmulation&) = delete;
  AmxEmulation& operator=(const AmxEmulation&) = delete;

 private:
  IsaSet before_;
};

}  // namespace tessera::test
