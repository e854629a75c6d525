/// Numbers on a grid of a scale and a zero point, and their codes in planes.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/types.hpp>
#include <tessera/kv/codecs/int8.hpp>

namespace tessera::inline TESSERA_ABI::kv::detail {

/// zero + code * scale for code in 0 … levels covers [low, high]: zero is rounded down, scale up, so that no number is
/// clamped and each is within scale / 2. What f16 cannot hold is taken as ±65504; what is not finite makes scale NaN.
inline void fit_grid(float low, float high, bool finite, int levels, f16& scale, f16& zero) {
  if (!finite) {
    scale = zero = std::numeric_limits<f16>::quiet_NaN();
    return;
  }
  zero = saturate_cast<f16>(low);
  if (float(zero) > low && low > -65504.0f)
    zero = f16::from_bits(zero.bits == 0 ? 0x8001u : zero.bits < 0x8000u ? zero.bits - 1u : zero.bits + 1u);
  const float step = (std::min(high, 65504.0f) - float(zero)) / static_cast<float>(levels);
  scale = saturate_cast<f16>(std::max(step, 0.0f));
  if (float(scale) < step && scale.bits < 0x7bffu) scale = f16::from_bits(scale.bits + 1u);
}

inline unsigned grid_code(float x, float inverse, float zero, int levels) {
  const float at = (x - zero) * inverse;
  return static_cast<unsigned>(nearest_integer(at > 0 ? std::min(at, static_cast<float>(levels)) : 0.0f));
}
inline float grid_inverse(f16 scale) { return float(scale) > 0 ? 1 / float(scale) : 0; }

/// Decodes args.rows rows whose grids are made as they are needed: fill(row, scale, zero) writes those of a row's
/// blocks of 32 channels, of which there are at most `most_blocks`.
inline constexpr Index most_blocks = 512;
inline Index blocks_of(Index channels) { return (channels + UnpackArgs::block - 1) / UnpackArgs::block; }
template <class Fill>
void unpack_rows(UnpackArgs args, const Fill& fill, Unpack unpack) noexcept {
  f16 scale[most_blocks], zero[most_blocks];
  const Index rows = args.rows, blocks = blocks_of(args.d), some = most_blocks / blocks;
  args.scale = scale;
  args.zero = zero;
  args.meta_stride = blocks;
  for (Index t = 0; t < rows; t += some) {
    args.rows = std::min(some, rows - t);
    for (Index i = 0; i < args.rows; ++i) fill(t + i, scale + i * blocks, zero + i * blocks);
    unpack(args, {0, args.rows, 0});
    args.codes += some * args.row_bytes;
    args.out += some * args.d;
  }
}
inline void check_blocks(const char* codec, Index channels) {
  if (blocks_of(channels) > most_blocks)
    throw unsupported_error(tessera::detail::concat("tessera: ", codec, " of ", channels, " channels; at most ",
                                                    most_blocks * UnpackArgs::block));
}

/// `count` codes, a block, as UnpackArgs lays them out.
inline void pack_block(const unsigned* codes, Index count, int bits, std::uint8_t* bytes) {
  const Index plane = (count * bits + 7) / 8;
  std::fill_n(bytes, plane, std::uint8_t{0});
  if (bits == 3) {
    for (Index c = 0; c < count; ++c) {
      const Index at = tessera::detail::code3_at(c, count), byte = at / 8;
      const unsigned two = codes[c] << at % 8;
      bytes[byte] = static_cast<std::uint8_t>(bytes[byte] | two);
      if (two > 255) bytes[byte + 1] = static_cast<std::uint8_t>(bytes[byte + 1] | two >> 8);
    }
    return;
  }
  for (Index c = 0, shift = 0; c < count; shift += bits)
    for (Index i = 0; i < plane && c < count; ++i, ++c)
      bytes[i] = static_cast<std::uint8_t>(bytes[i] | codes[c] << shift);
}

}  // namespace tessera::inline TESSERA_ABI::kv::detail
