/// Blocks whose codes are indices of a grid of vectors: what all such formats share.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include <tessera/core/config.hpp>
#include <tessera/quant/format.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// The `Count` vectors of 4 * Quarter digits below Base that a set of published_grids.hpp holds. A vector is two
/// halves, each of two quarters; a quarter with digits a, b, ... has the number a + Base * b + ..., and a half the
/// place `stride` * last + first in tables of all halves, in whole SIMD registers.
template <int Base, int Quarter, int Count>
struct GridPoints {
  static constexpr int base = Base, half = 2 * Quarter, length = 2 * half, count = Count;
  static constexpr int quarters = Quarter == 1 ? Base : Base * Base;  // different ones
  static constexpr int stride = (quarters + 3) / 4 * 4, halves = quarters * stride;
  static constexpr int words = (quarters * quarters * quarters * quarters + 63) / 64;
  static_assert(Quarter <= 2);

  std::uint8_t low[Count] = {}, high[Count] = {};     // the places of an entry's first and last digits
  std::uint16_t first[quarters * quarters + 1] = {};  // the entries of first[h] to first[h + 1] have the high half h
  std::uint8_t digits[halves][half] = {};

  explicit constexpr GridPoints(const std::uint64_t (&set)[words]) : set_(set) {
    constexpr int all = quarters * quarters;
    int entry = 0, filled = 0;
    for (int w = 0; w < words; ++w) {
      before_[w] = static_cast<std::uint16_t>(entry);
      for (std::uint64_t left = set[w]; left != 0; left &= left - 1, ++entry) {
        const int number = 64 * w + std::countr_zero(left), top = number / all;
        low[entry] = static_cast<std::uint8_t>(place(number % all));
        high[entry] = static_cast<std::uint8_t>(place(top));
        while (filled <= top) first[filled++] = static_cast<std::uint16_t>(entry);
      }
    }
    while (filled <= all) first[filled++] = static_cast<std::uint16_t>(entry);
    for (int h = 0; h < all; ++h)
      for (int i = 0, rest = h; i < half; ++i, rest /= Base)
        digits[place(h)][i] = static_cast<std::uint8_t>(rest % Base);
  }

  static constexpr int place(int number) { return number / quarters * stride + number % quarters; }

  /// The entry of two halves' numbers; that of the next greater vector if it is none, `Count` behind the last.
  constexpr int index(int low_number, int high_number) const {
    const int number = high_number * quarters * quarters + low_number;
    const std::uint64_t below = (std::uint64_t{1} << (number % 64)) - 1;
    return before_[number / 64] + std::popcount(set_[number / 64] & below);
  }

 private:
  const std::uint64_t* set_;
  std::uint16_t before_[words] = {};
};

/// The codes of F's blocks: the digits of its entries, and with the bits of signs(block, octet) the digits plus base.
/// F has `points`, a codebook of 2 * base levels, index(block, v) of the v-th vector, signs(block, o) of eight values,
/// and set_index, set_signs.
template <class F>
void grid_codes(const typename F::Block& block, std::span<std::uint8_t> c) {
  constexpr const auto& points = F::points;
  constexpr Index each = 8 / points.length;
  std::uint8_t* to = c.data();
  for (Index o = 0; o < F::block_size / 8; ++o, to += 8) {
    for (Index e = 0; e < each; ++e) {
      const auto entry = static_cast<std::size_t>(F::index(block, o * each + e));
      for (Index i = 0; i < points.half; ++i) {
        to[e * points.length + i] = points.digits[points.low[entry]][i];
        to[e * points.length + points.half + i] = points.digits[points.high[entry]][i];
      }
    }
    const int signs = F::signs(block, o);
    for (int i = 0; i < 8; ++i) to[i] = static_cast<std::uint8_t>(to[i] + (signs >> i & 1) * points.base);
  }
}

/// The inverse, for codes that grid_codes gave. Others become those of some vectors of the grid.
template <class F>
void set_grid_codes(typename F::Block& block, std::span<const std::uint8_t> c) {
  constexpr const auto& points = F::points;
  constexpr Index each = 8 / points.length;
  const std::uint8_t* from = c.data();
  for (Index o = 0; o < F::block_size / 8; ++o, from += 8) {
    int signs = 0;
    for (int i = 0; i < 8; ++i) signs |= (from[i] >= points.base ? 1 : 0) << i;
    F::set_signs(block, o, signs);
    for (Index e = 0; e < each; ++e) {
      int half[2] = {};
      for (Index i = points.length; i-- > 0;)
        half[i / points.half] = half[i / points.half] * points.base + from[e * points.length + i] % points.base;
      const int entry = points.index(half[0], half[1]);
      F::set_index(block, o * each + e, entry < points.count ? entry : points.count - 1);
    }
  }
}

/// Seven signs and the eighth that makes the number of those that are set even.
inline int even_signs(int seven) {
  const unsigned signs = static_cast<unsigned>(seven) & 127u;
  return static_cast<int>(signs | (std::popcount(signs) % 2 == 1 ? 128u : 0u));
}

/// The lowest B bits of `value` become those of `word` from bit `at` on.
template <int B, class Word>
void set_bits(Word& word, Index at, int value) {
  constexpr int mask = (1 << B) - 1;
  word = static_cast<Word>((word & ~(mask << at)) | (value & mask) << at);
}

/// B bits of a little-endian word of 32 that is not aligned.
template <int B>
int bits_of(const std::uint8_t (&bytes)[4], Index at) {
  std::uint32_t word;
  std::memcpy(&word, bytes, 4);
  return static_cast<int>(word >> at & ((1u << B) - 1));
}
template <int B>
void set_bits_of(std::uint8_t (&bytes)[4], Index at, int value) {
  constexpr std::uint32_t mask = (1u << B) - 1;
  std::uint32_t word;
  std::memcpy(&word, bytes, 4);
  word = (word & ~(mask << at)) | (static_cast<std::uint32_t>(value) & mask) << at;
  std::memcpy(bytes, &word, 4);
}

}  // namespace tessera::inline TESSERA_ABI::detail
