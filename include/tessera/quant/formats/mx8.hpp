/// The 8-bit formats of the OCP Microscaling Formats specification v1.0 (2023): 32 values share a power of two, 8.25
/// bits a value.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include <tessera/core/types.hpp>
#include <tessera/quant/format.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

/// E8M0: 2^(e - 127); 255 is NaN.
inline float e8m0(std::uint8_t e) {
  if (e == 255) return std::bit_cast<float>(0x7fc00000u);
  return std::bit_cast<float>(e == 0 ? 0x00400000u : static_cast<std::uint32_t>(e) << 23);
}

}  // namespace detail

/// x = 2^(e - 127) * v, v of type T: MXFP8_E4M3, MXFP8_E5M2.
template <class T>
struct MXFP8 {
  static constexpr std::string_view name = T::mantissa_bits == 3 ? "mxfp8_e4m3" : "mxfp8_e5m2";
  static constexpr Index block_size = 32;
  static constexpr int bits = 8;
  static constexpr int exponent_bias = 127;
  using Element = T;
  struct Block {
    std::uint8_t e;
    std::uint8_t qs[32];  // T's bits
  };

  /// The specification's scale, which brings the extreme value between T's greatest power of two and its double, or
  /// twice that: the one of less squared error. Values beyond T's range take its greatest.
  static void encode(std::span<const float> x, Block& block) {
    block = Block{};
    const float most = detail::extreme(x);
    if (most != most) {
      block.e = 255;
      return;
    }
    if (most == 0) return;
    constexpr int greatest = T::has_infinity ? T::bias : T::bias + 1;  // exponent of T's greatest
    const int e = std::ilogb(most) - greatest + 127;
    double least = -1;
    for (int k = 0; k < 2; ++k) {
      Block trial;
      trial.e = static_cast<std::uint8_t>(e + k < 1 ? 1 : e + k > 254 ? 254 : e + k);
      const float scale = detail::e8m0(trial.e);
      double error = 0;
      for (std::size_t i = 0; i < 32; ++i) {
        const T v = saturate_cast<T>(x[i] / scale);
        trial.qs[i] = static_cast<std::uint8_t>(v.bits);
        const double off = static_cast<double>(x[i]) - static_cast<double>(scale) * static_cast<double>(float(v));
        error += off * off;
      }
      if (least < 0 || error < least) {
        least = error;
        block = trial;
      }
    }
  }
  static void decode(const Block& block, std::span<float> x) {
    const float scale = detail::e8m0(block.e);
    for (std::size_t i = 0; i < 32; ++i) x[i] = scale * float(T::from_bits(block.qs[i]));
  }
};
using MXFP8_E4M3 = MXFP8<fp8_e4m3>;
using MXFP8_E5M2 = MXFP8<fp8_e5m2>;
static_assert(sizeof(MXFP8_E4M3::Block) == 33);

/// x = 2^(e - 127) * q / 64, q in [-127, 127] (encode() leaves -128 out).
struct MXINT8 {
  static constexpr std::string_view name = "mxint8";
  static constexpr Index block_size = 32;
  static constexpr Index group = 32;
  static constexpr int bits = 8;
  static constexpr int zero = 0;
  static constexpr bool has_minimum = false;
  static constexpr bool two_level = false;
  static constexpr int exponent_bias = 133;
  struct Block {
    std::uint8_t e;
    std::int8_t qs[32];
  };

  static void encode(std::span<const float> x, Block& block) {
    block = Block{};
    const float most = detail::extreme(x);
    if (most != most) {
      block.e = 255;
      return;
    }
    if (most == 0) return;
    int e = std::ilogb(most) + 127;  // |x| / 2^(e - 127) < 2, that is |q| <= 128
    e = e < 7 ? 7 : e;
    if (e < 254 && std::abs(most) / detail::e8m0(static_cast<std::uint8_t>(e)) > 127.5f / 64) ++e;
    block.e = static_cast<std::uint8_t>(e);
    for (std::size_t i = 0; i < 32; ++i)
      block.qs[i] = static_cast<std::int8_t>(detail::nearest_code(x[i], scale(block, 0), -127, 127));
  }
  static float scale(const Block& block, Index) { return detail::e8m0(block.e) / 64; }
  static void integers(const Block& block, std::span<std::int8_t> q) {
    for (std::size_t i = 0; i < 32; ++i) q[i] = block.qs[i];
  }
  static void decode(const Block& block, std::span<float> x) { detail::decode_groups<MXINT8>(block, x); }
};
static_assert(sizeof(MXINT8::Block) == 33);

}  // namespace tessera::inline TESSERA_ABI
