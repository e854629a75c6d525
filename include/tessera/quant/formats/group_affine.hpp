/// Integers of 2 to 8 bits with a scale, and a minimum or none, for each group.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

#include <tessera/quant/detail/one_level.hpp>
#include <tessera/quant/format.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

/// "int4_g64", "uint4_g64" with a minimum.
template <int Bits, int Group, bool Symmetric>
inline constexpr auto group_affine_name = [] {
  std::array<char, 16> out{};
  std::size_t at = 0;
  for (const char c : std::string_view(Symmetric ? "int" : "uint")) out[at++] = c;
  out[at++] = static_cast<char>('0' + Bits);
  out[at++] = '_';
  out[at++] = 'g';
  int digits = 1;
  while (digits * 10 <= Group) digits *= 10;
  for (; digits > 0; digits /= 10) out[at++] = static_cast<char>('0' + Group / digits % 10);
  return out;
}();

/// Code i of `Bits` bits in bits Bits * i of little-endian bytes.
template <int Bits>
void packed_codes(std::span<const std::uint8_t> packed, std::span<std::uint8_t> c) {
  for (std::size_t i = 0; i < packed.size() * 8 / Bits; ++i) {
    const std::size_t bit = i * Bits, byte = bit / 8, shift = bit % 8;
    int window = packed[byte];
    if (shift + Bits > 8) window |= packed[byte + 1] << 8;
    c[i] = static_cast<std::uint8_t>(window >> shift & ((1 << Bits) - 1));
  }
}
template <int Bits>
void set_packed_codes(std::span<std::uint8_t> packed, std::span<const std::uint8_t> c) {
  for (auto& byte : packed) byte = 0;
  for (std::size_t i = 0; i < packed.size() * 8 / Bits; ++i) {
    const std::size_t bit = i * Bits, byte = bit / 8, shift = bit % 8;
    const int window = c[i] << shift;
    packed[byte] = static_cast<std::uint8_t>(packed[byte] | window);
    if (shift + Bits > 8) packed[byte + 1] = static_cast<std::uint8_t>(packed[byte + 1] | window >> 8);
  }
}

}  // namespace detail

/// Symmetric: x = d * (q - 2^(Bits-1)), the value of greatest magnitude at q = 0. Otherwise x = d * q + m. q is in
/// [0, 2^Bits - 1] (8 bits: see below), d and m are f16. The layout is this library's own: code i in bits Bits * i of
/// the little-endian bytes `packed`. Bits + 16 / Group (or 32 / Group) bits a value.
template <int Bits, int Group = 64, bool Symmetric = true>
struct GroupAffine {
  static_assert(Bits >= 2 && Bits < 8 && Group >= 16 && (Group & (Group - 1)) == 0);
  static constexpr Index block_size = Group;
  static constexpr Index group = Group;
  static constexpr int bits = Bits;
  static constexpr int zero = Symmetric ? 1 << (Bits - 1) : 0;
  static constexpr bool has_minimum = !Symmetric;
  static constexpr bool two_level = false;

 private:
  struct Symmetrical {
    f16 d;
    std::uint8_t packed[Group * Bits / 8];
  };
  struct Shifted {
    f16 d, m;
    std::uint8_t packed[Group * Bits / 8];
  };

 public:
  static constexpr std::string_view name = detail::group_affine_name<Bits, Group, Symmetric>.data();
  using Block = std::conditional_t<Symmetric, Symmetrical, Shifted>;

  static void encode(std::span<const float> x, Block& block) {
    if constexpr (Symmetric)
      detail::encode_to_lowest<GroupAffine>(x, block);
    else
      detail::encode_range<GroupAffine>(x, block);
  }
  /// With the scale given.
  static void encode(std::span<const float> x, f16 d, Block& block) requires Symmetric {
    detail::encode_scaled<GroupAffine>(x, d, block);
  }
  /// With the scale and the minimum given.
  static void encode(std::span<const float> x, f16 d, f16 m, Block& block) requires(!Symmetric) {
    detail::encode_shifted<GroupAffine>(x, d, m, block);
  }

  static void codes(const Block& block, std::span<std::uint8_t> c) { detail::packed_codes<Bits>(block.packed, c); }
  static void set_codes(Block& block, std::span<const std::uint8_t> c) {
    detail::set_packed_codes<Bits>(block.packed, c);
  }
  static float scale(const Block& block, Index) { return block.d; }
  static float minimum(const Block& block, Index) requires(!Symmetric) { return block.m; }
  static void integers(const Block& block, std::span<std::int8_t> q) {
    detail::integers_of_codes<GroupAffine>(block, q);
  }
  static void decode(const Block& block, std::span<float> x) { detail::decode_groups<GroupAffine>(block, x); }
};

/// 8 bits: x = d * q, q in [-127, 127], or d * q + m, q in [-128, 127].
template <int Group, bool Symmetric>
struct GroupAffine<8, Group, Symmetric> {
  static_assert(Group >= 16 && (Group & (Group - 1)) == 0);
  static constexpr Index block_size = Group;
  static constexpr Index group = Group;
  static constexpr int bits = 8;
  static constexpr int zero = 0;
  static constexpr bool has_minimum = !Symmetric;
  static constexpr bool two_level = false;

 private:
  struct Symmetrical {
    f16 d;
    std::int8_t qs[Group];
  };
  struct Shifted {
    f16 d, m;
    std::int8_t qs[Group];
  };

 public:
  static constexpr std::string_view name = detail::group_affine_name<8, Group, Symmetric>.data();
  using Block = std::conditional_t<Symmetric, Symmetrical, Shifted>;

  static void encode(std::span<const float> x, Block& block) {
    const float most = detail::extreme(x);
    if constexpr (Symmetric) {
      encode(x, most != most ? f16(most) : detail::fit_scale(most < 0 ? -most : most, 127.0f), block);
    } else {
      float low = x[0], high = x[0];
      for (const float v : x) {
        low = v < low ? v : low;
        high = v > high ? v : high;
      }
      const f16 d = most != most ? f16(most) : detail::fit_scale(high - low, 255.0f);
      const f16 m(high > low ? low + 128 * ((high - low) / 255) : low);
      const bool finite = detail::is_finite(d) && detail::is_finite(m);
      encode(x, finite ? d : f16::from_bits(f16::nan_code), finite ? m : f16(), block);
    }
  }
  /// With the scale given.
  static void encode(std::span<const float> x, f16 d, Block& block) requires Symmetric {
    block = Block{};
    block.d = d;
    if (float(d) == 0 || detail::is_nan(d)) return;
    for (std::size_t i = 0; i < Group; ++i)
      block.qs[i] = static_cast<std::int8_t>(detail::nearest_code(x[i], d, -127, 127));
  }
  /// With the scale and the minimum given.
  static void encode(std::span<const float> x, f16 d, f16 m, Block& block) requires(!Symmetric) {
    block = Block{};
    block.d = d;
    block.m = m;
    if (float(d) == 0 || detail::is_nan(d)) return;
    for (std::size_t i = 0; i < Group; ++i)
      block.qs[i] = static_cast<std::int8_t>(detail::nearest_code(x[i] - float(m), d, -128, 127));
  }

  static float scale(const Block& block, Index) { return block.d; }
  static float minimum(const Block& block, Index) requires(!Symmetric) { return block.m; }
  static void integers(const Block& block, std::span<std::int8_t> q) {
    for (std::size_t i = 0; i < Group; ++i) q[i] = block.qs[i];
  }
  static void decode(const Block& block, std::span<float> x) { detail::decode_groups<GroupAffine>(block, x); }
};

}  // namespace tessera::inline TESSERA_ABI
