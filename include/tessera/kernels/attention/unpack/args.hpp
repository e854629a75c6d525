/// Rows of packed keys or values to floats, a tile at a time, for attention to read.
#pragma once

#include <algorithm>
#include <cstdint>

#include <tessera/core/config.hpp>
#include <tessera/core/types.hpp>
#include <tessera/kernels/kernel.hpp>

namespace tessera::inline TESSERA_ABI {

/// Asks for a line of keys or values that lies ahead, into L2: into L1 it would take one of the few buffers that loads
/// wait in, and halve what a Zen 4 reads from memory.
TESSERA_INLINE void prefetch_token(const void* line) { __builtin_prefetch(line, 0, 2); }

/// Rows of d codes:
///   bits 16  bf16, or f16 where `half`
///   bits 8   int8, times row_scale of the row
///   bits 4, 2  unsigned, scale * code + zero; blocks of 32 channels (the last one shorter), each in planes: with
///              P = ceil(channels · bits / 8) bytes, byte i holds channels i, i + P, i + 2P, … from the low bits up, so
///              that a plane unpacks with one shift
///   bits 3     the same in other places: a whole block is eight lanes of 12 bits, from the low bits of its bytes up,
///   and
///              lane i holds channels i, i + 8, i + 16, i + 24; a shorter one is its codes one after another
/// `meta_stride == 0`: scale and zero are (d), one a channel, the same for all rows; else (rows, blocks) with that
/// stride, one a row and block.
struct UnpackArgs : KernelArgs {
  static constexpr Index block = 32;
  const std::uint8_t* codes = nullptr;
  Index row_bytes = 0;
  Index rows = 0, d = 0;
  int bits = 0;
  bool half = false;
  const float* row_scale = nullptr;
  const f16* scale = nullptr;
  const f16* zero = nullptr;
  Index meta_stride = 0;
  float* out = nullptr;  // (rows, d)

  static constexpr Index packed_bytes(Index channels, int bits) {
    const Index rest = channels % block;
    return channels / block * (block * bits / 8) + (rest * bits + 7) / 8;
  }
};

}  // namespace tessera::inline TESSERA_ABI
