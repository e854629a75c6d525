/// A block as the kernels of qgemm see it, its way into a panel and out of it.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <span>

#include <tessera/core/config.hpp>
#include <tessera/core/types.hpp>
#include <tessera/kernels/qgemm/args.hpp>
#include <tessera/kernels/qgemm/block_scale.hpp>
#include <tessera/kernels/qgemm/panel.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

/// The codes of a block in the order of its values: of 8 bits as they are, of fewer from 0.
template <class F>
void panel_codes(const typename F::Block& block, std::uint8_t* c) {
  if constexpr (F::bits == 8) {
    std::memcpy(c, block.qs, F::block_size);
  } else if constexpr (requires(std::span<std::uint8_t> s) { F::codes(block, s); }) {
    F::codes(block, std::span<std::uint8_t>(c, static_cast<std::size_t>(F::block_size)));
  } else {
    for (Index i = 0; i < 16; ++i) {
      c[i] = block.qs[i] & 15;
      c[16 + i] = static_cast<std::uint8_t>(block.qs[i] >> 4);
    }
  }
}
template <class F>
void set_panel_codes(typename F::Block& block, const std::uint8_t* c) {
  if constexpr (F::bits == 8) {
    std::memcpy(block.qs, c, F::block_size);
  } else if constexpr (requires(std::span<const std::uint8_t> s) { F::set_codes(block, s); }) {
    F::set_codes(block, std::span<const std::uint8_t>(c, static_cast<std::size_t>(F::block_size)));
  } else if constexpr (requires(std::span<const std::uint8_t> s) { F::restore_codes(block, s); }) {
    F::restore_codes(block, std::span<const std::uint8_t>(c, static_cast<std::size_t>(F::block_size)));
  } else {
    for (Index i = 0; i < 16; ++i) block.qs[i] = static_cast<std::uint8_t>(c[i] | c[16 + i] << 4);
  }
}
/// The integers q of a block; the codes where they stand for something else.
template <class F>
void panel_integers(const typename F::Block& block, std::int8_t* q) {
  std::uint8_t c[F::block_size];
  panel_codes<F>(block, c);
  for (Index i = 0; i < F::block_size; ++i) {
    if constexpr (F::bits == 8)
      q[i] = static_cast<std::int8_t>(c[i]);
    else if constexpr (PanelLayout<F>::code == PanelCode::level)
      q[i] = F::codebook[c[i]];
    else if constexpr (PanelLayout<F>::code == PanelCode::wide)
      q[i] = static_cast<std::int8_t>(c[i]);
    else
      q[i] = static_cast<std::int8_t>(c[i] - F::zero);
  }
}

/// Keeps the compiler from fusing this product with a later sum: every kernel rounds twice, so that all agree.
inline float rounded(float v) {
#if defined(__GNUC__) && TESSERA_X86
  __asm__("" : "+x"(v));
#elif defined(__GNUC__) && defined(__aarch64__)
  __asm__("" : "+w"(v));
#else
  volatile float kept = v;
  v = kept;
#endif
  return v;
}

/// The bytes scales[g] or s[g].
template <class F, class Block>
auto* byte_scales(Block& block) {
  if constexpr (PanelLayout<F>::by_16)
    return block.s;
  else
    return block.scales;
}
/// 2^(e - F::exponent_bias), NaN for 255.
template <class F>
float power_scale(std::uint8_t e) {
  constexpr float unit = std::bit_cast<float>((254u - static_cast<unsigned>(F::exponent_bias)) << 23);
  if (e == 255) return std::bit_cast<float>(0x7fc00000u);
  return std::bit_cast<float>(e == 0 ? 0x00400000u : static_cast<std::uint32_t>(e) << 23) * unit;
}
/// What part `part` of a block is multiplied by as a whole.
template <class F>
float part_scale([[maybe_unused]] const typename F::Block& block, [[maybe_unused]] Index part) {
  using P = PanelLayout<F>;
  float d = 1;
  if constexpr (P::scale == PanelScale::half) d = P::unit * float(block_d<F>(block));
  if constexpr (P::scale == PanelScale::power) d = power_scale<F>(block.e);
  if constexpr (P::scale == PanelScale::single) d = block.absmax;
  if constexpr (P::scale == PanelScale::ranged)
    d = block.low + rounded(block.step * static_cast<float>(block.scales[part / 2]));
  if constexpr (P::code == PanelCode::wide) d = rounded(d * (1.0f / wide_unit));
  return d;
}
/// What group g of 16 values is multiplied by, where that is a number of its own.
inline float group_number(std::uint8_t s) { return 0.5f * float(fp8_e4m3::from_bits(s & 0x7fu)); }
/// m of a block, -dmin where minima are quantized, 0 where there are none.
template <class F>
float block_minimum(const typename F::Block& block) {
  if constexpr (!PanelLayout<F>::has_minimum)
    return 0;
  else if constexpr (PanelLayout<F>::two_level)
    return -float(block.dmin);
  else
    return float(block.m);
}
/// s and t of group g.
template <class F>
int group_scale([[maybe_unused]] const typename F::Block& block, [[maybe_unused]] Index g) {
  if constexpr (PanelLayout<F>::two_level)
    return F::scale_code(block, g);
  else
    return 1;
}
template <class F>
int group_minimum([[maybe_unused]] const typename F::Block& block, [[maybe_unused]] Index g) {
  if constexpr (PanelLayout<F>::two_level && PanelLayout<F>::has_minimum)
    return F::minimum_code(block, g);
  else
    return 1;
}

/// Eight words of four codes and one plane of B bits of them.
template <int B>
void store_plane(const std::uint32_t (&words)[8], int from_bit, Index row, std::uint8_t* plane) {
  constexpr std::uint32_t mask = 0x01010101u * ((1u << B) - 1);
  for (int j = 0; j < B; ++j) {
    std::uint32_t packed = 0;
    for (int i = 0; i < 8 / B; ++i) packed |= ((words[j + B * i] >> from_bit) & mask) << (B * i);
    std::memcpy(plane + (j * panel_rows + row) * 4, &packed, 4);
  }
}
template <int B>
void load_plane(std::uint32_t (&words)[8], int to_bit, Index row, const std::uint8_t* plane) {
  constexpr std::uint32_t mask = 0x01010101u * ((1u << B) - 1);
  for (int j = 0; j < B; ++j) {
    std::uint32_t packed;
    std::memcpy(&packed, plane + (j * panel_rows + row) * 4, 4);
    for (int i = 0; i < 8 / B; ++i) words[j + B * i] |= ((packed >> (B * i)) & mask) << to_bit;
  }
}

/// The integer scales of one row: n of them, the byte of the j-th `at(j)` within a plane.
template <class F>
struct RowScales {
  using P = PanelLayout<F>;
  static constexpr Index count = P::small_values / panel_rows;  // s of all groups, then t
  static constexpr Index at(Index j, Index row) { return P::small_index(j / P::groups, row, j % P::groups); }
  std::uint8_t values[count == 0 ? 1 : count];

  void store(std::uint8_t* side, Index row) const {
    if constexpr (P::scale_bits == 8) {
      for (Index j = 0; j < count; ++j) side[P::small_at + at(j, row)] = values[j];
    } else {
      for (Index j = 0; j < count / 2; ++j)
        side[P::small_at + at(j, row)] = static_cast<std::uint8_t>((values[j] & 15) | values[j + count / 2] << 4);
      if constexpr (P::scale_bits == 6)
        for (Index j = 0; j < count / 4; ++j) {
          int high = 0;
          for (Index k = 0; k < 4; ++k) high |= values[j + k * (count / 4)] >> 4 << (2 * k);
          side[P::high_at + at(j, row)] = static_cast<std::uint8_t>(high);
        }
    }
  }
  void load(const std::uint8_t* side, Index row) {
    if constexpr (P::scale_bits == 8) {
      for (Index j = 0; j < count; ++j) values[j] = side[P::small_at + at(j, row)];
    } else {
      for (Index j = 0; j < count; ++j) {
        const int low = side[P::small_at + at(j % (count / 2), row)] >> (j / (count / 2) * 4) & 15;
        int high = 0;
        if constexpr (P::scale_bits == 6)
          high = side[P::high_at + at(j % (count / 4), row)] >> (j / (count / 4) * 2) & 3;
        values[j] = static_cast<std::uint8_t>(low | high << 4);
      }
    }
  }
};

/// `block` becomes row `row` of a panel's block at `place`.
template <class F>
void store_in_panel(const typename F::Block& block, Index row, const PanelPlace<F>& place, std::uint8_t* codes,
                    std::uint8_t* side) {
  using P = PanelLayout<F>;
  codes += place.codes;
  side += place.side;
  std::uint8_t c[F::block_size];
  panel_codes<F>(block, c);
  for (Index p = 0; p < P::parts; ++p) {
    std::uint32_t words[8];
    std::memcpy(words, c + p * block_values, sizeof words);
    std::uint8_t* to = codes + p * place.part_step;
    if constexpr (F::bits == 8) {
      for (Index v = 0; v < 8; ++v) std::memcpy(to + (v * panel_rows + row) * 4, &words[v], 4);
    } else {
      store_plane<P::low_bits>(words, 0, row, to);
      if constexpr (P::high_bits > 0) store_plane<P::high_bits>(words, P::low_bits, row, to + P::low_bits * P::vector);
    }
  }
  if constexpr (P::scale == PanelScale::half) {
    const f16 d = block_d<F>(block);
    std::memcpy(side + 2 * row, &d, 2);
  }
  if constexpr (P::scale == PanelScale::power) side[row] = block.e;
  if constexpr (P::scale == PanelScale::single) std::memcpy(side + 4 * row, &block.absmax, 4);
  if constexpr (P::scale == PanelScale::ranged) {
    std::memcpy(side + 4 * row, &block.low, 4);
    std::memcpy(side + 4 * (panel_rows + row), &block.step, 4);
  }
  for (Index g = 0; g < P::byte_scales; ++g)
    if constexpr (P::byte_scales > 0) side[P::byte_at(g) + row] = byte_scales<F>(block)[g];
  if constexpr (PanelLayout<F>::has_minimum) {
    if constexpr (P::two_level)
      std::memcpy(side + P::d_bytes + 2 * row, &block.dmin, 2);
    else
      std::memcpy(side + P::d_bytes + 2 * row, &block.m, 2);
  }
  if constexpr (P::two_level) {
    RowScales<F> scales;
    constexpr Index count = P::parts * P::groups;
    for (Index g = 0; g < count; ++g) {
      scales.values[g] = static_cast<std::uint8_t>(F::scale_code(block, g) + P::scale_zero);
      if constexpr (PanelLayout<F>::has_minimum)
        scales.values[count + g] = static_cast<std::uint8_t>(F::minimum_code(block, g));
    }
    scales.store(side, row);
  }
}

template <class F>
typename F::Block load_from_panel(const std::uint8_t* codes, const std::uint8_t* side, const PanelPlace<F>& place,
                                  Index row) {
  using P = PanelLayout<F>;
  codes += place.codes;
  side += place.side;
  typename F::Block block{};
  std::uint8_t c[F::block_size];
  for (Index p = 0; p < P::parts; ++p) {
    std::uint32_t words[8] = {};
    const std::uint8_t* from = codes + p * place.part_step;
    if constexpr (F::bits == 8) {
      for (Index v = 0; v < 8; ++v) std::memcpy(&words[v], from + (v * panel_rows + row) * 4, 4);
    } else {
      load_plane<P::low_bits>(words, 0, row, from);
      if constexpr (P::high_bits > 0) load_plane<P::high_bits>(words, P::low_bits, row, from + P::low_bits * P::vector);
    }
    std::memcpy(c + p * block_values, words, sizeof words);
  }
  set_panel_codes<F>(block, c);
  if constexpr (P::scale == PanelScale::half) {
    f16 d;
    std::memcpy(&d, side + 2 * row, 2);
    set_block_d<F>(block, d);
  }
  if constexpr (P::scale == PanelScale::power) block.e = side[row];
  if constexpr (P::scale == PanelScale::single) std::memcpy(&block.absmax, side + 4 * row, 4);
  if constexpr (P::scale == PanelScale::ranged) {
    std::memcpy(&block.low, side + 4 * row, 4);
    std::memcpy(&block.step, side + 4 * (panel_rows + row), 4);
  }
  for (Index g = 0; g < P::byte_scales; ++g)
    if constexpr (P::byte_scales > 0) byte_scales<F>(block)[g] = side[P::byte_at(g) + row];
  if constexpr (PanelLayout<F>::has_minimum) {
    if constexpr (P::two_level)
      std::memcpy(&block.dmin, side + P::d_bytes + 2 * row, 2);
    else
      std::memcpy(&block.m, side + P::d_bytes + 2 * row, 2);
  }
  if constexpr (P::two_level) {
    RowScales<F> scales;
    scales.load(side, row);
    constexpr Index count = P::parts * P::groups;
    for (Index g = 0; g < count; ++g) {
      const int s = std::bit_cast<std::int8_t>(scales.values[g]) - P::scale_zero;
      F::set_scale_codes(block, g, s, P::has_minimum ? scales.values[count + g] : 0);
    }
  }
  return block;
}

/// Rows [first, first + 16 * panels) of row-major blocks as one panel or two; rows past the last are zero.
template <class F>
void interleave_panels(const typename F::Block* blocks, Index rows, Index row_blocks, Index first, Index panels,
                       std::uint8_t* codes, std::uint8_t* side) {
  for (Index r = 0; r < panels * panel_rows; ++r)
    for (Index b = 0; b < row_blocks; ++b)
      store_in_panel<F>(first + r < rows ? blocks[(first + r) * row_blocks + b] : typename F::Block{}, r % panel_rows,
                        {r / panel_rows, b, panels, row_blocks}, codes, side);
}

}  // namespace detail
}  // namespace tessera::inline TESSERA_ABI
