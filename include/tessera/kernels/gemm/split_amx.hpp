/// f32 factors as sums of bf16 ones on AMX. The results were checked instruction by instruction under emulation; the
/// speed has not been measured on hardware yet.
#pragma once

#include <algorithm>
#include <cstdint>

#include <tessera/kernels/gemm/amx.hpp>
#include <tessera/kernels/gemm/split.hpp>
#include <tessera/simd/amx.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace detail::gemm_split_amx {

using gemm_amx::tile_rows;
using gemm_amx::tile_words;
using gemm_split::chunk;
using gemm_split::Magnitudes;
inline constexpr Index tile_size = tile_rows * tile_words;

/// A panel of A: [step][part][row, whole tiles][16 pairs].
template <int P>
struct LayoutA {
  static TESSERA_INLINE Index at(Index i, Index lane, int part, Index width) {
    return ((i / tile_words * P + part) * width + lane) * tile_words + i % tile_words;
  }
};
/// A panel of B: [step][part][16 pairs][32].
template <int P>
struct LayoutB {
  static TESSERA_INLINE Index at(Index i, Index lane, int part, Index width) {
    return ((i / tile_words * P + part) * tile_words + i % tile_words) * width + lane;
  }
  static TESSERA_INLINE void store(std::uint32_t* out, Index i, Index lane, int part, Index width, __mmask16,
                                   __m512i words) {
    _mm512_storeu_si512(out + at(i, lane, part, width), words);
  }
};

template <int P>
struct Ops {
  using PackedA = std::uint32_t;
  using PackedB = std::uint32_t;
  static constexpr Index mr = 2 * tile_rows, nr = 2 * tile_words;
  static constexpr GemmTiling tiling{mr, nr, P == 2 ? 256 : 192, P == 2 ? 384 : 256, 1024};
  static constexpr Index k_unit = chunk;
  static constexpr Index row_unit = mr;  // what is split does not depend on the rows of a piece
  static Index steps(Index k) { return (k + chunk - 1) / chunk; }
  static Index packed_k(Index k) { return steps(k) * tile_words * P + 1; }
  static Index whole(Index rows) { return rows > tile_rows ? mr : tile_rows; }

  template <class Args>
  static bool in_place_a(const Args&) noexcept {
    return false;
  }
  template <class Args>
  static bool in_place_b(const Args&) noexcept {
    return false;
  }

  /// As lanes are packed, but with the roles of rows and sums exchanged: a row of a tile holds the pairs of a row.
  template <class Args>
  static void pack_a(const Args&, const float* src, Index lane_stride, Index k_stride, Index lanes, Index k,
                     std::uint32_t* out) noexcept {
    using gemm_split::Vec;
    const Index width = whole(lanes);
    std::uint32_t* body = out + width;
    alignas(64) float numbers[tile_rows * chunk];
    Magnitudes magnitudes;
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    for (Index p = 0; p < k; p += chunk)
      for (Index l = 0; l < width; l += tile_rows) {
        const Index rows = std::min(tile_rows, lanes - l), n = std::min(chunk, k - p);
        gemm_split::Pack<float, float>::run(src + l * lane_stride + p * k_stride, k_stride, lane_stride, n, chunk, rows,
                                            numbers);
        for (Index r = 0; r < tile_rows; ++r) {
          __m512i words[P];
          for (int q = 0; q < P; ++q) words[q] = _mm512_setzero_si512();
          if (r < rows) {
            const __m512 low = _mm512_maskz_load_ps(Vec<float>::first(n), numbers + r * chunk);
            const __m512 high = _mm512_maskz_load_ps(Vec<float>::first(n > 16 ? n - 16 : 0), numbers + r * chunk + 16);
            magnitudes.add(low);
            magnitudes.add(high);
            gemm_split::split<P>(_mm512_permutex2var_ps(low, even, high), _mm512_permutex2var_ps(low, odd, high),
                                 words);
          }
          for (int q = 0; q < P; ++q) _mm512_storeu_si512(body + LayoutA<P>::at(p / 2, l + r, q, width), words[q]);
        }
      }
    out[0] = magnitudes.code();
    if ((out[0] & Magnitudes::unsplit) != 0)
      gemm_split::Pack<float, float>::run(src, lane_stride, k_stride, lanes, width, k, reinterpret_cast<float*>(body));
  }
  template <class Args>
  static void pack_b(const Args&, const float* src, Index lane_stride, Index k_stride, Index lanes, Index k,
                     std::uint32_t* out) noexcept {
    gemm_split::pack_lanes<P, LayoutB<P>>(src, lane_stride, k_stride, lanes, nr, k, out);
    if ((out[0] & Magnitudes::unsplit) != 0) return;
    for (Index i = (k + 1) / 2; i % tile_words != 0; ++i)
      for (int q = 0; q < P; ++q)
        for (Index l = 0; l < nr; l += tile_words)
          LayoutB<P>::store(out + nr, i, l, q, nr, __mmask16(0xffff), _mm512_setzero_si512());
  }
  template <class Args>
  static void tile(const Args& args, Index rows, Index cols, Index k, TileA<std::uint32_t> a, const std::uint32_t* b,
                   Index, float beta, float* c, Index ldc) noexcept {
    if (!gemm_split::suit(a.data[0], b[0], k))
      return gemm_split::multiply_unsplit<P, LayoutA<P>, LayoutB<P>>(args, rows, cols, k, a.data, whole(rows), b, nr,
                                                                     beta, c, ldc);
    const bool second_row = rows > tile_rows, second_col = cols > tile_words;
    if (args.alpha == 1 && beta == 0 && rows == whole(rows) && cols % tile_words == 0)
      return multiply(second_row, second_col, steps(k), a.data + whole(rows), b + nr, c, ldc * 4);
    alignas(64) float sums[mr * nr];
    multiply(second_row, second_col, steps(k), a.data + whole(rows), b + nr, sums, nr * 4);
    gemm_amx::store_block(rows, cols, sums, args.alpha, beta, c, ldc);
  }

 private:
  static void multiply(bool second_row, bool second_col, Index count, const std::uint32_t* a, const std::uint32_t* b,
                       float* sums, Index row_bytes) noexcept {
    amx::zero<0>();
    amx::zero<1>();
    amx::zero<2>();
    amx::zero<3>();
    const Index part_a = (second_row ? 2 : 1) * tile_size, part_b = 2 * tile_size;
    for (Index s = 0; s < count; ++s, a += P * part_a, b += P * part_b) {
      load_b(b, second_col);
      for (int q = P - 1; q >= 0; --q) {
        load_a(a + q * part_a, second_row);
        dots(second_row, second_col);
      }
      load_b(b + part_b, second_col);
      dots(second_row, second_col);
      if constexpr (P == 3) {
        load_a(a + part_a, second_row);
        dots(second_row, second_col);
        load_a(a, second_row);
        load_b(b + 2 * part_b, second_col);
        dots(second_row, second_col);
      }
    }
    auto* to = reinterpret_cast<std::byte*>(sums);
    amx::store<0>(to, row_bytes);
    if (second_col) amx::store<1>(to + 4 * tile_words, row_bytes);
    if (second_row) amx::store<2>(to + tile_rows * row_bytes, row_bytes);
    if (second_row && second_col) amx::store<3>(to + tile_rows * row_bytes + 4 * tile_words, row_bytes);
  }
  static TESSERA_INLINE void load_a(const std::uint32_t* a, bool second) {
    amx::load<4>(a, 4 * tile_words);
    if (second) amx::load<5>(a + tile_size, 4 * tile_words);
  }
  static TESSERA_INLINE void load_b(const std::uint32_t* b, bool second) {
    amx::load<6>(b, 4 * nr);
    if (second) amx::load<7>(b + tile_words, 4 * nr);
  }
  static TESSERA_INLINE void dots(bool second_row, bool second_col) {
    amx::dot_bf16<0, 4, 6>();
    if (second_col) amx::dot_bf16<1, 4, 7>();
    if (second_row) amx::dot_bf16<2, 5, 6>();
    if (second_row && second_col) amx::dot_bf16<3, 5, 7>();
  }
};

template <class T>
using Ops2 = Ops<2>;
template <class T>
using Ops3 = Ops<3>;

}  // namespace detail::gemm_split_amx
TESSERA_TARGET_END

struct GemmAmxBf16x3 : detail::SplitGemm<2, detail::AmxGemm<detail::gemm_split_amx::Ops2>> {
  static constexpr std::string_view name = "gemm:amx_bf16x3";
  static constexpr Isa isa = Isa::amx_bf16;
};
struct GemmAmxBf16x6 : detail::SplitGemm<3, detail::AmxGemm<detail::gemm_split_amx::Ops3>> {
  static constexpr std::string_view name = "gemm:amx_bf16x6";
  static constexpr Isa isa = Isa::amx_bf16;
};

}  // namespace tessera::inline TESSERA_ABI
#endif
