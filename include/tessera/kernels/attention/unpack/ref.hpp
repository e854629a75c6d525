/// The obvious unpacking.
#pragma once

#include <bit>
#include <cstring>
#include <string_view>

#include <tessera/kernels/attention/unpack/args.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

/// Where channel c's 3 bits begin in a block of `count`.
constexpr Index code3_at(Index c, Index count) {
  return count == UnpackArgs::block ? 12 * (c % 8) + 3 * (c / 8) : 3 * c;
}
inline unsigned code3(const std::uint8_t* bytes, Index c, Index count) noexcept {
  const Index at = code3_at(c, count), byte = at / 8, shift = at % 8;
  unsigned two = bytes[byte];
  if (shift > 5) two |= static_cast<unsigned>(bytes[byte + 1]) << 8;
  return two >> shift & 7u;
}

/// Channels [first, first + count) of one row of codes of 2 to 4 bits, a whole block or the last one.
inline void unpack_block(const UnpackArgs& a, Index row, Index first, Index count) noexcept {
  const Index b = first / UnpackArgs::block;
  const std::uint8_t* const bytes = a.codes + row * a.row_bytes + b * (UnpackArgs::block * a.bits / 8);
  float* const out = a.out + row * a.d + first;
  const Index plane = (count * a.bits + 7) / 8;
  const unsigned mask = (1u << a.bits) - 1;
  const auto put = [&](Index c, unsigned code) {
    const Index meta = a.meta_stride == 0 ? first + c : row * a.meta_stride + b;
    out[c] = float(a.scale[meta]) * static_cast<float>(code) + float(a.zero[meta]);
  };
  if (a.bits == 3) {
    for (Index c = 0; c < count; ++c) put(c, code3(bytes, c, count));
    return;
  }
  for (Index c = 0, shift = 0; c < count; shift += a.bits)
    for (Index i = 0; i < plane && c < count; ++i, ++c) put(c, (static_cast<unsigned>(bytes[i]) >> shift) & mask);
}

}  // namespace detail

struct UnpackRef {
  static constexpr std::string_view name = "unpack:ref";
  static constexpr Isa isa = Isa::portable;
  static const char* reject(const UnpackArgs& a) {
    const bool known = (a.bits >= 2 && a.bits <= 4) || a.bits == 8 || a.bits == 16;
    return known ? nullptr : "bits are not 2, 3, 4, 8 or 16";
  }
  static void run(const UnpackArgs& a, RowRange rows) noexcept {
    for (Index r = rows.begin; r < rows.end; ++r) {
      const std::uint8_t* const codes = a.codes + r * a.row_bytes;
      float* const out = a.out + r * a.d;
      if (a.bits == 16) {
        for (Index c = 0; c < a.d; ++c) {
          std::uint16_t code = 0;
          std::memcpy(&code, codes + 2 * c, sizeof code);
          out[c] = a.half ? static_cast<float>(f16::from_bits(code))
                          : std::bit_cast<float>(static_cast<std::uint32_t>(code) << 16);
        }
      } else if (a.bits == 8) {
        for (Index c = 0; c < a.d; ++c)
          out[c] = static_cast<float>(static_cast<std::int8_t>(codes[c])) * a.row_scale[r];
      } else {
        for (Index c = 0; c < a.d; c += UnpackArgs::block)
          detail::unpack_block(a, r, c, std::min(UnpackArgs::block, a.d - c));
      }
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI
