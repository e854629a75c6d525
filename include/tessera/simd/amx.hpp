/// AMX: eight tiles of at most 16 rows of 64 bytes. Inline assembly, because g++ 12's intrinsics neither clobber memory
/// nor pass the whole configuration. Instructions after Intel's "Software Developer's Manual", volume 2.
#pragma once

#include <cstdint>

#include <tessera/core/config.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI::amx {

/// Rows and bytes a row of each tile.
struct alignas(64) TileConfig {
  std::uint8_t palette = 1, start_row = 0, reserved0[14] = {};
  std::uint16_t row_bytes[8] = {}, reserved1[8] = {};
  std::uint8_t rows[8] = {}, reserved2[8] = {};

  static constexpr TileConfig full() {  // every tile 16 x 64 bytes
    TileConfig config;
    for (int t = 0; t < 8; ++t) config.set(t, 16, 64);
    return config;
  }
  constexpr void set(int tile, int row_count, int bytes) {
    rows[tile] = static_cast<std::uint8_t>(row_count);
    row_bytes[tile] = static_cast<std::uint16_t>(bytes);
  }
};
static_assert(sizeof(TileConfig) == 64);

/// Configures the tiles of this thread, as zero, for as long as it lives. What is called meanwhile must not have tiles
/// of its own: they would be released with those.
class Tiles {
 public:
  explicit Tiles(const TileConfig& config) { __asm__ volatile("ldtilecfg %0" : : "m"(config) : "memory"); }
  ~Tiles() { __asm__ volatile("tilerelease" : : : "memory"); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
};

template <int T>
TESSERA_INLINE void zero() {
  __asm__ volatile("tilezero %%tmm%c0" : : "i"(T));
}
/// Row i of tile T from p + i * step bytes.
template <int T>
TESSERA_INLINE void load(const void* p, Index step) {
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(p), "r"(step), "i"(T) : "memory");
}
template <int T>
TESSERA_INLINE void store(void* p, Index step) {
  __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(p), "r"(step), "i"(T) : "memory");
}

/// C (m,n) += A (m,k) * B (k,n): row i of A holds its k entries one after another, row p of B the entries p * E ..
/// p * E + E - 1 of each column, E of them a word (2 of bf16, 4 of int8). Inputs and outputs of bf16 that are subnormal
/// are zero; sums are of float.
template <int C, int A, int B>
TESSERA_INLINE void dot_bf16() {
  __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
}
/// The same of bytes, exact modulo 2^32.
template <bool SignedA, bool SignedB, int C, int A, int B>
TESSERA_INLINE void dot_i8() {
  if constexpr (SignedA && SignedB)
    __asm__ volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
  else if constexpr (SignedA)
    __asm__ volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
  else if constexpr (SignedB)
    __asm__ volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
  else
    __asm__ volatile("tdpbuud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
}

}  // namespace tessera::inline TESSERA_ABI::amx
#endif
