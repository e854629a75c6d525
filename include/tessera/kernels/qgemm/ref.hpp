/// The definition: what every other qgemm kernel equals bit for bit.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string_view>

#include <tessera/kernels/qgemm/activations.hpp>
#include <tessera/kernels/qgemm/frame.hpp>
#include <tessera/simd/isa.hpp>

namespace tessera::inline TESSERA_ABI {

/// Each block of 32 values: scale = max|x| / 127, code = x * (127 / max|x|) to nearest even. A block with a value that
/// is not finite has the scale NaN and codes 0; a scale below 2^-126 is 0, with codes 0.
struct QuantizeActivationsRef {
  static constexpr std::string_view name = "quantize_activations:ref";
  static constexpr Isa isa = Isa::portable;
  static const char* reject(const QuantizeActivationsArgs&) { return nullptr; }
  static void run(const QuantizeActivationsArgs& a, RowRange tiles) noexcept {
    for (Index t = tiles.begin; t < tiles.end; ++t) {
      const Index width = a.out.width(t), at = a.out.offset(t);
      for (Index b = 0; b < a.out.blocks; ++b)
        for (Index c = 0; c < width; ++c) {
          const Index entry = at + b * width + c;
          const Index first = std::min(b * block_values, a.k), count = std::min(block_values, a.k - first);
          std::int8_t* codes = a.out.codes + entry * block_values;
          block(a.x + first * a.x_row + (t * activation_tile + c) * a.x_col, a.x_row, count, codes, a.out.scale[entry]);
          std::int32_t half[2] = {};
          for (Index i = 0; i < block_values; ++i) half[i / 16] += codes[i];
          detail::ActivationRun{nullptr, 0, 0, nullptr, nullptr, a.out.sum, a.out.halves}.set_sums(entry, half[0],
                                                                                                   half[1]);
        }
    }
  }

  /// `count` values at `stride`, the rest zero.
  static void block(const float* x, Index stride, Index count, std::int8_t* codes, float& scale) {
    std::uint32_t most_bits = 0;
    for (Index i = 0; i < count; ++i)
      most_bits = std::max(most_bits, std::bit_cast<std::uint32_t>(x[i * stride]) & 0x7fffffffu);
    const float most = std::bit_cast<float>(most_bits);
    scale = most / 127.0f;
    const bool finite = most_bits < 0x7f800000u;
    if (!finite) scale = std::numeric_limits<float>::quiet_NaN();
    if (scale < std::numeric_limits<float>::min()) scale = 0;
    const bool coded = finite && scale > 0;
    const float inverse = coded ? 127.0f / most : 0.0f;
    for (Index i = 0; i < block_values; ++i) {
      const float v = coded && i < count ? x[i * stride] * inverse : 0.0f;
      constexpr float shift = 12582912.0f;  // |v| < 128: adding it rounds to an integer, to nearest even
      codes[i] = static_cast<std::int8_t>((detail::rounded(v) + shift) - shift);
    }
  }
};

/// y = the sum, over the activations' blocks of 32 in order, of d_x * v; d_x is the activations' scale, x their codes,
/// d the weights' scale of these 32 values (`part_scale`). Each product and each sum of floats is rounded to f32; no
/// fused multiply-add. Integers I and J are exact, in int32.
/// Integers and levels q: v = d * I + m * J with I = sum s q x, J = sum t x, |I| < 2^24 (PanelFormat's s, t and m).
/// The same by_16: v = s_0 * I_0 + s_1 * I_1, a scale for each half.
/// Wide levels: v = (d / wide_unit) * I, I = sum (256 coarse + fine) x.
/// Numbers q: v = d * ((S_0 + S_1) + (S_2 + S_3)), S_j = q_j x_j + q_(j+4) x_(j+4) + ..., in order; those products are
/// exact.
template <class F>
struct QgemmRef {
  static constexpr std::string_view name = "qgemm:ref";
  static constexpr Isa isa = Isa::portable;
  static const char* reject(const QgemmArgs&) { return nullptr; }
  static std::size_t scratch(const QgemmArgs& a) { return detail::qgemm_scratch<F>(a); }
  static void run(const QgemmArgs& a, RowRange rows) noexcept { detail::qgemm_rows<F, QgemmRef>(a, rows); }

  template <class Format>
  static void tile(const detail::QgemmTile& t) noexcept {
    using P = PanelLayout<Format>;
    for (Index row = 0; row < t.panels * panel_rows; ++row) {
      const Index panel = row / panel_rows, r = row % panel_rows;
      for (Index b = 0; b < t.blocks; ++b) {
        const auto block = detail::load_from_panel<Format>(t.codes, t.side, {panel, b, t.panels, t.blocks}, r);
        std::int8_t q[Format::block_size];
        detail::panel_integers<Format>(block, q);
        for (Index part = 0; part < P::parts; ++part)
          for (Index c = 0; c < t.width; ++c) {
            const Index entry = (b * P::parts + part) * t.width + c;
            float& y = t.out[panel * detail::tile_values + c * panel_rows + r];
            y += detail::rounded(value<Format>(block, q + part * block_values, part, t.x + entry * block_values) *
                                 t.scale[entry]);
          }
      }
    }
  }

 private:
  template <class Format>
  static float value(const typename Format::Block& block, const std::int8_t* q, Index part, const std::int8_t* x) {
    using P = PanelLayout<Format>;
    constexpr Index size = block_values / P::groups;
    const float d = detail::part_scale<Format>(block, part);
    if constexpr (P::code == PanelCode::number) {
      float sum[4] = {};
      for (Index i = 0; i < block_values; ++i)
        sum[i % 4] += number<typename Format::Element>(q[i]) * static_cast<float>(x[i]);
      return d * ((sum[0] + sum[1]) + (sum[2] + sum[3]));
    } else if constexpr (P::code == PanelCode::wide) {
      std::int32_t sum = 0;
      for (Index i = 0; i < block_values; ++i)
        sum += (256 * Format::coarse_levels[q[i]] + Format::fine_levels[q[i]]) * x[i];
      return d * static_cast<float>(sum);
    } else if constexpr (P::by_16) {
      float v = 0;
      for (Index g = 0; g < P::groups; ++g)
        v += detail::group_number(block.s[part * P::groups + g]) *
             static_cast<float>(dot(q + g * size, x + g * size, size));
      return v;
    } else {
      std::int32_t products = 0, minima = 0;
      for (Index g = 0; g < P::groups; ++g) {
        products += detail::group_scale<Format>(block, part * P::groups + g) * dot(q + g * size, x + g * size, size);
        std::int32_t sum = 0;
        for (Index i = g * size; i < (g + 1) * size; ++i) sum += x[i];
        minima += detail::group_minimum<Format>(block, part * P::groups + g) * sum;
      }
      float v = detail::rounded(d * static_cast<float>(products));
      if constexpr (P::has_minimum)
        v += detail::rounded(detail::block_minimum<Format>(block) * static_cast<float>(minima));
      return v;
    }
  }
  static std::int32_t dot(const std::int8_t* q, const std::int8_t* x, Index n) {
    std::int32_t sum = 0;
    for (Index i = 0; i < n; ++i) sum += q[i] * x[i];
    return sum;
  }
  template <class T>
  static float number(std::int8_t bits) {
    return float(T::from_bits(static_cast<std::uint8_t>(bits)));
  }
};

}  // namespace tessera::inline TESSERA_ABI
