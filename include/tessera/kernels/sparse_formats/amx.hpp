/// Tiles of (value, place) lists of bf16 times f32 on AMX: loaded as sparse, multiplied as dense tiles by the bf16
/// parts of X. The results were checked instruction by instruction under emulation (tests/support/amx_emulator.hpp);
/// the speed has not been measured on hardware yet.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include <tessera/core/types.hpp>
#include <tessera/kernels/gemm/amx_store.hpp>
#include <tessera/kernels/gemm/split_amx.hpp>
#include <tessera/kernels/sparse_formats/args.hpp>
#include <tessera/simd/amx.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace tessera::inline TESSERA_ABI {

namespace detail::csl_amx {

using gemm_split::Magnitudes;
inline constexpr int parts = 3;
inline constexpr Index tile = 64, side = 16, wide = 2 * side;  // of A; of a register tile; columns of a panel of X
using Layout = gemm_split_amx::LayoutB<parts>;
/// Of 64 rows of a panel: their magnitudes, then [32 rows][part][16 pairs][32 columns], or f32 where some do not split.
inline constexpr Index block_words = wide + tile / 2 * parts * wide;

inline void split_block(MatrixView<const float> X, Index t, Index panel, std::uint32_t* to) noexcept {
  const Index k = t * tile, j = panel * wide, rows = std::min(tile, X.rows() - k);
  const float* const from = X.data() + k * X.row_stride() + j * X.col_stride();
  gemm_split::pack_lanes<parts, Layout>(from, X.col_stride(), X.row_stride(), std::min(wide, X.cols() - j), wide, rows,
                                        to);
  if ((to[0] & Magnitudes::unsplit) != 0) return;
  for (Index i = (rows + 1) / 2; i % side != 0; ++i)
    for (int q = 0; q < parts; ++q)
      for (Index l = 0; l < wide; l += side)
        Layout::store(to + wide, i, l, q, wide, __mmask16(0xffff), _mm512_setzero_si512());
}

/// As Magnitudes::code, of bf16.
inline std::uint32_t magnitudes(const bf16* values, Index count) noexcept {
  __m512i most = _mm512_setzero_si512(), least = _mm512_set1_epi16(-1);
  for (Index k = 0; k < count; k += 32) {
    const auto some = static_cast<__mmask32>(count - k >= 32 ? 0xffffffffu : (1u << (count - k)) - 1u);
    const __m512i bits = _mm512_and_si512(_mm512_maskz_loadu_epi16(some, values + k), _mm512_set1_epi16(0x7fff));
    most = _mm512_max_epu16(most, bits);
    least = _mm512_mask_min_epu16(least, _mm512_test_epi16_mask(bits, bits), least, bits);
  }
  const __m512i half = _mm512_set1_epi32(0xffff);
  most = _mm512_max_epu32(_mm512_srli_epi32(most, 16), _mm512_and_si512(most, half));
  least = _mm512_min_epu32(_mm512_srli_epi32(least, 16), _mm512_and_si512(least, half));
  const auto high = static_cast<std::uint32_t>(_mm512_reduce_max_epu32(most)) >> 7;
  const auto low = static_cast<std::uint32_t>(_mm512_reduce_min_epu32(least)) >> 7;
  return high | low << 8;
}
/// Whether 64 products each may be summed by TDPBF16PS as by FMA: all are finite, none of A is subnormal, and with
/// |a| >= 2^e, |x| >= 2^f and e + f >= -96 all sums are multiples of 2^(e - 7 + f - 23), so none is below 2^-126.
inline bool suit(std::uint32_t a, std::uint32_t x) noexcept {
  if (((x & Magnitudes::unsplit) != 0) || (a & 255) == 255 || (a >> 8 & 511) == 0) return false;
  const auto high = static_cast<int>(a & 255) + static_cast<int>(x & 255) - 254;
  const auto low = static_cast<int>(a >> 8 & 511) + static_cast<int>(x >> 8 & 511) - 254;
  return low >= -96 && high + 9 <= 127;
}

/// 16 columns from `lane` on of row k of a block.
TESSERA_INLINE __m512 numbers(const std::uint32_t* block, unsigned k, Index lane) {
  const std::uint32_t* const body = block + wide;
  if ((block[0] & Magnitudes::unsplit) != 0) return _mm512_loadu_ps(body + static_cast<Index>(k) * wide + lane);
  __m512 sum = _mm512_setzero_ps();
  for (int q = parts - 1; q >= 0; --q) {  // exact, from the smallest on
    const __m512i pairs = _mm512_loadu_si512(body + Layout::at(k / 2, lane, q, wide));
    const __m512i bits = k % 2 == 0 ? _mm512_slli_epi32(pairs, 16)
                                    : _mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000u)));
    sum = _mm512_add_ps(sum, _mm512_castsi512_ps(bits));
  }
  return sum;
}
/// Each entry onto its row's sums, (64, 32).
inline void add_entries(const CslArgs<bf16>& a, Index first, Index last, const std::uint32_t* block, Index columns,
                        float* sums) {
  for (Index e = first; e < last; ++e) {
    const unsigned place = a.places[e];
    const __m512 value = _mm512_set1_ps(static_cast<float>(a.values[e]));
    for (Index l = 0; l < columns; l += side) {
      float* const to = sums + static_cast<Index>(place / 64) * wide + l;
      _mm512_storeu_ps(to, _mm512_fmadd_ps(value, numbers(block, place % 64, l), _mm512_loadu_ps(to)));
    }
  }
}

/// [32 columns of A][64 rows].
inline void expand(const CslArgs<bf16>& a, Index first, Index last, std::uint16_t* dense) {
  for (Index k = 0; k < tile * tile; k += 32) _mm512_storeu_si512(dense + k, _mm512_setzero_si512());
  for (Index e = first; e < last; ++e) {
    const unsigned place = a.places[e];
    dense[(place & 32u) << 6 | (place >> 1 & 0x7e0u) | (place & 31u)] = a.values[e].bits;
  }
}
/// `steps` times 32 columns of A onto the sums of the first 32 rows, or all.
inline void multiply(const std::uint16_t* dense, Index steps, bool all_rows, const std::uint32_t* x, bool second,
                     float* sums) {
  constexpr Index line = wide * 4;
  for (Index h = 0; h < (all_rows ? 2 : 1); ++h, dense += wide * 32, sums += wide * wide) {
    amx::load<0>(sums, line);
    amx::load<2>(sums + side * wide, line);
    if (second) {
      amx::load<1>(sums + side, line);
      amx::load<3>(sums + side * wide + side, line);
    }
    const std::uint32_t* words = x;
    for (Index s = 0; s < steps; ++s, words += parts * side * wide) {
      amx::load<4>(dense + s * tile * 32, 64);
      amx::load<5>(dense + s * tile * 32 + side * 32, 64);
      for (int q = parts - 1; q >= 0; --q) {
        amx::load<6>(words + q * side * wide, line);
        amx::dot_bf16<0, 4, 6>();
        amx::dot_bf16<2, 5, 6>();
        if (!second) continue;
        amx::load<7>(words + q * side * wide + side, line);
        amx::dot_bf16<1, 4, 7>();
        amx::dot_bf16<3, 5, 7>();
      }
    }
    amx::store<0>(sums, line);
    amx::store<2>(sums + side * wide, line);
    if (second) {
      amx::store<1>(sums + side, line);
      amx::store<3>(sums + side * wide + side, line);
    }
  }
}

}  // namespace detail::csl_amx

/// a x is a h + a m + a l with the three bf16 parts of x (gemm/split.hpp): products are exact and nothing of x is lost.
/// Between a tile's 64 terms and a row's sum lie 22 roundings at most, where by FMA there are 64. Tiles are spread once
/// for 256 columns. Those with fewer than an entry a row, and numbers that do not split, are multiplied entry by entry
/// in f32.
struct CslAmxBf16 {
  static constexpr std::string_view name = "csl:amx_bf16";
  static constexpr Isa isa = Isa::amx_bf16;
  template <class T>
  static const char* reject(const CslArgs<T>& a) {
    if (!std::is_same_v<T, bf16>) return "values other than bf16";
    const Index tiles = (a.rows + tile - 1) / tile * ((a.cols + tile - 1) / tile);
    if (a.tile_ptr != nullptr && a.tile_ptr[tiles] < tiles * tile) return "fewer than 64 entries a tile";
    return a.Y.cols() < detail::csl_amx::wide ? "fewer than 32 columns do not fill two tiles" : nullptr;
  }
  template <class T>
  static std::size_t scratch(const CslArgs<T>& a) {
    return static_cast<std::size_t>(2 * tile * tile + 4 * std::min(most_panels, panels(a)) * tile * wide);
  }
  template <class T>
  static void run(const CslArgs<T>& a, RowRange range) noexcept {
    if constexpr (std::is_same_v<T, bf16>) {
      static constexpr amx::TileConfig full = amx::TileConfig::full();
      const amx::Tiles tiles(full);
      for (Index b = range.begin; b < range.end; ++b)
        for (Index p = 0; p < panels(a); p += most_panels) band(a, b, p, a.scratch_of(range.worker));
    }
  }

 private:
  static constexpr Index tile = detail::csl_amx::tile, wide = detail::csl_amx::wide, most_panels = 8;
  template <class T>
  static Index panels(const CslArgs<T>& a) {
    return (a.Y.cols() + wide - 1) / wide;
  }

  static void band(const CslArgs<bf16>& a, Index b, Index first_panel, std::byte* scratch) {
    namespace csl = detail::csl_amx;
    const Index across = (a.cols + tile - 1) / tile, all = panels(a), count = std::min(most_panels, all - first_panel);
    const Index rows = std::min(tile, a.rows - b * tile);
    auto* const sums = reinterpret_cast<float*>(scratch);
    auto* const dense = reinterpret_cast<std::uint16_t*>(sums + count * tile * wide);
    std::fill(sums, sums + count * tile * wide, 0.0f);
    // What does not suit comes last: the instruction takes subnormal sums for zero.
    bool left = false;
    for (const bool suited : {true, false}) {
      if (!suited && !left) break;
      for (Index t = 0; t < across; ++t) {
        const Index first = a.tile_ptr[b * across + t], last = a.tile_ptr[b * across + t + 1];
        if (first == last) continue;
        const std::uint32_t code = csl::magnitudes(a.values + first, last - first);
        bool spread = false;
        for (Index p = 0; p < count; ++p) {
          const std::uint32_t* const block = a.parts + (t * all + first_panel + p) * csl::block_words;
          const Index columns = std::min(wide, a.Y.cols() - (first_panel + p) * wide);
          float* const to = sums + p * tile * wide;
          if (csl::suit(code, block[0]) != suited) {
            left = true;
          } else if (!suited || last - first < tile) {
            csl::add_entries(a, first, last, block, columns, to);
          } else {
            if (!spread) csl::expand(a, first, last, dense);
            spread = true;
            csl::multiply(dense, a.cols - t * tile > 32 ? 2 : 1, rows > 32, block + wide, columns > csl::side, to);
          }
        }
      }
    }
    for (Index p = 0; p < count; ++p) put(a, b * tile, rows, (first_panel + p) * wide, sums + p * tile * wide);
  }
  static void put(const CslArgs<bf16>& a, Index i, Index rows, Index j, const float* sums) {
    const Index columns = std::min(wide, a.Y.cols() - j), rs = a.Y.row_stride();
    if (a.Y.col_stride() == 1)
      return detail::gemm_amx::store_block(rows, columns, sums, a.alpha, a.beta, a.Y.data() + i * rs + j, rs);
    for (Index c = 0; c < columns; ++c)
      for (Index r = 0; r < rows; ++r) a.put(i + r, j + c, sums[r * wide + c]);
  }
};

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END

#endif

namespace tessera::inline TESSERA_ABI::detail {

/// X as csl:amx_bf16 reads it; false for other kernels.
template <class T>
bool split_operand([[maybe_unused]] Context& ctx, [[maybe_unused]] Workspace::Scope& scope,
                   [[maybe_unused]] const KernelEntry<CslArgs<T>>& kernel,
                   [[maybe_unused]] MatrixView<const accum_t<T>> X, [[maybe_unused]] CslArgs<T>& args) {
#if TESSERA_X86
  if constexpr (std::same_as<T, bf16> && compiled_isa.has(Isa::amx_bf16))
    if (kernel.isa == Isa::amx_bf16) {
      const Index down = (X.rows() + csl_amx::tile - 1) / csl_amx::tile;
      const Index panels = (X.cols() + csl_amx::wide - 1) / csl_amx::wide;
      auto* const to = scope.take<std::uint32_t>(down * panels * csl_amx::block_words);
      for_each_chunk(ctx, down * panels, 8, [&](Context&, Index begin, Index end) {
        for (Index k = begin; k < end; ++k)
          csl_amx::split_block(X, k / panels, k % panels, to + k * csl_amx::block_words);
      });
      args.parts = to;
      return true;
    }
#endif
  return false;
}

}  // namespace tessera::inline TESSERA_ABI::detail
