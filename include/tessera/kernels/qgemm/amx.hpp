/// Codes times int8 activations on AMX, for the tiles of 16 columns of a prefill: 16 rows of weights are the columns of
/// one tile, four codes of each a word, and 16 columns of activations the rows of another. The integers are those of
/// the other kernels, so the results are the same bits. They were checked instruction by instruction under emulation;
/// the speed has not been measured on hardware yet.
#pragma once

#include <cstdint>
#include <string_view>

#include <tessera/kernels/qgemm/avx512_vnni.hpp>
#include <tessera/simd/amx.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512_VNNI)

namespace detail {

/// A sum has 32 values, eight words of four, or two halves of 16: that is what a scale is for, and half or a quarter of
/// what a tile could hold. Tiles 0 to 3 are sums, 4 and 5 activations, 6 and 7 codes.
struct DotAmx : avx512_vnni_lane::DotVnni<OpsAvx512Vnni> {
  static constexpr bool at_once = true;

  static constexpr amx::TileConfig config(int halves) {
    amx::TileConfig tiles;
    for (int sum = 0; sum < 4; ++sum) tiles.set(sum, 16, 64);
    for (int t = 4; t < 6; ++t) tiles.set(t, 16, 32 / halves);
    for (int t = 6; t < 8; ++t) tiles.set(t, 8 / halves, 64);
    return tiles;
  }

  template <class F, int R, int Planes, Index H>
  TESSERA_INLINE static void multiply(const Int (&code)[R][Planes][8], const std::int8_t* x, std::int32_t* out) {
    alignas(64) std::uint8_t words[R][8][64];
    amx::load<4>(x, block_values);
    if constexpr (H == 2) amx::load<5>(x + block_values / 2, block_values);
#pragma GCC unroll 2
    for (int plane = 0; plane < Planes; ++plane, out += R * H * tile_values) {
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < 8; ++v) _mm512_store_si512(words[r][v], code[r][plane][v]);
      half<0, 4, R>(words[0][0], out, H);
      if constexpr (H == 2) half<2, 5, R>(words[0][4], out + tile_values, H);
    }
  }
  template <int R, Index H>
  TESSERA_INLINE static void column(const std::int32_t* products, int plane, Index c, const Int (&start)[H],
                                    Int (&sum)[R][H]) {
#pragma GCC unroll 2
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
      for (Index h = 0; h < H; ++h)
        sum[r][h] = add(start[h], load(products + ((plane * R + r) * H + h) * tile_values + c * panel_rows));
  }

 private:
  template <int Sum, int X, int R>
  TESSERA_INLINE static void half(const std::uint8_t* words, std::int32_t* out, Index halves) {
    constexpr Index line = 64;
    amx::zero<Sum>();
    amx::load<6>(words, line);
    amx::dot_i8<true, false, Sum, X, 6>();
    if constexpr (R == 2) {
      amx::zero<Sum + 1>();
      amx::load<7>(words + 8 * line, line);
      amx::dot_i8<true, false, Sum + 1, X, 7>();
      amx::store<Sum + 1>(out + halves * tile_values, line);
    }
    amx::store<Sum>(out, line);
  }
};

/// Two panels by 16 columns on AMX, what is left by VPDPBUSD.
struct QgemmTilesAmx {
  template <class F>
  static void tile(const QgemmTile& t) noexcept {
    if (t.panels == panel_pair && t.width == activation_tile)
      avx512_vnni_lane::QgemmColumns<DotAmx>::template tile<F>(t);
    else
      avx512_vnni_lane::QgemmColumns<avx512_vnni_lane::DotVnni<OpsAvx512Vnni>>::template tile<F>(t);
  }
};

}  // namespace detail

template <class F>
struct QgemmAmx {
  static constexpr std::string_view name = "qgemm:amx_int8";
  static constexpr Isa isa = Isa::amx_int8;
  static const char* reject(const QgemmArgs& a) {
    if (!active_isa().has(Isa::avx512_vnni)) return "needs avx512_vnni for what is left of tiles";
    if (a.x.cols < activation_tile) return "fewer than 16 columns do not fill a tile";
    return nullptr;
  }
  static std::size_t scratch(const QgemmArgs& a) { return detail::qgemm_scratch<F>(a); }
  static void run(const QgemmArgs& a, RowRange rows) noexcept {
    static constexpr amx::TileConfig config = detail::DotAmx::config(PanelLayout<F>::sums);
    const amx::Tiles tiles(config);
    detail::qgemm_rows<F, detail::QgemmTilesAmx>(a, rows);
  }
};

TESSERA_TARGET_END

}  // namespace tessera::inline TESSERA_ABI
#endif
