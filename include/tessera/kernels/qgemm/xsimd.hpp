/// The portable lane: integers multiplied in f32, exactly, since a block's sum stays below 2^24, scales included.
/// Tried: 16-bit integer lanes; xsimd 8.1 multiplies those one by one on SSE2.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>
#include <xsimd/xsimd.hpp>

#include <tessera/kernels/qgemm/activations.hpp>
#include <tessera/kernels/qgemm/frame.hpp>
#include <tessera/simd/isa.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

/// Keeps the compiler from fusing this product with a later sum (see `rounded(float)`).
template <class Arch>
xsimd::batch<float, Arch> rounded(xsimd::batch<float, Arch> v) {
#if defined(__GNUC__) && TESSERA_X86
  __asm__("" : "+x"(v.data));
#elif defined(__GNUC__) && defined(__aarch64__)
  __asm__("" : "+w"(v.data));
#else
  volatile auto kept = v.data;
  v.data = kept;
#endif
  return v;
}

/// 16 f16s as f32.
template <class Arch>
void decode_halves(const std::uint8_t* halves, float* out) {
  using I = xsimd::batch<std::int32_t, Arch>;
  using V = xsimd::batch<float, Arch>;
  std::int32_t wide[panel_rows];
  for (Index r = 0; r < panel_rows; ++r) {
    std::uint16_t bits;
    std::memcpy(&bits, halves + 2 * r, 2);
    wide[r] = bits;
  }
  for (Index r = 0; r < panel_rows; r += static_cast<Index>(I::size)) {
    const I bits = I::load_unaligned(wide + r);
    // Read with the exponent's bias of binary32, numbers and subnormals alike are 2^112 too small.
    const V value = xsimd::bitwise_cast<V>((bits & I(0x7fff)) << 13) * V(0x1p112f);
    const I top = xsimd::select((bits & I(0x7c00)) == I(0x7c00), I(0x7f800000), I(0));
    const I sign = (bits & I(0x8000)) << 16;
    xsimd::bitwise_cast<V>(xsimd::bitwise_cast<I>(value) | top | sign).store_unaligned(out + r);
  }
}

}  // namespace detail

template <class F, class Arch = xsimd::default_arch>
struct QgemmXsimd {
  using I = xsimd::batch<std::int32_t, Arch>;
  using V = xsimd::batch<float, Arch>;
  static constexpr Index lanes = static_cast<Index>(V::size);
  static constexpr Index parts = panel_rows / lanes;

  static constexpr std::string_view name = "qgemm:xsimd";
  static constexpr Isa isa = Isa::portable;
  static const char* reject(const QgemmArgs&) { return nullptr; }
  static std::size_t scratch(const QgemmArgs& a) { return detail::qgemm_scratch<F>(a); }
  static void run(const QgemmArgs& a, RowRange rows) noexcept { detail::qgemm_rows<F, QgemmXsimd>(a, rows); }

  template <class Format>
  static void tile(const detail::QgemmTile& t) noexcept {
    for (Index p = 0; p < t.panels; ++p)
      panel(t, t.codes + p * P::part_codes, t.side + p * P::side, t.out + p * detail::tile_values);
  }

 private:
  using P = PanelLayout<F>;
  static constexpr Index group_values = block_values / P::groups;
  /// Floats of an unpacked part; wide levels take their fine halves after the coarse ones.
  static constexpr Index values = block_values * panel_rows * (P::code == PanelCode::wide ? 2 : 1);

  static void panel(const detail::QgemmTile& t, const std::uint8_t* codes, const std::uint8_t* side, float* out) {
    alignas(64) float w[values], d[panel_rows], m[panel_rows], x[block_values];
    alignas(64) float s[P::groups][panel_rows], minimum[P::groups][panel_rows];
    detail::RowScales<F> small[panel_rows];
    for (Index b = 0; b < t.blocks; ++b, side += t.panels * P::side) {
      scales_of(side, d, m);
      if constexpr (P::two_level)
        for (Index r = 0; r < panel_rows; ++r) small[r].load(side, r);
      for (Index part = 0; part < P::parts; ++part, codes += t.panels * P::part_codes) {
        unpack(codes, w);
        if constexpr (P::scale == PanelScale::ranged) part_scales(side, part, d);
        for (Index g = 0; g < P::groups; ++g)
          for (Index r = 0; r < panel_rows; ++r) {
            if constexpr (P::by_16)
              s[g][r] = detail::group_number(side[P::byte_at(part * P::groups + g) + r]);
            else
              group_factors(small[r], part * P::groups + g, s[g][r], minimum[g][r]);
          }
        for (Index c = 0; c < t.width; ++c) {
          const Index entry = (b * P::parts + part) * t.width + c;
          const std::int8_t* activations = t.x + entry * block_values;
          for (Index i = 0; i < block_values; ++i) x[i] = static_cast<float>(activations[i]);
          const std::int32_t last = static_cast<std::int32_t>(t.halves[entry]) >> 16;
          const float sums[2] = {static_cast<float>(P::groups == 2 ? t.sum[entry] - last : t.sum[entry]),
                                 static_cast<float>(last)};
          V total[parts];
          products(w, x, s, total);
          for (Index p = 0; p < parts; ++p) {
            V v = P::by_16 ? total[p] : detail::rounded(V::load_aligned(d + p * lanes) * total[p]);
            if constexpr (P::has_minimum) {
              V sum = V(sums[0]);
              if constexpr (P::two_level) {
                sum = V::load_aligned(minimum[0] + p * lanes) * V(sums[0]);
                if constexpr (P::groups == 2) sum += V::load_aligned(minimum[1] + p * lanes) * V(sums[1]);
              }
              v += detail::rounded(V::load_aligned(m + p * lanes) * sum);
            }
            float* to = out + c * panel_rows + p * lanes;
            (V::load_unaligned(to) + detail::rounded(v * V(t.scale[entry]))).store_unaligned(to);
          }
        }
      }
    }
  }

  /// total = the sum of w x, each product of numbers or integers exact, in the order that QgemmRef gives for numbers;
  /// sums of integers are exact in any.
  static void products(const float* w, const float* x, const float (&s)[P::groups][panel_rows], V (&total)[parts]) {
    for (Index p = 0; p < parts; ++p) total[p] = V(0.0f);
    if constexpr (P::code == PanelCode::number) {
      V sum[4];
      for (Index p = 0; p < parts; ++p) {
        for (V& v : sum) v = V(0.0f);
        for (Index i = 0; i < block_values; ++i)
          sum[i % 4] += V::load_aligned(w + i * panel_rows + p * lanes) * V(x[i]);
        total[p] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
      }
    } else {
      V dot[parts];
      for (Index plane = 0; plane < values; plane += block_values * panel_rows)
        for (Index g = 0; g < P::groups; ++g) {
          for (Index p = 0; p < parts; ++p) dot[p] = V(0.0f);
          for (Index i = g * group_values; i < (g + 1) * group_values; ++i)
            for (Index p = 0; p < parts; ++p)
              dot[p] += V::load_aligned(w + plane + i * panel_rows + p * lanes) * V(x[i]);
          for (Index p = 0; p < parts; ++p) {
            if constexpr (P::code == PanelCode::wide)
              total[p] += plane == 0 ? dot[p] * V(256.0f) : dot[p];
            else
              total[p] += P::two_level || P::by_16 ? dot[p] * V::load_aligned(s[g] + p * lanes) : dot[p];
          }
        }
    }
  }

  static void scales_of(const std::uint8_t* side, float* d, float* m) {
    if constexpr (P::scale == PanelScale::half) {
      detail::decode_halves<Arch>(side, d);
      if constexpr (P::unit != 1)
        for (Index r = 0; r < panel_rows; ++r) d[r] *= P::unit;
    } else if constexpr (P::scale != PanelScale::ranged) {
      part_scales(side, 0, d);
    }
    if constexpr (P::has_minimum) {
      detail::decode_halves<Arch>(side + P::d_bytes, m);
      if constexpr (P::two_level)
        for (Index r = 0; r < panel_rows; ++r) m[r] = -m[r];
    }
  }
  static void part_scales(const std::uint8_t* side, Index part, float* d) {
    for (Index r = 0; r < panel_rows; ++r) {
      float v = 1;
      if constexpr (P::scale == PanelScale::power) v = detail::power_scale<F>(side[r]);
      if constexpr (P::scale == PanelScale::single) std::memcpy(&v, side + 4 * r, 4);
      if constexpr (P::scale == PanelScale::ranged) {
        float step;
        std::memcpy(&v, side + 4 * r, 4);
        std::memcpy(&step, side + 4 * (panel_rows + r), 4);
        v += detail::rounded(step * static_cast<float>(side[P::byte_at(part / 2) + r]));
      }
      if constexpr (P::code == PanelCode::wide) v = detail::rounded(v * (1.0f / wide_unit));
      d[r] = v;
    }
  }
  static void group_factors(const detail::RowScales<F>& small, Index g, float& s, float& minimum) {
    s = minimum = 1;
    if constexpr (P::two_level) {
      s = static_cast<float>(static_cast<std::int8_t>(small.values[g]) - P::scale_zero);
      if constexpr (P::has_minimum) minimum = static_cast<float>(small.values[P::parts * P::groups + g]);
    }
  }

  /// w[k][16 rows] = the integer. Four codes of a row are one 32-bit lane, the first in its lowest byte.
  static void unpack(const std::uint8_t* codes, float* w) {
    for (Index v = 0; v < 8; ++v)
      for (Index p = 0; p < parts; ++p) {
        float* to = w + v * 4 * panel_rows + p * lanes;
        if constexpr (F::bits == 8) {
          const I word = words(codes, v, p);
          for (int k = 0; k < 4; ++k) {
            if constexpr (P::code == PanelCode::number)
              looked_up((word >> (8 * k)) & I(255), numbers.values).store_aligned(to + k * panel_rows);
            else
              xsimd::to_float((word << (24 - 8 * k)) >> 24).store_aligned(to + k * panel_rows);
          }
        } else {
          constexpr int low = P::low_bits, high = P::high_bits;
          const I word = words(codes, v % low, p) >> static_cast<int>(v / low * low);
          I top(0);
          if constexpr (high > 0)
            top = words(codes + low * P::vector, v % high, p) >> static_cast<int>(v / high * high);
          for (int k = 0; k < 4; ++k) {
            I code = (word >> (8 * k)) & I((1 << low) - 1);
            if constexpr (high > 0) code = code | (((top >> (8 * k)) & I((1 << high) - 1)) << low);
            if constexpr (P::code == PanelCode::level) {
              looked_up(code, F::codebook).store_aligned(to + k * panel_rows);
            } else if constexpr (P::code == PanelCode::wide) {
              looked_up(code, F::coarse_levels).store_aligned(to + k * panel_rows);
              looked_up(code, F::fine_levels).store_aligned(to + (block_values + k) * panel_rows);
            } else {
              (xsimd::to_float(code) - V(static_cast<float>(F::zero))).store_aligned(to + k * panel_rows);
            }
          }
        }
      }
  }
  static I words(const std::uint8_t* plane, Index vector, Index part) {
    std::int32_t lane[lanes];
    std::memcpy(lane, plane + (vector * panel_rows + part * lanes) * 4, sizeof lane);
    return I::load_unaligned(lane);
  }
  template <class Table>
  static V looked_up(I code, const Table& table) {
    std::int32_t index[lanes];
    float value[lanes];
    code.store_unaligned(index);
    for (Index i = 0; i < lanes; ++i) value[i] = static_cast<float>(table[index[i]]);
    return V::load_unaligned(value);
  }
  /// Every number of 8 bits.
  struct Numbers {
    float values[P::code == PanelCode::number ? 256 : 1] = {};
    constexpr Numbers() {
      if constexpr (P::code == PanelCode::number)
        for (std::uint32_t i = 0; i < 256; ++i) values[i] = float(F::Element::from_bits(i));
    }
  };
  static constexpr Numbers numbers{};
};

template <class Arch = xsimd::default_arch>
struct QuantizeActivationsXsimd {
  using I = xsimd::batch<std::int32_t, Arch>;
  using V = xsimd::batch<float, Arch>;

  static constexpr std::string_view name = "quantize_activations:xsimd";
  static constexpr Isa isa = Isa::portable;
  static const char* reject(const QuantizeActivationsArgs&) { return nullptr; }
  static void run(const QuantizeActivationsArgs& a, RowRange tiles) noexcept {
    detail::quantize_tiles<QuantizeActivationsXsimd>(a, tiles);
  }

  static void run_blocks(const detail::ActivationRun& r) noexcept {
    constexpr Index lanes = static_cast<Index>(I::size);
    std::int32_t q[block_values];
    for (Index b = 0; b < r.blocks; ++b) {
      const float* x = r.x + b * block_values;
      I most(0);
      for (Index i = 0; i < block_values; i += lanes)
        most = xsimd::max(most, xsimd::bitwise_cast<I>(V::load_unaligned(x + i)) & I(0x7fffffff));
      most.store_unaligned(q);
      std::int32_t largest = 0;
      for (Index i = 0; i < lanes; ++i) largest = q[i] > largest ? q[i] : largest;
      const auto scale = detail::activation_scale(static_cast<std::uint32_t>(largest));
      const V inverse(scale.inverse);
      for (Index i = 0; i < block_values; i += lanes)
        (scale.inverse == 0 ? I(0) : xsimd::nearbyint_as_int(V::load_unaligned(x + i) * inverse))
            .store_unaligned(q + i);
      const Index at = b * r.width;
      std::int32_t sum[2] = {};
      for (Index i = 0; i < block_values; ++i) {
        r.codes[at * block_values + i] = static_cast<std::int8_t>(q[i]);
        sum[i / 16] += q[i];
      }
      r.scale[at] = scale.scale;
      r.set_sums(at, sum[0], sum[1]);
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI
