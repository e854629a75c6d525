/// TQ1_0: 256 ternary digits, five to a byte, and an f16 scale; 1.6875 bits a value.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include <tessera/quant/detail/one_level.hpp>
#include <tessera/quant/format.hpp>

namespace tessera::inline TESSERA_ABI {

/// x = d * (q - 1), q in {0, 1, 2}. A byte b holds digits as the fraction b / 256: the first is the whole part of
/// 3 b / 256, and so on. The layout and the decoded values are GGUF's TQ1_0.
struct TQ1_0 {
  static constexpr std::string_view name = "tq1_0";
  static constexpr Index block_size = 256;
  static constexpr Index group = 256;
  static constexpr int bits = 2;
  static constexpr int levels = 3;
  static constexpr int zero = 1;
  static constexpr bool has_minimum = false;
  static constexpr bool two_level = false;
  struct Block {
    std::uint8_t qs[48];  // digit k of byte i < 32: code 32 k + i; of byte 32 + i: code 160 + 16 k + i
    std::uint8_t qh[4];   // digit k < 4 of byte i: code 240 + 4 k + i
    f16 d;
  };

  static void encode(std::span<const float> x, Block& block) { detail::encode_ternary<TQ1_0>(x, block); }
  /// With the scale given.
  static void encode(std::span<const float> x, f16 d, Block& block) { detail::encode_scaled<TQ1_0>(x, d, block); }

  static void codes(const Block& block, std::span<std::uint8_t> c) {
    take(block.qs, 32, 5, c.data());
    take(block.qs + 32, 16, 5, c.data() + 160);
    take(block.qh, 4, 4, c.data() + 240);
  }
  static void set_codes(Block& block, std::span<const std::uint8_t> c) {
    put(block.qs, 32, 5, c.data());
    put(block.qs + 32, 16, 5, c.data() + 160);
    put(block.qh, 4, 4, c.data() + 240);
  }
  static float scale(const Block& block, Index) { return block.d; }
  static void integers(const Block& block, std::span<std::int8_t> q) { detail::integers_of_codes<TQ1_0>(block, q); }
  static void decode(const Block& block, std::span<float> x) { detail::decode_groups<TQ1_0>(block, x); }

 private:
  static void take(const std::uint8_t* bytes, int count, int digits, std::uint8_t* c) {
    unsigned power = 1;
    for (int k = 0; k < digits; ++k, power *= 3)
      for (int i = 0; i < count; ++i) c[k * count + i] = static_cast<std::uint8_t>((bytes[i] * power % 256) * 3 >> 8);
  }
  static void put(std::uint8_t* bytes, int count, int digits, const std::uint8_t* c) {
    for (int i = 0; i < count; ++i) {
      unsigned value = 0;
      for (int k = 0; k < 5; ++k) value = 3 * value + (k < digits ? c[k * count + i] : 0u);
      bytes[i] = static_cast<std::uint8_t>((value * 256 + 242) / 243);
    }
  }
};
static_assert(sizeof(TQ1_0::Block) == 54);

}  // namespace tessera::inline TESSERA_ABI
