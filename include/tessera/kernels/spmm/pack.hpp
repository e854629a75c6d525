/// How a product with compressed rows is cut: panels of X, blocks of columns of A, pieces of Y.
#pragma once

#include <tessera/kernels/spmm/args.hpp>
#include <tessera/simd/cache.hpp>
#include <tessera/simd/isa.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// X (K,N) as panels of `panel` columns (SpmmArgs says how); `to` has room for `panels_size`. What pads is zero.
template <class S>
void pack_panels(Context& ctx, MatrixView<const S> X, Index panel, Index pad, S* to) {
  const Index K = X.rows();
  for_each_chunk(ctx, K, 64, [&](Context&, Index begin, Index end) {
    for (Index j = 0; j < X.cols(); j += panel) {
      const Index columns = std::min(panel, X.cols() - j), width = (columns + pad - 1) / pad * pad;
      S* const base = to + j * K;
      if (X.col_stride() == 1) {
        for (Index k = begin; k < end; ++k) std::copy_n(X.data() + k * X.row_stride() + j, columns, base + k * width);
      } else {
        for (Index c = 0; c < columns; ++c)
          for (Index k = begin; k < end; ++k) base[k * width + c] = X(k, j + c);
      }
      for (Index k = begin; k < end; ++k)
        for (Index c = columns; c < width; ++c) base[k * width + c] = S(0);
    }
  });
}

/// Cuts for op none: measured on Zen 3, 4096 x 4096 at 50 to 99% zeros, Zen 4, 64 to 4096 rows, and Zen 5. Four vectors
/// of columns at a time, with two a row's beginning and end take half of the time of 10 nonzeros; eight where X is far.
/// X is to stay in L1 while many rows pass by, but a row wants 40 nonzeros a block to pay for its beginning and end,
/// 100 where X is in L2. 512-bit lanes read X from L2 nearly as fast: there rows are not cut (1.2 to 1.4 times as fast
/// on Zen 5; 0.65 to 0.75 where X is as large as L2), and of sparse rows a panel that stays in L2 meets all before the
/// next one (1.1 times).
template <class T, class I>
void cut_forward(SpmmArgs<T, I>& a, Index nonzeros) {
  using S = accum_t<T>;
  const Index n = a.Y.cols();
  const double density = static_cast<double>(nonzeros) / (static_cast<double>(a.rows) * static_cast<double>(a.cols));
  const auto& caches = cache_sizes();
  const bool wide = active_isa().has(Isa::avx512);
  const Index four = wide ? 256 : 128;  // bytes of vectors
  const bool beyond = a.cols * four >= caches.l2, far = beyond && density >= 0.15;
  const bool narrow = wide && beyond && !far && density * static_cast<double>(a.cols) >= 128;
  a.panel = n == 1 ? 1 : (far ? 2 * four : narrow ? four / 2 : four) / static_cast<Index>(sizeof(S));
  a.col_step = wide && beyond && !far ? std::min(n, a.panel) : n;
  a.row_step = n == 1 ? 1024 : n > a.panel ? 256 : 64;  // a panel is read anew for each piece
  const Index line = std::min(a.panel, n) * static_cast<Index>(sizeof(S));
  const Index first = std::max<Index>(1, caches.l1 / line), second = std::max<Index>(1, caches.l2 / line);
  const bool cached = a.cols <= second;  // X stays in L2 as it is
  const bool near = wide && a.cols * line <= std::max(caches.l2 / 4 * 3, Index{512} << 10);
  const double wanted = (cached ? 100 : 40) / density;
  a.block = a.cols;
  if (wanted < static_cast<double>(second) && !near && !(cached && density < 0.15))
    a.block = std::max(first, static_cast<Index>(wanted));
  if (4 * a.block >= 3 * a.cols) a.block = a.cols;
}

/// For op none: cuts, and X in panels where rows of it are met often or cannot be read in vectors. `nonzeros` of all.
template <class T, class I>
void prepare_forward(Context& ctx, Workspace::Scope& scope, SpmmArgs<T, I>& args, Index nonzeros) {
  using S = accum_t<T>;
  constexpr Index vector = 64 / static_cast<Index>(sizeof(S));
  cut_forward(args, nonzeros);
  const Index n = args.Y.cols(), K = args.cols;
  const bool readable = n == 1 ? args.X.row_stride() == 1 : args.X.col_stride() == 1 && n % vector == 0;
  const bool apart = n > args.panel || args.X.row_stride() != n;  // rows of a panel are not beside each other
  if (readable && (n == 1 || !apart || nonzeros < 8 * K)) return;
  const Index before = (n - 1) / args.panel * args.panel, size = (before + (n == 1 ? 1 : args.padded(n - before))) * K;
  S* const panels = scope.take<S>(size + vector);
  pack_panels(ctx, args.X, args.panel, n == 1 ? 1 : args.pad, panels);
  std::fill_n(panels + size, vector, S(0));
  args.panels = panels;
}

/// Cuts for the transpose: results are the same for any of them, since each sum takes the rows of A in order.
/// Tried: ranges of columns of A whose sums stay in L1 or L2 (half as fast: each row begins in each of them).
template <class T, class I>
void cut_transposed(SpmmArgs<T, I>& a, Index concurrency) {
  using S = accum_t<T>;
  const Index n = a.Y.cols();
  constexpr Index wide = 128 / static_cast<Index>(sizeof(S));
  a.col_step = std::min(n, wide);
  a.row_step = std::min<Index>(a.cols, n == 1 ? a.cols : 1 << 16);
  const Index across = (n + a.col_step - 1) / a.col_step;
  if (across < 4 * concurrency && concurrency > 1) {
    const Index down = (4 * concurrency + across - 1) / across;
    a.row_step = std::min(a.row_step, std::max<Index>(512, (a.cols + down - 1) / down));
  }
}

}  // namespace tessera::inline TESSERA_ABI::detail
