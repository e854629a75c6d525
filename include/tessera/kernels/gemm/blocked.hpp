/// The loops around a register tile, shared by every kernel that packs.
/// K. Goto, R. van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (ACM TOMS 2008); F. Van Zee, R. van de
/// Geijn, "BLIS" (ACM TOMS 2015).
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include <tessera/kernels/gemm/args.hpp>
#include <tessera/simd/cache.hpp>

namespace tessera::inline TESSERA_ABI {

/// A register tile is mr x nr. A block of A, mc x kc, stays in the second-level cache while panels of B, kc x nr, pass
/// through the first; kc x nc of B are packed at a time. mc is a multiple of mr, nc of nr.
struct GemmTiling {
  Index mr, nr, mc, kc, nc;
};

namespace detail {

/// Rows of A as a tile reads them: entry k of row i at data[i * row + k * step]. Packed: row 1, step the tile's rows.
template <class T>
struct TileA {
  const T* data;
  Index row, step;
};

/// Kernel-independent part of a packed gemm. `Ops` brings
///   tiling                            a GemmTiling
///   PackedA, PackedB                  element types of the packed panels
///   k_unit                            entries of a sum that one instruction takes; K is cut at its multiples
///   packed_k(k)                       packed elements of a row or column of k entries
///   pack_a(args, src, lane_stride, k_stride, lanes, k, out)    lanes <= mr rows of A as groups of `lanes`
///   pack_b(args, src, lane_stride, k_stride, lanes, k, out)    lanes <= nr columns of B as groups of nr, padding
///   arbitrary in_place_a(args), in_place_b(args)                   whether tiles shall read A or B (its full panels)
///   unpacked tile(args, rows, cols, k, TileA, b, ldb, beta, c, ldc)   C tile with unit column stride; beta == 0 never
///   reads it
/// row_unit, if it is there: the rows of all tiles but a block's last are a multiple of it; mr is one.
/// near_b, if it is there: tiles of the same rows follow one another over the panels of B that fit these bytes of the
/// first-level cache; else over one panel.
/// tiles, if it is there: what `tile` would call, by whether A is in rows, the vectors of columns and the rows.
/// pack_a may write up to one cache line beyond its panel. A product's rounding depends on the cuts of K alone, so rows
/// and columns can be split at will.
template <class Ops, class TA, class TB, class T>
struct BlockedGemm {
  using Args = GemmArgs<TA, TB, T>;
  using PackedA = typename Ops::PackedA;
  using PackedB = typename Ops::PackedB;
  static constexpr GemmTiling tiling = Ops::tiling;
  static constexpr Index row_unit = [] {
    if constexpr (requires { Ops::row_unit; }) return Ops::row_unit;
    return Index{1};
  }();
  static constexpr Index near_b = [] {
    if constexpr (requires { Ops::near_b; }) return Ops::near_b;
    return Index{0};
  }();

  static constexpr Index round_up(Index n, Index unit) { return (n + unit - 1) / unit * unit; }

  /// Rows of a block of A: it fills about half of the second-level cache.
  static Index most_rows(const GemmBlocks& b) {
    if (b.mc > 0) return round_up(b.mc, tiling.mr);
    const Index line = packed_k(b.kc > 0 ? b.kc : tiling.kc) * static_cast<Index>(sizeof(PackedA));
    const Index fit = cache_sizes().l2 * 9 / 16 / line / tiling.mr * tiling.mr;
    return std::clamp(fit, 4 * tiling.mr, tiling.mc);
  }

  /// K in equal parts of at most kc.
  static Index k_block(Index k, const GemmBlocks& b = {}) {
    constexpr Index unit = std::max<Index>(Ops::k_unit, 4);
    const Index most = b.kc > 0 ? round_up(b.kc, unit) : tiling.kc, parts = (k + most - 1) / most;
    return std::min(k, round_up((k + parts - 1) / parts, unit));
  }
  static Index n_block(Index n, const GemmBlocks& b = {}) {
    const Index most = b.nc > 0 ? round_up(b.nc, tiling.nr) : tiling.nc, parts = (n + most - 1) / most;
    return round_up((n + parts - 1) / parts, tiling.nr);
  }
  static Index m_block(Index m, const GemmBlocks& b = {}) {
    const Index most = most_rows(b), parts = (m + most - 1) / most;
    return round_up((m + parts - 1) / parts, tiling.mr);
  }
  static Index packed_k(Index k) { return Ops::packed_k(k); }

  /// A factor packed whole was packed in the kernel's own blocks.
  static GemmBlocks blocks(const Args& args) { return args.packed_whole != nullptr ? GemmBlocks() : args.blocks; }

  static Index bytes_a(const Args& args) {
    const Index elements =
        std::min(round_up(args.m(), tiling.mr), most_rows(blocks(args))) * packed_k(k_block(args.k(), blocks(args)));
    return round_up(elements * static_cast<Index>(sizeof(PackedA)), 64) + 64;
  }
  /// Bytes of one packed block of B.
  static Index bytes_b(const Args& args) {
    const Index elements = n_block(args.n(), blocks(args)) * packed_k(k_block(args.k(), blocks(args)));
    return round_up(elements * static_cast<Index>(sizeof(PackedB)), 64);
  }
  static std::size_t scratch(const Args& args) {
    const bool packed = args.packed_b != nullptr || args.packed_whole != nullptr;
    return static_cast<std::size_t>(bytes_a(args) + (packed ? 0 : bytes_b(args)));
  }

  /// All of B (K,N) packed, in the kernel's own blocks: its blocks one after another, those of the first columns first.
  static Index whole_elements(Index n, Index k) { return whole_offset(n, k, n, 0); }
  /// Elements before the block of columns from jc and entries from pc.
  static Index whole_offset(Index n, Index k, Index jc, Index pc) {
    const Index kb = k_block(k), cols = std::min(n_block(n), round_up(n - jc, tiling.nr)), full = k / kb;
    const Index line = full * packed_k(kb) + (k % kb == 0 ? 0 : packed_k(k % kb));
    return round_up(jc, tiling.nr) * line + cols * (pc / kb) * packed_k(kb);
  }
  static void pack_whole(const Args& args, PackedB* out) noexcept {
    const Index nb = n_block(args.n()), kb = k_block(args.k());
    for (Index jc = 0; jc < args.n(); jc += nb)
      for (Index pc = 0; pc < args.k(); pc += kb)
        pack_panels(args, pc, std::min(kb, args.k() - pc), jc, 0,
                    (std::min(nb, args.n() - jc) + tiling.nr - 1) / tiling.nr,
                    out + whole_offset(args.n(), args.k(), jc, pc));
  }

  /// Packs panels [first, last) of the columns from jc and the entries [pc, pc + k) of B.
  static void pack_panels(const Args& args, Index pc, Index k, Index jc, Index first, Index last,
                          PackedB* out) noexcept {
    const Index rs = args.B.row_stride(), cs = args.B.col_stride();
    for (Index p = first; p < last; ++p) {
      const Index j = jc + p * tiling.nr;
      Ops::pack_b(args, args.B.data() + pc * rs + j * cs, cs, rs, std::min(tiling.nr, args.n() - j), k,
                  out + p * tiling.nr * packed_k(k));
    }
  }

  static void run(const Args& args, RowRange rows) noexcept {
    auto* block_a = reinterpret_cast<PackedA*>(args.scratch_of(rows.worker));
    const bool packed = args.packed_b != nullptr || args.packed_whole != nullptr;
    auto* block_b = packed ? nullptr : reinterpret_cast<PackedB*>(args.scratch_of(rows.worker) + bytes_a(args));
    const Index kb = k_block(args.k(), blocks(args)), nb = n_block(args.n(), blocks(args));
    const Index mb = m_block(rows.end - rows.begin, blocks(args));
    for (Index jc = 0; jc < args.n(); jc += nb) {
      const Index n = std::min(nb, args.n() - jc);
      for (Index pc = 0; pc < args.k(); pc += kb) {
        const Index k = std::min(kb, args.k() - pc);
        const PackedB* b = reinterpret_cast<const PackedB*>(args.packed_b);
        if (args.packed_whole != nullptr) {
          b = reinterpret_cast<const PackedB*>(args.packed_whole) + whole_offset(args.n(), args.k(), jc, pc);
        } else if (b == nullptr) {
          // A block read in place still has its last, partial panel packed: tiles load whole vectors.
          const Index panels = (n + tiling.nr - 1) / tiling.nr;
          pack_panels(args, pc, k, jc, in_place_b(args) ? n / tiling.nr : 0, panels, block_b);
          b = block_b;
        }
        const T beta = pc == 0 ? args.beta : T(1);
        for (Index ic = rows.begin; ic < rows.end; ic += mb)
          multiply_block(args, ic, std::min(mb, rows.end - ic), pc, k, jc, n, block_a, b, beta);
      }
    }
  }

 private:
  static bool in_place_a(const Args& args) {
    if constexpr (std::is_same_v<TA, PackedA>) return Ops::in_place_a(args);
    return false;
  }
  static bool in_place_b(const Args& args) {
    if constexpr (std::is_same_v<TB, PackedB>)
      return args.packed_b == nullptr && args.packed_whole == nullptr && Ops::in_place_b(args);
    return false;
  }

  /// Rows [ic, ic + m) and columns [jc, jc + n) of C from entries [pc, pc + k) of the sum.
  static void multiply_block(const Args& args, Index ic, Index m, Index pc, Index k, Index jc, Index n,
                             PackedA* block_a, const PackedB* block_b, T beta) noexcept {
    // Rows are dealt to tiles evenly: 64 rows make 13+13+13+13+12, not 14+14+14+14+8.
    const Index tiles = (m + tiling.mr - 1) / tiling.mr, units = (m + row_unit - 1) / row_unit;
    const Index each = units / tiles, more = units % tiles;
    const Index rs = args.A.row_stride(), cs = args.A.col_stride(), kp = packed_k(k);
    const TA* first_a = args.A.data() + ic * rs + pc * cs;
    const bool whole_a = in_place_a(args), whole_b = in_place_b(args);
    if (!whole_a)
      for (Index t = 0, i = 0; t < tiles; ++t) {
        const Index r = std::min((each + (t < more ? 1 : 0)) * row_unit, m - i);
        Ops::pack_a(args, first_a + i * rs, rs, cs, r, k, block_a + i * kp);
        i += r;
      }
    const Index crs = args.C.row_stride(), ccs = args.C.col_stride();
    const Index panel = tiling.nr * kp * static_cast<Index>(sizeof(PackedB));
    const Index together = std::max<Index>(1, near_b / panel) * tiling.nr;
    for (Index first = 0; first < n; first += together) {
      const Index last = std::min(n, first + together);
      for (Index t = 0, i = 0; t < tiles; ++t) {
        const Index r = std::min((each + (t < more ? 1 : 0)) * row_unit, m - i);
        TileA<PackedA> a{block_a + i * kp, 1, r};
        if constexpr (std::is_same_v<TA, PackedA>)
          if (whole_a) a = {first_a + i * rs, rs, cs};
        for (Index j = first; j < last; j += tiling.nr) {
          const Index cols = std::min(tiling.nr, n - j);
          const PackedB* b = block_b + j * kp;
          Index ldb = tiling.nr;
          if constexpr (std::is_same_v<TB, PackedB>)
            if (whole_b && cols == tiling.nr) {
              ldb = args.B.row_stride();
              b = args.B.data() + pc * ldb + jc + j;
            }
          T* c = args.C.data() + (ic + i) * crs + (jc + j) * ccs;
          if (args.triangle != 0 && (ccs != 1 || !args.all_of(ic + i, r, jc + j, cols)))
            part_of_tile(args, ic + i, r, jc + j, cols, k, a, b, ldb, beta);
          else if (ccs == 1)
            whole_tile(args, r, cols, k, a, b, ldb, beta, c, crs);
          else
            scattered_tile(args, r, cols, k, a, b, ldb, beta, c, crs, ccs);
          // Tile by tile: the rows of a whole panel may share few cache sets.
          if (pc + k == args.k()) args.done(ic + i, r, jc + j, cols);
        }
        i += r;
      }
    }
  }

  static void whole_tile(const Args& args, Index rows, Index cols, Index k, TileA<PackedA> a, const PackedB* b,
                         Index ldb, T beta, T* c, Index ldc) noexcept {
    if constexpr (requires { Ops::tiles; }) {
      const bool in_rows = a.row != 1;
      Ops::tiles[in_rows][cols > tiling.nr / 2][static_cast<std::size_t>(rows - 1)](
          k, a.data, in_rows ? a.row : a.step, b, ldb, args.alpha, beta, c, ldc, cols);
    } else {
      Ops::tile(args, rows, cols, k, a, b, ldb, beta, c, ldc);
    }
  }

  /// The wanted entries of a tile, rounded as a whole tile's are.
  static void part_of_tile(const Args& args, Index i, Index rows, Index j, Index cols, Index k, TileA<PackedA> a,
                           const PackedB* b, Index ldb, T beta) noexcept {
    if (!args.any_of(i, rows, j, cols)) return;
    alignas(64) T tile[tiling.mr * tiling.nr];
    if (beta != T(0))
      for (Index r = 0; r < rows; ++r)
        for (Index l = 0; l < cols; ++l)
          tile[r * tiling.nr + l] = args.any_of(i + r, 1, j + l, 1) ? args.C(i + r, j + l) : T(0);
    Ops::tile(args, rows, cols, k, a, b, ldb, beta, tile, tiling.nr);
    for (Index r = 0; r < rows; ++r)
      for (Index l = 0; l < cols; ++l)
        if (args.any_of(i + r, 1, j + l, 1)) args.C(i + r, j + l) = tile[r * tiling.nr + l];
  }

  /// sum + beta * c, of integers modulo 2^32.
  static T sum_plus(T sum, T beta, T c) {
    if constexpr (std::is_integral_v<T>)
      return static_cast<T>(static_cast<std::uint32_t>(sum) +
                            static_cast<std::uint32_t>(beta) * static_cast<std::uint32_t>(c));
    else
      return sum + beta * c;
  }

  static void scattered_tile(const Args& args, Index rows, Index cols, Index k, TileA<PackedA> a, const PackedB* b,
                             Index ldb, T beta, T* c, Index crs, Index ccs) noexcept {
    alignas(64) T tile[tiling.mr * tiling.nr];
    Ops::tile(args, rows, cols, k, a, b, ldb, T(0), tile, tiling.nr);
    for (Index j = 0; j < cols; ++j)
      for (Index i = 0; i < rows; ++i) {
        T& out = c[i * crs + j * ccs];
        const T sum = tile[i * tiling.nr + j];
        out = beta == T(0) ? sum : sum_plus(sum, beta, out);
      }
  }
};

/// The kernel around BlockedGemm; derived ones add their name and ISA.
template <template <class> class Ops>
struct PackedGemm {
  template <class TA, class TB, class T>
  using Blocked = BlockedGemm<Ops<T>, TA, TB, T>;
  static constexpr bool finishes = true;

  template <class TA, class TB, class T>
  static const char* reject(const GemmArgs<TA, TB, T>&) {
    return nullptr;
  }
  template <class TA, class TB, class T>
  static std::size_t scratch(const GemmArgs<TA, TB, T>& args) {
    return Blocked<TA, TB, T>::scratch(args);
  }
  template <class TA, class TB, class T>
  static void run(const GemmArgs<TA, TB, T>& args, RowRange rows) noexcept {
    Blocked<TA, TB, T>::run(args, rows);
  }
};

/// Whether packing A would cost more than it gains: few panels of B pass by, and its lines do not fight for cache sets.
template <class Args>
bool small_enough_for_a_in_place(const Args& args, Index nr) {
  const Index rs = args.A.row_stride(), cs = args.A.col_stride(), size = static_cast<Index>(sizeof(*args.A.data()));
  if (args.n() > 8 * nr || args.packed_b != nullptr || args.packed_whole != nullptr) return false;
  return rs == 1 ? args.k() <= 256 : cs == 1 && rs * size % 2048 != 0;
}
/// The same for B: few tiles of rows use a panel.
template <class Args>
bool small_enough_for_b_in_place(const Args& args, Index mr) {
  return args.B.col_stride() == 1 && args.m() <= 5 * mr;
}

}  // namespace detail
}  // namespace tessera::inline TESSERA_ABI
