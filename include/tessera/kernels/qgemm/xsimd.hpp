/// The portable lane: codes and activations multiplied in f32, exactly, since a block's sum stays below 2^24.
/// Tried: 16-bit integer lanes; xsimd 8.1 multiplies those one by one on SSE2.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>
#include <xsimd/xsimd.hpp>

#include <tessera/kernels/qgemm/activations.hpp>
#include <tessera/kernels/qgemm/panel.hpp>
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
void decode_halves(const std::uint16_t* halves, float* out) {
  using I = xsimd::batch<std::int32_t, Arch>;
  using V = xsimd::batch<float, Arch>;
  std::int32_t wide[panel_rows];
  for (Index r = 0; r < panel_rows; ++r) wide[r] = halves[r];
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
    using P = PanelLayout<Format>;
    alignas(64) float w[block_values * panel_rows], d[panel_rows], m[panel_rows], x[block_values];
    for (Index i = 0; i < t.width * panel_rows; ++i) t.out[i] = 0;
    for (Index b = 0; b < t.blocks; ++b) {
      unpack(t.codes + b * P::codes, w);
      detail::decode_halves<Arch>(t.side + b * P::side, d);
      if constexpr (Format::has_minimum) detail::decode_halves<Arch>(t.side + b * P::side + panel_rows, m);
      for (Index c = 0; c < t.width; ++c) {
        const Index entry = b * t.width + c;
        const std::int8_t* codes = t.x + entry * block_values;
        for (Index i = 0; i < block_values; ++i) x[i] = static_cast<float>(codes[i]);
        V dot[parts];
        for (Index p = 0; p < parts; ++p) dot[p] = V(0.0f);
        for (Index i = 0; i < block_values; ++i) {
          const V xi(x[i]);
          for (Index p = 0; p < parts; ++p) dot[p] += V::load_aligned(w + i * panel_rows + p * lanes) * xi;
        }
        const V step(t.scale[entry]);
        for (Index p = 0; p < parts; ++p) {
          float* out = t.out + c * panel_rows + p * lanes;
          V y = V::load_unaligned(out);
          y += detail::rounded(detail::rounded(V::load_aligned(d + p * lanes) * step) * dot[p]);
          if constexpr (Format::has_minimum)
            y += detail::rounded(detail::rounded(V::load_aligned(m + p * lanes) * step) *
                                 V(static_cast<float>(t.sum[entry])));
          y.store_unaligned(out);
        }
      }
    }
  }

 private:
  /// w[k][16 rows] = code - zero. Four codes of a row are one 32-bit lane, the first in its lowest byte.
  static void unpack(const std::uint8_t* codes, float* w) {
    using P = PanelLayout<F>;
    for (Index g = 0; g < P::groups; ++g)
      for (Index p = 0; p < parts; ++p) {
        std::int32_t words[lanes];
        std::memcpy(words, codes + (g * panel_rows + p * lanes) * 4, sizeof words);
        const I word = I::load_unaligned(words);
        float* to = w + g * 4 * panel_rows + p * lanes;
        for (int k = 0; k < 4; ++k) {
          if constexpr (F::bits == 8) {
            xsimd::to_float((word << (24 - 8 * k)) >> 24).store_aligned(to + k * panel_rows);
          } else {
            const V zero(static_cast<float>(F::zero));
            (xsimd::to_float((word >> (8 * k)) & I(15)) - zero).store_aligned(to + k * panel_rows);
            (xsimd::to_float((word >> (8 * k + 4)) & I(15)) - zero).store_aligned(to + (16 + k) * panel_rows);
          }
        }
      }
  }
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
      std::int32_t sum = 0;
      for (Index i = 0; i < block_values; ++i) {
        r.codes[at * block_values + i] = static_cast<std::int8_t>(q[i]);
        sum += q[i];
      }
      r.scale[at] = scale.scale;
      r.sum[at] = sum;
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI
