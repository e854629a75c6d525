/// Cuts a gemm into pieces and runs a kernel on them.
#pragma once

#include <algorithm>
#include <type_traits>

#include <tessera/kernels/gemm/blocked.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// Several threads share each packed block of B. Pieces are rectangles of C; K is cut as by one thread, so the result
/// is that of one thread bit for bit.
template <class Blocked, class Args>
void gemm_in_parallel(Context& ctx, const KernelEntry<Args>& kernel, const Args& args) {
  using PackedB = typename Blocked::PackedB;
  constexpr GemmTiling tiling = Blocked::tiling;
  const GemmBlocks blocks = Blocked::blocks(args);
  const Index m = args.m(), kb = Blocked::k_block(args.k(), blocks), nb = Blocked::n_block(args.n(), blocks);
  Workspace::Scope scope(ctx.workspace);
  const std::byte* whole = args.packed_whole;
  std::byte* packed = whole != nullptr ? nullptr : scope.take<std::byte>(Blocked::bytes_b(args));
  auto part = args;
  part.packed_b = packed;
  part.packed_whole = nullptr;
  part.blocks = blocks;
  part.scratch_bytes = static_cast<std::size_t>(Blocked::bytes_a(args));
  part.scratch = scope.take<std::byte>(Blocked::bytes_a(args) * ctx.concurrency());

  constexpr Index wanted = 16;  // pieces: enough for several threads to end together
  const Index piece_rows = std::clamp(Blocked::round_up((m + wanted - 1) / wanted, tiling.mr), 4 * tiling.mr,
                                      std::max(4 * tiling.mr, Blocked::most_rows(blocks)));
  const Index down = (m + piece_rows - 1) / piece_rows;
  for (Index jc = 0; jc < args.n(); jc += nb) {
    const Index n = std::min(nb, args.n() - jc), panels = (n + tiling.nr - 1) / tiling.nr;
    const Index piece_panels = std::max<Index>(std::min<Index>(4, panels), panels * std::min(down, wanted) / wanted);
    const Index across = (panels + piece_panels - 1) / piece_panels;
    for (Index pc = 0; pc < args.k(); pc += kb) {
      const Index k = std::min(kb, args.k() - pc);
      const Index pack_grain = std::max<Index>(1, (Index{1} << 15) / (tiling.nr * k));
      const std::byte* block = packed;
      if (whole != nullptr)
        block = whole + Blocked::whole_offset(args.n(), args.k(), jc, pc) * static_cast<Index>(sizeof(PackedB));
      else
        ctx.run((panels + pack_grain - 1) / pack_grain, [&](Index p, Index) {
          Blocked::pack_panels(args, pc, k, jc, p * pack_grain, std::min(panels, (p + 1) * pack_grain),
                               reinterpret_cast<PackedB*>(packed));
        });
      ctx.run(down * across, [&](Index p, Index worker) {
        const Index row = p % down * piece_rows, panel = p / down * piece_panels, col = jc + panel * tiling.nr;
        auto piece = part;
        piece.diagonal -= col;
        piece.A = args.A.slice(1, pc, k);
        const Index cols = std::min(piece_panels * tiling.nr, jc + n - col);
        if (!args.any_of(row, std::min(piece_rows, m - row), col, cols)) return;
        piece.B = whole != nullptr ? decltype(piece.B)(nullptr, k, cols) : args.B.block(pc, col, k, cols);
        piece.C = args.C.slice(1, col, cols);
        if (pc != 0) piece.beta = 1;
        piece.finish.col += col;
        if (pc + k != args.k()) piece.finish = {};
        piece.packed_b = block + static_cast<std::size_t>(panel * tiling.nr * Blocked::packed_k(k)) * sizeof(PackedB);
        kernel.run(piece, {row, std::min(m, row + piece_rows), worker});
      });
    }
  }
}

/// Rows or columns of a piece of C for a kernel that cuts nothing itself: what it prepares anew for each stays small.
inline Index gemm_grain(Index n) { return std::max<Index>(64, (n + 127) / 128 * 8); }

/// Pieces of columns.
template <class Args>
void gemm_by_columns(Context& ctx, const KernelEntry<Args>& kernel, Args args) {
  const Index n = args.n(), grain = gemm_grain(n);
  Workspace::Scope scope(ctx.workspace);
  if (kernel.scratch != nullptr) {
    args.scratch_bytes = (kernel.scratch(args) + cache_line - 1) / cache_line * cache_line;
    args.scratch = scope.take<std::byte>(static_cast<Index>(args.scratch_bytes) * ctx.concurrency());
  }
  ctx.run((n + grain - 1) / grain, [&](Index p, Index worker) {
    auto piece = args;
    piece.B = args.B.slice(1, p * grain, std::min(grain, n - p * grain));
    piece.C = args.C.slice(1, p * grain, std::min(grain, n - p * grain));
    piece.finish.col += p * grain;
    piece.diagonal -= p * grain;
    kernel.run(piece, {0, args.m(), worker});
  });
}

/// Less does not pay for waking a thread.
template <class Args>
bool gemm_alone(const Context& ctx, const Args& args) {
  const double flops =
      2.0 * static_cast<double>(args.m()) * static_cast<double>(args.n()) * static_cast<double>(args.k());
  return ctx.concurrency() == 1 || flops < 4e6;
}

/// Runs the entry of the list that `kernel` is.
template <class TA, class TB, class T, class... Kernels>
void run_gemm(Context& ctx, GemmArgs<TA, TB, T> args, KernelList<Kernels...>) {
  const auto& kernel = KernelList<Kernels...>::select(ctx, args);
  const bool alone = gemm_alone(ctx, args);
  const auto drive = [&]<class K>(std::type_identity<K>) {
    if (K::name != kernel.name) return false;
    if constexpr (!requires { K::finishes; }) args.finish = {};
    if constexpr (compiled_isa.has(K::isa) && requires { typename K::template Blocked<TA, TB, T>; }) {
      if (!alone) {
        gemm_in_parallel<typename K::template Blocked<TA, TB, T>>(ctx, kernel, args);
        return true;
      }
    }
    if (alone || args.m() >= args.n())
      launch(ctx, kernel, args, args.m(), alone ? args.m() : gemm_grain(args.m()));
    else
      gemm_by_columns(ctx, kernel, args);
    return true;
  };
  const auto finish = args.finish;
  (drive(std::type_identity<Kernels>()) || ...);
  if (args.finish.run != finish.run) finish(args.C, 0, 0);
}

}  // namespace tessera::inline TESSERA_ABI::detail
