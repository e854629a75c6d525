/// f32 factors as sums of bf16 ones, VDPBF16PS. Three products take 1.5 times as long as an FMA in f32 where the
/// instruction has twice its rate, six take three times as long: for machines where it is faster than that, and as a
/// check of the AMX kernels on processors without AMX.
#pragma once

#include <array>
#include <cstdint>
#include <utility>

#include <tessera/kernels/gemm/split.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace detail::gemm_split_avx512 {

/// A panel of A: [pair][lane][part].
template <int P>
struct LayoutA {
  static TESSERA_INLINE Index at(Index i, Index lane, int part, Index width) { return (i * width + lane) * P + part; }
  static TESSERA_INLINE void store(std::uint32_t* out, Index i, Index lane, int part, Index width, __mmask16 mask,
                                   __m512i words) {
    const __m512i steps = _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                                             _mm512_set1_epi32(P));
    _mm512_mask_i32scatter_epi32(out + at(i, lane, part, width), mask, steps, words, 4);
  }
};
/// A panel of B: [pair][vector][part][16].
template <int P>
struct LayoutB {
  static TESSERA_INLINE Index at(Index i, Index lane, int part, Index width) {
    return (i * width + lane / 16 * 16) * P + part * 16 + lane % 16;
  }
  static TESSERA_INLINE void store(std::uint32_t* out, Index i, Index lane, int part, Index width, __mmask16,
                                   __m512i words) {
    _mm512_storeu_si512(out + at(i, lane, part, width), words);
  }
};

}  // namespace detail::gemm_split_avx512
TESSERA_TARGET_END

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512_BF16)
namespace detail::gemm_split_avx512 {

using dense_avx512::Vec;
#include <tessera/kernels/gemm/tile.inl>

TESSERA_INLINE __m512 dot(__m512i a, __m512i b, __m512 c) {
  return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);  // NOLINT: the type differs between compilers
}

/// Products of parts, small ones first.
template <int P>
struct Parts : dense_avx512::Vec<float> {
  struct In {
    std::uint32_t part[P];
  };
  struct Line {
    __m512i part[P];
  };
  using dense_avx512::Vec<float>::load;
  static TESSERA_INLINE Line load(const In* p) {
    Line line;
    for (int q = 0; q < P; ++q) line.part[q] = _mm512_loadu_si512(p->part + 16 * q);
    return line;
  }
  static TESSERA_INLINE Line all(const In& x) {
    Line line;
    for (int q = 0; q < P; ++q) line.part[q] = _mm512_set1_epi32(static_cast<int>(x.part[q]));
    return line;
  }
  static TESSERA_INLINE Reg factor(float x) { return _mm512_set1_ps(x); }
  static TESSERA_INLINE Reg fma(const Line& a, const Line& b, Reg c) {
    if constexpr (P == 3) {
      c = dot(a.part[2], b.part[0], c);
      c = dot(a.part[1], b.part[1], c);
      c = dot(a.part[0], b.part[2], c);
    }
    c = dot(a.part[1], b.part[0], c);
    c = dot(a.part[0], b.part[1], c);
    return dot(a.part[0], b.part[0], c);
  }
};

template <int P>
struct Ops {
  using V = Parts<P>;
  using PackedA = std::uint32_t;
  using PackedB = std::uint32_t;
  static constexpr Index mr = P == 2 ? 12 : 10, nr = 32;  // sums, lines and factors fill the registers
  static constexpr GemmTiling tiling{mr, nr, 20 * mr, 512, 2048};
  static constexpr Index k_unit = 2;
  static constexpr Index row_unit = mr;  // what is split does not depend on the rows of a piece
  static Index packed_k(Index k) { return (k + 1) / 2 * P + 1; }

  template <class Args>
  static bool in_place_a(const Args&) noexcept {
    return false;
  }
  template <class Args>
  static bool in_place_b(const Args&) noexcept {
    return false;
  }
  template <class Args>
  static void pack_a(const Args&, const float* src, Index lane_stride, Index k_stride, Index lanes, Index k,
                     std::uint32_t* out) noexcept {
    gemm_split::pack_lanes<P, LayoutA<P>>(src, lane_stride, k_stride, lanes, lanes, k, out);
  }
  template <class Args>
  static void pack_b(const Args&, const float* src, Index lane_stride, Index k_stride, Index lanes, Index k,
                     std::uint32_t* out) noexcept {
    gemm_split::pack_lanes<P, LayoutB<P>>(src, lane_stride, k_stride, lanes, nr, k, out);
  }
  template <class Args>
  static void tile(const Args& args, Index rows, Index cols, Index k, TileA<std::uint32_t> a, const std::uint32_t* b,
                   Index, float beta, float* c, Index ldc) noexcept {
    if (!gemm_split::suit(a.data[0], b[0], k))
      return gemm_split::multiply_unsplit<P, LayoutA<P>, LayoutB<P>>(args, rows, cols, k, a.data, rows, b, nr, beta, c,
                                                                     ldc);
    using Numbers = std::make_integer_sequence<Index, mr>;
    using In = typename V::In;
    static constexpr std::array<TileFunction<V>, mr> tiles[2] = {tiles_of<V, 1, false>(Numbers()),
                                                                 tiles_of<V, 2, false>(Numbers())};
    tiles[cols > 16][static_cast<std::size_t>(rows - 1)]((k + 1) / 2, reinterpret_cast<const In*>(a.data + rows), rows,
                                                         reinterpret_cast<const In*>(b + nr), nr, args.alpha, beta, c,
                                                         ldc, cols);
  }
};

template <class T>
using Ops2 = Ops<2>;
template <class T>
using Ops3 = Ops<3>;

}  // namespace detail::gemm_split_avx512
TESSERA_TARGET_END

struct GemmAvx512Bf16x3 : detail::SplitGemm<2, detail::PackedGemm<detail::gemm_split_avx512::Ops2>> {
  static constexpr std::string_view name = "gemm:avx512_bf16x3";
  static constexpr Isa isa = Isa::avx512_bf16;
};
struct GemmAvx512Bf16x6 : detail::SplitGemm<3, detail::PackedGemm<detail::gemm_split_avx512::Ops3>> {
  static constexpr std::string_view name = "gemm:avx512_bf16x6";
  static constexpr Isa isa = Isa::avx512_bf16;
};

}  // namespace tessera::inline TESSERA_ABI
#endif
