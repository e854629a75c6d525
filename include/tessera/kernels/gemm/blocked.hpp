/// The loops around a register tile, shared by every kernel that packs.
/// K. Goto, R. van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (ACM TOMS 2008); F. Van Zee, R. van de
/// Geijn, "BLIS" (ACM TOMS 2015).
#pragma once

#include <algorithm>

#include <tessera/kernels/gemm/args.hpp>

namespace tessera::inline TESSERA_ABI {

/// A register tile is mr x nr. A block of A, mc x kc, stays in the second-level cache while panels of B, kc x nr, pass
/// through the first; kc x nc of B are packed at a time. mc is a multiple of mr, nc of nr.
struct GemmTiling {
  Index mr, nr, mc, kc, nc;
};

namespace detail {

/// Kernel-independent part of a packed gemm. `Ops` brings
///   tiling                            a GemmTiling
///   PackedA, PackedB                  element types of the packed panels
///   k_unit                            panels hold k rounded up to this many entries
///   pack_a(src, lane_stride, k_stride, lanes, k, out)    lanes <= mr rows of A as k groups of `lanes`
///   pack_b(src, lane_stride, k_stride, lanes, k, out)    lanes <= nr columns of B as k groups of nr, padding arbitrary
///   tile(rows, cols, k, a, b, alpha, beta, c, ldc)       C tile with unit column stride; beta == 0 never reads it
/// pack_a may write up to one cache line beyond its panel. A product's rounding depends on the cuts of K alone, so rows
/// and columns can be split at will.
template <class Ops, class TA, class TB, class T>
struct BlockedGemm {
  using Args = GemmArgs<TA, TB, T>;
  using PackedA = typename Ops::PackedA;
  using PackedB = typename Ops::PackedB;
  static constexpr GemmTiling tiling = Ops::tiling;

  static constexpr Index round_up(Index n, Index unit) { return (n + unit - 1) / unit * unit; }

  /// K in equal parts of at most kc.
  static Index k_block(Index k) {
    const Index parts = (k + tiling.kc - 1) / tiling.kc;
    return std::min(k, round_up((k + parts - 1) / parts, std::max<Index>(Ops::k_unit, 4)));
  }
  static Index n_block(Index n) {
    const Index parts = (n + tiling.nc - 1) / tiling.nc;
    return round_up((n + parts - 1) / parts, tiling.nr);
  }
  static Index m_block(Index m) {
    const Index parts = (m + tiling.mc - 1) / tiling.mc;
    return round_up((m + parts - 1) / parts, tiling.mr);
  }
  static Index packed_k(Index k) { return round_up(k, Ops::k_unit); }

  static Index bytes_a(const Args& args) {
    const Index elements = std::min(round_up(args.m(), tiling.mr), tiling.mc) * packed_k(k_block(args.k()));
    return round_up(elements * static_cast<Index>(sizeof(PackedA)), 64) + 64;
  }
  /// Bytes of one packed block of B.
  static Index bytes_b(const Args& args) {
    const Index elements = n_block(args.n()) * packed_k(k_block(args.k()));
    return round_up(elements * static_cast<Index>(sizeof(PackedB)), 64);
  }
  static std::size_t scratch(const Args& args) {
    return static_cast<std::size_t>(bytes_a(args) + (args.packed_b == nullptr ? bytes_b(args) : 0));
  }

  /// Packs panels [first, last) of the columns from jc and the entries [pc, pc + k) of B.
  static void pack_panels(const Args& args, Index pc, Index k, Index jc, Index first, Index last,
                          PackedB* out) noexcept {
    const Index rs = args.B.row_stride(), cs = args.B.col_stride();
    for (Index p = first; p < last; ++p) {
      const Index j = jc + p * tiling.nr;
      Ops::pack_b(args.B.data() + pc * rs + j * cs, cs, rs, std::min(tiling.nr, args.n() - j), k,
                  out + p * tiling.nr * packed_k(k));
    }
  }

  static void run(const Args& args, RowRange rows) noexcept {
    auto* block_a = reinterpret_cast<PackedA*>(args.scratch_of(rows.worker));
    auto* block_b =
        args.packed_b == nullptr ? reinterpret_cast<PackedB*>(args.scratch_of(rows.worker) + bytes_a(args)) : nullptr;
    const Index kb = k_block(args.k()), nb = n_block(args.n()), mb = m_block(rows.end - rows.begin);
    for (Index jc = 0; jc < args.n(); jc += nb) {
      const Index n = std::min(nb, args.n() - jc);
      for (Index pc = 0; pc < args.k(); pc += kb) {
        const Index k = std::min(kb, args.k() - pc);
        const PackedB* b = reinterpret_cast<const PackedB*>(args.packed_b);
        if (b == nullptr) {
          pack_panels(args, pc, k, jc, 0, (n + tiling.nr - 1) / tiling.nr, block_b);
          b = block_b;
        }
        const T beta = pc == 0 ? args.beta : T(1);
        for (Index ic = rows.begin; ic < rows.end; ic += mb)
          multiply_block(args, ic, std::min(mb, rows.end - ic), pc, k, jc, n, block_a, b, beta);
      }
    }
  }

 private:
  /// Rows [ic, ic + m) and columns [jc, jc + n) of C from entries [pc, pc + k) of the sum.
  static void multiply_block(const Args& args, Index ic, Index m, Index pc, Index k, Index jc, Index n,
                             PackedA* block_a, const PackedB* block_b, T beta) noexcept {
    // Rows are dealt to tiles evenly: 64 rows make 13+13+13+13+12, not 14+14+14+14+8.
    const Index tiles = (m + tiling.mr - 1) / tiling.mr, each = m / tiles, more = m % tiles;
    const Index rs = args.A.row_stride(), cs = args.A.col_stride(), kp = packed_k(k);
    for (Index t = 0, i = 0; t < tiles; ++t) {
      const Index r = each + (t < more ? 1 : 0);
      Ops::pack_a(args.A.data() + (ic + i) * rs + pc * cs, rs, cs, r, k, block_a + i * kp);
      i += r;
    }
    const Index crs = args.C.row_stride(), ccs = args.C.col_stride();
    for (Index j = 0; j < n; j += tiling.nr) {
      const Index cols = std::min(tiling.nr, n - j);
      for (Index t = 0, i = 0; t < tiles; ++t) {
        const Index r = each + (t < more ? 1 : 0);
        T* c = args.C.data() + (ic + i) * crs + (jc + j) * ccs;
        if (ccs == 1)
          Ops::tile(r, cols, k, block_a + i * kp, block_b + j * kp, args.alpha, beta, c, crs);
        else
          scattered_tile(r, cols, k, block_a + i * kp, block_b + j * kp, args.alpha, beta, c, crs, ccs);
        i += r;
      }
    }
  }

  static void scattered_tile(Index rows, Index cols, Index k, const PackedA* a, const PackedB* b, T alpha, T beta, T* c,
                             Index crs, Index ccs) noexcept {
    alignas(64) T tile[tiling.mr * tiling.nr];
    Ops::tile(rows, cols, k, a, b, alpha, T(0), tile, tiling.nr);
    for (Index j = 0; j < cols; ++j)
      for (Index i = 0; i < rows; ++i) {
        T& out = c[i * crs + j * ccs];
        const T sum = tile[i * tiling.nr + j];
        out = beta == T(0) ? sum : sum + beta * out;
      }
  }
};

}  // namespace detail
}  // namespace tessera::inline TESSERA_ABI
