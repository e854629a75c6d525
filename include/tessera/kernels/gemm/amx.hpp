/// bf16 and int8 factors on AMX: 2 x 2 tiles of C, 32 rows by 32 columns, from two tiles of A and two of B.
/// The results were checked instruction by instruction under emulation (tests/support/amx_emulator.hpp); the speed has
/// not been measured on hardware yet, and the cache blocks are chosen from the sizes of its caches alone.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <type_traits>
#include <utility>

#include <tessera/core/types.hpp>
#include <tessera/kernels/gemm/amx_store.hpp>
#include <tessera/kernels/gemm/blocked.hpp>
#include <tessera/kernels/gemm/vec_avx512.hpp>
#include <tessera/simd/amx.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

// AMX itself is inline assembly; the rest is AVX-512, which every processor with AMX has.
TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace detail::gemm_amx {

using dense_avx512::Vec;
#include <tessera/kernels/gemm/tile.inl>

#include <tessera/kernels/gemm/words.inl>

inline constexpr Index tile_rows = 16, tile_words = 16, step_words = 2 * tile_rows * tile_words;

/// What the tiles of 32-bit words of neighbours of type E share. A panel of A is [step][tile rows, whole tiles][16
/// words], a panel of B [16 words of a step][32 columns]; behind k both are zero.
struct Words {
  using PackedA = std::uint32_t;
  using PackedB = std::uint32_t;
  static constexpr Index mr = 2 * tile_rows, nr = 2 * tile_words;
  static_assert(nr == block_line);
  static constexpr Index row_unit = tile_rows;  // rows are dealt in whole tiles

  static Index whole(Index rows) { return (rows + tile_rows - 1) / tile_rows * tile_rows; }
  template <class E>
  static Index steps(Index k) {
    constexpr Index each = tile_words * PackWords<E>::per;
    return (k + each - 1) / each;
  }
  template <class Args>
  static bool in_place_a(const Args&) noexcept {
    return false;
  }
  template <class Args>
  static bool in_place_b(const Args&) noexcept {
    return false;
  }

  template <class E>
  static void pack_a(const E* src, Index lane_stride, Index k_stride, Index lanes, Index k,
                     std::uint32_t* out) noexcept {
    constexpr Index each = tile_words * PackWords<E>::per;  // entries of a row of a tile
    for (Index p = 0; p < k; p += each)
      for (Index l = 0; l < lanes; l += tile_rows, out += tile_rows * tile_words) {
        const Index rows = std::min(tile_rows, lanes - l), n = std::min(each, k - p);
        const E* from = src + l * lane_stride + p * k_stride;
        if (k_stride == 1) {
          const auto bytes = static_cast<unsigned>(n) * static_cast<unsigned>(sizeof(E));
          const auto mask = static_cast<__mmask64>(~std::uint64_t{0} >> (64u - bytes));
          for (Index r = 0; r < rows; ++r)
            _mm512_store_si512(out + r * tile_words, _mm512_maskz_loadu_epi8(mask, from + r * lane_stride));
        } else {
          alignas(64) std::uint32_t turned[(tile_words + 1) * tile_rows];
          PackWords<E>::run(from, lane_stride, k_stride, rows, tile_rows, n, E(), turned);
          const Index words = (n + PackWords<E>::per - 1) / PackWords<E>::per;
          for (Index w = words; w < tile_words; ++w) _mm512_store_si512(turned + w * tile_rows, _mm512_setzero_si512());
          const float* line[tile_words];
          for (Index w = 0; w < tile_words; ++w) line[w] = reinterpret_cast<const float*>(turned) + w * tile_rows;
          for (Index r = 0; r < tile_rows; r += 4)
            Vec<float>::transpose(line, r, reinterpret_cast<float*>(out) + r * tile_words, tile_words);
        }
        for (Index r = rows; r < tile_rows; ++r) _mm512_store_si512(out + r * tile_words, _mm512_setzero_si512());
      }
  }

  template <class E>
  static void pack_b(const E* src, Index lane_stride, Index k_stride, Index lanes, Index k,
                     std::uint32_t* out) noexcept {
    const Index words = (k + PackWords<E>::per - 1) / PackWords<E>::per, all = steps<E>(k) * tile_words;
    PackWords<E>::run(src, lane_stride, k_stride, lanes, nr, k, E(), out);
    for (Index i = words * nr; i < all * nr; i += tile_words) _mm512_storeu_si512(out + i, _mm512_setzero_si512());
  }

  /// The four tiles of C, or those of them that are wanted, to `sums` (rows of 32), `words` words a row of C.
  template <class Dot>
  static void multiply(bool second_row, bool second_col, Index steps, const std::uint32_t* a, const std::uint32_t* b,
                       void* sums, Index row_bytes) noexcept {
    constexpr Index line = tile_words * 4, wide = nr * 4;
    const Index a_step = (second_row ? 2 : 1) * tile_rows * tile_words;
    amx::zero<0>();
    amx::zero<1>();
    amx::zero<2>();
    amx::zero<3>();
    for (Index s = 0; s < steps; ++s, a += a_step, b += step_words) {
      amx::load<4>(a, line);
      amx::load<6>(b, wide);
      Dot::template run<0, 4, 6>();
      if (second_col) {
        amx::load<7>(b + tile_words, wide);
        Dot::template run<1, 4, 7>();
      }
      if (second_row) {
        amx::load<5>(a + tile_rows * tile_words, line);
        Dot::template run<2, 5, 6>();
        if (second_col) Dot::template run<3, 5, 7>();
      }
    }
    auto* to = static_cast<std::byte*>(sums);
    amx::store<0>(to, row_bytes);
    if (second_col) amx::store<1>(to + line, row_bytes);
    if (second_row) {
      amx::store<2>(to + tile_rows * row_bytes, row_bytes);
      if (second_col) amx::store<3>(to + tile_rows * row_bytes + line, row_bytes);
    }
  }
};

struct DotHalves {
  template <int C, int A, int B>
  static TESSERA_INLINE void run() {
    amx::dot_bf16<C, A, B>();
  }
};
template <bool SignedA, bool SignedB>
struct DotBytes {
  template <int C, int A, int B>
  static TESSERA_INLINE void run() {
    amx::dot_i8<SignedA, SignedB, C, A, B>();
  }
};

template <class T>
struct HalfOps : Words {
  // A panel of B, 32 KiB, stays in the first-level cache; a block of A, 384 KiB, in the second.
  static constexpr GemmTiling tiling{mr, nr, 384, 512, 2048};
  static constexpr Index k_unit = 32;
  static Index packed_k(Index k) { return steps<bf16>(k) * tile_words; }

  template <class Args>
  static void pack_a(const Args&, const bf16* src, Index lane_stride, Index k_stride, Index lanes, Index k,
                     std::uint32_t* out) noexcept {
    Words::pack_a(src, lane_stride, k_stride, lanes, k, out);
  }
  template <class Args>
  static void pack_b(const Args&, const bf16* src, Index lane_stride, Index k_stride, Index lanes, Index k,
                     std::uint32_t* out) noexcept {
    Words::pack_b(src, lane_stride, k_stride, lanes, k, out);
  }
  template <class Args>
  static void tile(const Args& args, Index rows, Index cols, Index k, TileA<std::uint32_t> a, const std::uint32_t* b,
                   Index, float beta, float* c, Index ldc) noexcept {
    const bool second_row = rows > tile_rows, second_col = cols > tile_words;
    if (args.alpha == 1 && beta == 0 && rows == whole(rows) && cols % tile_words == 0)
      return multiply<DotHalves>(second_row, second_col, steps<bf16>(k), a.data, b, c, ldc * 4);
    alignas(64) float sums[mr * nr];
    multiply<DotHalves>(second_row, second_col, steps<bf16>(k), a.data, b, sums, nr * 4);
    store_block(rows, cols, sums, args.alpha, beta, c, ldc);
  }
};

/// (a - za)(b - zb) summed is ab - zb * Σa - za * Σb + k za zb. A panel begins with the sums of its lines.
template <class T>
struct ByteOps : Words {
  static constexpr GemmTiling tiling{mr, nr, 384, 1024, 2048};
  static constexpr Index k_unit = 64;
  static Index packed_k(Index k) { return steps<std::int8_t>(k) * tile_words + 1; }

  template <class Args, class E>
  static void pack_a(const Args& args, const E* src, Index lane_stride, Index k_stride, Index lanes, Index k,
                     std::uint32_t* out) noexcept {
    const Index padded = whole(lanes), n = steps<E>(k);
    Words::pack_a(src, lane_stride, k_stride, lanes, k, out + padded);
    if (args.zero_b == 0) return;
    for (Index r = 0; r < lanes; ++r) {
      __m512i sum = _mm512_setzero_si512();
      for (Index s = 0; s < n; ++s)
        sum = _mm512_add_epi32(sum, sums_of_fours<E>(out + padded + (s * padded + r) * tile_words));
      out[r] = static_cast<std::uint32_t>(_mm512_reduce_add_epi32(sum));
    }
  }
  template <class Args, class E>
  static void pack_b(const Args&, const E* src, Index lane_stride, Index k_stride, Index lanes, Index k,
                     std::uint32_t* out) noexcept {
    Words::pack_b(src, lane_stride, k_stride, lanes, k, out + nr);
    for (Index l = 0; l < nr; l += tile_words) {
      __m512i sum = _mm512_setzero_si512();
      for (Index w = 1; w <= (k + 3) / 4; ++w) sum = _mm512_add_epi32(sum, sums_of_fours<E>(out + w * nr + l));
      _mm512_storeu_si512(out + l, sum);
    }
  }
  template <class Args>
  static void tile(const Args& args, Index rows, Index cols, Index k, TileA<std::uint32_t> a, const std::uint32_t* b,
                   Index, std::int32_t beta, std::int32_t* c, Index ldc) noexcept {
    using TA = typename decltype(args.A)::value_type;
    using TB = typename decltype(args.B)::value_type;
    using Dot = DotBytes<std::is_signed_v<TA>, std::is_signed_v<TB>>;
    const bool second_row = rows > tile_rows, second_col = cols > tile_words;
    const Index n = steps<std::int8_t>(k);
    const std::uint32_t *sums_a = a.data, *sums_b = b, *first_a = a.data + whole(rows), *first_b = b + nr;
    const auto alpha = static_cast<std::uint32_t>(args.alpha);
    const auto za = static_cast<std::uint32_t>(args.zero_a), zb = static_cast<std::uint32_t>(args.zero_b);
    if (alpha == 1 && beta == 0 && za == 0 && zb == 0 && rows == whole(rows) && cols % tile_words == 0)
      return multiply<Dot>(second_row, second_col, n, first_a, first_b, c, ldc * 4);
    alignas(64) std::int32_t sums[mr * nr];
    alignas(64) std::uint32_t across[nr];
    multiply<Dot>(second_row, second_col, n, first_a, first_b, sums, nr * 4);
    for (Index j = 0; j < nr; ++j) across[j] = za * (static_cast<std::uint32_t>(k) * zb - sums_b[j]);
    const __m512i alphas = _mm512_set1_epi32(args.alpha), betas = _mm512_set1_epi32(beta);
    for (Index i = 0; i < rows; ++i) {
      const __m512i down = _mm512_set1_epi32(zb == 0 ? 0 : static_cast<std::int32_t>(0u - zb * sums_a[i]));
      for (Index j = 0; j < cols; j += tile_words) {
        const auto mask = Vec<float>::first(cols - j);
        const __m512i fixed = _mm512_add_epi32(down, _mm512_load_si512(across + j));
        __m512i sum = _mm512_mullo_epi32(alphas, _mm512_add_epi32(fixed, _mm512_load_si512(sums + i * nr + j)));
        std::int32_t* to = c + i * ldc + j;
        if (beta != 0) sum = _mm512_add_epi32(sum, _mm512_mullo_epi32(betas, _mm512_maskz_loadu_epi32(mask, to)));
        _mm512_mask_storeu_epi32(to, mask, sum);
      }
    }
  }

 private:
  /// Of 16 words of four bytes each.
  template <class E>
  static TESSERA_INLINE __m512i sums_of_fours(const std::uint32_t* words) {
    const __m512i bytes = _mm512_loadu_si512(words), ones = _mm512_set1_epi8(1);
    const __m512i pairs = std::is_signed_v<E> ? _mm512_maddubs_epi16(ones, bytes) : _mm512_maddubs_epi16(bytes, ones);
    return _mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
  }
};

}  // namespace detail::gemm_amx
TESSERA_TARGET_END

namespace detail {

/// A packed gemm with its thread's tiles configured as long as it runs.
template <template <class> class Ops>
struct AmxGemm : PackedGemm<Ops> {
  template <class TA, class TB, class T>
  static void run(const GemmArgs<TA, TB, T>& args, RowRange rows) noexcept {
    static constexpr amx::TileConfig full = amx::TileConfig::full();
    const amx::Tiles tiles(full);
    PackedGemm<Ops>::run(args, rows);
  }
};

}  // namespace detail

/// TDPBF16PS: sums of 16 pairs each from zero, added to f32. The instruction takes subnormal bf16 for zero.
struct GemmAmxBf16 : detail::AmxGemm<detail::gemm_amx::HalfOps> {
  static constexpr std::string_view name = "gemm:amx_bf16";
  static constexpr Isa isa = Isa::amx_bf16;
};

/// TDPBSSD and its three siblings; exact.
struct GemmAmxInt8 : detail::AmxGemm<detail::gemm_amx::ByteOps> {
  static constexpr std::string_view name = "gemm:amx_int8";
  static constexpr Isa isa = Isa::amx_int8;
};

}  // namespace tessera::inline TESSERA_ABI
#endif
