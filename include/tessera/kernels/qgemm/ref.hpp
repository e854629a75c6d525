/// The definition: what every other qgemm kernel equals bit for bit.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string_view>

#include <tessera/kernels/qgemm/panel.hpp>
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
          const Index first = b * block_values, count = std::min(block_values, a.k - first);
          block(a.x + first * a.x_row + (t * activation_tile + c) * a.x_col, a.x_row, count,
                a.out.codes + entry * block_values, a.out.scale[entry], a.out.sum[entry]);
        }
    }
  }

  /// `count` values at `stride`, the rest zero.
  static void block(const float* x, Index stride, Index count, std::int8_t* codes, float& scale, std::int32_t& sum) {
    std::uint32_t most_bits = 0;
    for (Index i = 0; i < count; ++i)
      most_bits = std::max(most_bits, std::bit_cast<std::uint32_t>(x[i * stride]) & 0x7fffffffu);
    const float most = std::bit_cast<float>(most_bits);
    scale = most / 127.0f;
    sum = 0;
    const bool finite = most_bits < 0x7f800000u;
    if (!finite) scale = std::numeric_limits<float>::quiet_NaN();
    if (scale < std::numeric_limits<float>::min()) scale = 0;
    const bool coded = finite && scale > 0;
    const float inverse = coded ? 127.0f / most : 0.0f;
    for (Index i = 0; i < block_values; ++i) {
      const float v = coded && i < count ? x[i * stride] * inverse : 0.0f;
      constexpr float shift = 12582912.0f;  // |v| < 128: adding it rounds to an integer, to nearest even
      codes[i] = static_cast<std::int8_t>((detail::rounded(v) + shift) - shift);
      sum += codes[i];
    }
  }
};

/// y = sum over blocks b in order of (d_w * d_x) * S, S = sum (code - zero) * x exactly in int32; then, for formats
/// with a minimum, (m * d_x) * sum x. Each product and each sum is rounded to f32; no fused multiply-add.
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
    for (Index c = 0; c < t.width; ++c)
      for (Index r = 0; r < panel_rows; ++r) {
        float y = 0;
        for (Index b = 0; b < t.blocks; ++b) {
          const auto block = detail::load_from_panel<Format>(t.codes + b * P::codes, t.side + b * P::side, r);
          const Index entry = b * t.width + c;
          const std::int8_t* x = t.x + entry * block_values;
          // g++ 12 -O3 takes (code - zero) * x for a product of unsigned by signed bytes, hence zero outside the loop.
          std::int32_t sum = 0;
          for (Index i = 0; i < block_values; ++i) sum += code(block, i) * x[i];
          sum -= Format::zero * t.sum[entry];
          y += detail::rounded(detail::rounded(float(block.d) * t.scale[entry]) * static_cast<float>(sum));
          if constexpr (Format::has_minimum)
            y += detail::rounded(detail::rounded(float(block.m) * t.scale[entry]) * static_cast<float>(t.sum[entry]));
        }
        t.out[c * panel_rows + r] = y;
      }
  }

  template <class Block>
  static int code(const Block& block, Index i) {
    if constexpr (F::bits == 8)
      return block.qs[i];
    else
      return i < 16 ? block.qs[i] & 15 : block.qs[i - 16] >> 4;
  }
};

}  // namespace tessera::inline TESSERA_ABI
