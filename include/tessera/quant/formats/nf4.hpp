/// NF4: 4-bit codes into the quantiles of a normal distribution, and the greatest magnitude of each 64 values.
/// T. Dettmers et al., "QLoRA: Efficient Finetuning of Quantized LLMs" (2023), §3 and appendix E.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>

#include <tessera/quant/format.hpp>
#include <tessera/quant/formats/nibbles.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

inline constexpr float nf4_levels[16] = {-1.0f,
                                         -0.6961928009986877f,
                                         -0.5250730514526367f,
                                         -0.39491748809814453f,
                                         -0.28444138169288635f,
                                         -0.18477343022823334f,
                                         -0.09105003625154495f,
                                         0.0f,
                                         0.07958029955625534f,
                                         0.16093020141124725f,
                                         0.24611230194568634f,
                                         0.33791524171829224f,
                                         0.44070982933044434f,
                                         0.5626170039176941f,
                                         0.7229568362236023f,
                                         1.0f};

struct Nf4Bytes {
  std::int8_t coarse[16], fine[16];
};
/// The levels in units of 1 / (127 * 256), to the nearest one, as 256 * coarse + fine.
inline constexpr Nf4Bytes nf4_bytes = [] {
  Nf4Bytes bytes{};
  for (int c = 0; c < 16; ++c) {
    const float v = nf4_levels[c] * 32512.0f;
    const int units = static_cast<int>(v < 0 ? v - 0.5f : v + 0.5f);
    const int coarse = (units + 32768 + 128) / 256 - 128;
    bytes.coarse[c] = static_cast<std::int8_t>(coarse);
    bytes.fine[c] = static_cast<std::int8_t>(units - 256 * coarse);
  }
  return bytes;
}();

/// The nearest level; of two as near the lower.
inline int nf4_code(float v) {
  int code = 0;
  for (int c = 1; c < 16; ++c) code += v > 0.5f * (nf4_levels[c - 1] + nf4_levels[c]) ? 1 : 0;
  return code;
}

inline void nf4_encode(std::span<const float> x, float absmax, std::uint8_t* qs) {
  const auto code = [&](float v) { return absmax > 0 ? nf4_code(v / absmax) : 7; };
  for (std::size_t i = 0; i < 32; ++i) qs[i] = static_cast<std::uint8_t>(code(x[i]) | code(x[32 + i]) << 4);
}
inline void nf4_decode(const std::uint8_t* qs, float absmax, std::span<float> x) {
  for (std::size_t i = 0; i < 32; ++i) {
    x[i] = absmax * nf4_levels[qs[i] & 15];
    x[32 + i] = absmax * nf4_levels[qs[i] >> 4];
  }
}
inline float nf4_absmax(std::span<const float> x) {
  const float most = extreme(x);
  return most < 0 ? -most : most;
}

}  // namespace detail

/// x = absmax * level[q], absmax in f32: 4.5 bits a value. The layout is this library's own.
struct NF4 {
  static constexpr std::string_view name = "nf4";
  static constexpr Index block_size = 64;
  static constexpr int bits = 4;
  static constexpr const std::int8_t (&coarse_levels)[16] = detail::nf4_bytes.coarse;  // for products with int8
  static constexpr const std::int8_t (&fine_levels)[16] = detail::nf4_bytes.fine;
  struct Block {
    float absmax;
    std::uint8_t qs[32];  // code i in the low half of byte i, code 32 + i in the high half
  };

  static void encode(std::span<const float> x, Block& block) {
    block.absmax = detail::nf4_absmax(x);
    detail::nf4_encode(x, block.absmax, block.qs);
  }
  static void codes(const Block& block, std::span<std::uint8_t> c) { detail::nibble_codes<32>(block.qs, c.data()); }
  static void set_codes(Block& block, std::span<const std::uint8_t> c) {
    detail::set_nibble_codes<32>(block.qs, c.data());
  }
  static void decode(const Block& block, std::span<float> x) { detail::nf4_decode(block.qs, block.absmax, x); }
};

/// NF4 with its absmax quantized too (double quantization): 8 bits for each 64 values between the least and the
/// greatest absmax of `Groups` such groups, those two in f32. With the paper's 256 groups 4.129 bits a value in blocks
/// of 16384, with 16 groups 4.1875 in blocks of 1024. The layout is this library's own.
template <int Groups = 256>
struct NF4Double {
  static constexpr std::string_view name = "nf4_double";
  static constexpr Index block_size = 64 * Groups;
  static constexpr int bits = 4;
  static constexpr const std::int8_t (&coarse_levels)[16] = detail::nf4_bytes.coarse;  // for products with int8
  static constexpr const std::int8_t (&fine_levels)[16] = detail::nf4_bytes.fine;
  struct Block {
    float low, step;
    std::uint8_t scales[Groups];  // absmax = low + step * scale
    std::uint8_t qs[Groups][32];  // as NF4's
  };

  static void encode(std::span<const float> x, Block& block) {
    float low = detail::nf4_absmax(x.first(64)), high = low;
    for (std::size_t g = 0; g < Groups; ++g) {
      const float absmax = detail::nf4_absmax(x.subspan(64 * g, 64));
      if (absmax != absmax) return refuse(block);
      low = absmax < low ? absmax : low;
      high = absmax > high ? absmax : high;
    }
    block.low = low;
    block.step = (high - low) / 255;
    for (std::size_t g = 0; g < Groups; ++g) {
      const auto part = x.subspan(64 * g, 64);
      block.scales[g] = static_cast<std::uint8_t>(
          block.step > 0 ? detail::nearest_code(detail::nf4_absmax(part) - low, block.step, 0, 255) : 0);
      detail::nf4_encode(part, absmax_of(block, g), block.qs[g]);
    }
  }
  static void codes(const Block& block, std::span<std::uint8_t> c) {
    for (std::size_t g = 0; g < Groups; ++g) detail::nibble_codes<32>(block.qs[g], &c[64 * g]);
  }
  static void set_codes(Block& block, std::span<const std::uint8_t> c) {
    for (std::size_t g = 0; g < Groups; ++g) detail::set_nibble_codes<32>(block.qs[g], &c[64 * g]);
  }
  static void decode(const Block& block, std::span<float> x) {
    for (std::size_t g = 0; g < Groups; ++g)
      detail::nf4_decode(block.qs[g], absmax_of(block, g), x.subspan(64 * g, 64));
  }

 private:
  static float absmax_of(const Block& block, std::size_t g) {
    return block.low + block.step * static_cast<float>(block.scales[g]);
  }
  static void refuse(Block& block) {
    block = Block{};
    block.low = std::numeric_limits<float>::quiet_NaN();
  }
};

}  // namespace tessera::inline TESSERA_ABI
