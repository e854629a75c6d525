/// Codes without a scale of their own: what stands before them belongs to the row, or to the whole matrix
/// (`ScaledRows`, matrix/quantized_rows.hpp).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include <tessera/core/types.hpp>
#include <tessera/quant/format.hpp>
#include <tessera/quant/formats/group_affine.hpp>

namespace tessera::inline TESSERA_ABI {

/// x = q, an integer of `Bits` bits: -2^(Bits-1) .. 2^(Bits-1) - 1. encode() takes the nearest. A block with a value
/// that is not finite cannot say so: it takes 0 for it.
template <int Bits>
struct Integers {
  static_assert((Bits >= 2 && Bits <= 6) || Bits == 8);
  static constexpr std::string_view name = std::string_view(
                                               "integers2integers3integers4integers5integers6integers7"
                                               "integers8")
                                               .substr((Bits - 2) * 9, 9);
  static constexpr Index block_size = 32;
  static constexpr Index group = 32;
  static constexpr int bits = Bits;
  static constexpr int zero = Bits == 8 ? 0 : 1 << (Bits - 1);
  static constexpr bool has_minimum = false;
  static constexpr bool two_level = false;
  static constexpr bool unit_scale = true;
  struct Block {
    std::uint8_t qs[4 * Bits];  // code i, q + 2^(Bits-1), in bits Bits * i; 8 bits: q itself
  };

  static void encode(std::span<const float> x, Block& block) {
    constexpr float limit = static_cast<float>(1 << (Bits - 1));
    std::uint8_t c[32];
    for (std::size_t i = 0; i < 32; ++i)
      c[i] =
          static_cast<std::uint8_t>((x[i] - x[i] == 0 ? detail::nearest_code(x[i], 1, -limit, limit - 1) : 0) + zero);
    set_codes(block, c);
  }
  static void codes(const Block& block, std::span<std::uint8_t> c) { detail::packed_codes<Bits>(block.qs, c); }
  static void set_codes(Block& block, std::span<const std::uint8_t> c) { detail::set_packed_codes<Bits>(block.qs, c); }
  static float scale(const Block&, Index) { return 1; }
  static void integers(const Block& block, std::span<std::int8_t> q) { detail::integers_of_codes<Integers>(block, q); }
  static void decode(const Block& block, std::span<float> x) { detail::decode_groups<Integers>(block, x); }
};

/// x = v, a number of 8 bits: FP8_E4M3, FP8_E5M2. Values beyond its range take its greatest.
template <class T>
struct FP8 {
  static constexpr std::string_view name = T::mantissa_bits == 3 ? "fp8_e4m3" : "fp8_e5m2";
  static constexpr Index block_size = 32;
  static constexpr int bits = 8;
  static constexpr bool unit_scale = true;
  using Element = T;
  struct Block {
    std::uint8_t qs[32];  // T's bits
  };

  static void encode(std::span<const float> x, Block& block) {
    for (std::size_t i = 0; i < 32; ++i) block.qs[i] = static_cast<std::uint8_t>(saturate_cast<T>(x[i]).bits);
  }
  static void decode(const Block& block, std::span<float> x) {
    for (std::size_t i = 0; i < 32; ++i) x[i] = float(T::from_bits(block.qs[i]));
  }
};
using FP8_E4M3 = FP8<fp8_e4m3>;
using FP8_E5M2 = FP8<fp8_e5m2>;

}  // namespace tessera::inline TESSERA_ABI
