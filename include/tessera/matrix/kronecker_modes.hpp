/// A tensor times a matrix along one of its modes, which is all that Kronecker products are made of.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>

#include <tessera/expr/expr.hpp>
#include <tessera/kernels/batched/batched.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// Rows l·K·R + k·R + r of a matrix of `cols` contiguous entries, one after another at `ld`: the tensor (L,K,R) of
/// lines.
template <class S>
struct Lines {
  S* data;
  Index ld;
};

/// out (L,M,R) = alpha * A (M,K) along k of in (L,K,R) + beta * out, of lines of n entries. A is a factor of kind dense
/// or linear. Neither tensor is permuted: where lines follow each other, R·n entries are one row of a product.
template <class S>
class ModeProduct {
 public:
  ModeProduct(Context& ctx, const Factor<S>& A, S alpha, S beta) : ctx_(ctx), a_(A), alpha_(alpha), beta_(beta) {}

  /// `step` is that of k in `in`, R * in.ld unless it is padded.
  void run(Index L, Index R, Index n, Lines<const S> in, Lines<S> out, Index step = 0) const {
    const Index M = a_.rows, K = a_.cols, from_step = step != 0 ? step : R * in.ld, to_step = R * out.ld;
    if (R * n == 1 && from_step == 1 && out.ld == 1) return rows(L, in.data, out.data);
    const bool lines = R > 1 && (in.ld != n || out.ld != n);  // that do not follow each other
    if (small() && !lines && R * n <= chunk && L > 1)
      return slices(L, R * n, in.data, K * from_step, from_step, out.data, M * to_step, to_step);
    for (Index l = 0; l < L; ++l) {
      const S* from = in.data + l * K * from_step;
      S* to = out.data + l * M * to_step;
      if (small() && lines)
        slices(R, n, from, in.ld, from_step, to, out.ld, to_step);
      else if (small())
        columns(R * n, from, from_step, to, to_step);
      else if (lines)
        for (Index r = 0; r < R; ++r) any(n, from + r * in.ld, from_step, to + r * out.ld, to_step);
      else
        any(R * n, from, from_step, to, to_step);
    }
  }

 private:
  static constexpr Index chunk = 64;  // columns of one small product

  bool small() const { return a_.kind == Factor<S>::dense && std::max(a_.rows, a_.cols) <= chunk; }

  /// A shared by `count` products of n columns each.
  void slices(Index count, Index n, const S* in, Index in_next, Index in_ld, S* out, Index out_next,
              Index out_ld) const {
    const Index M = a_.rows, K = a_.cols;
    const View<const S, 3> A(a_.view.data(), {count, M, K}, {0, a_.view.row_stride(), a_.view.col_stride()});
    gemm_batched(ctx_, alpha_, A, View<const S, 3>(in, {count, K, n}, {in_next, in_ld, 1}), beta_,
                 View<S, 3>(out, {count, M, n}, {out_next, out_ld, 1}));
  }
  void columns(Index n, const S* in, Index in_ld, S* out, Index out_ld) const {
    const Index whole = n / chunk, done = whole * chunk;
    if (whole > 0) slices(whole, chunk, in, chunk, in_ld, out, chunk, out_ld);
    if (n > done) slices(1, n - done, in + done, 0, in_ld, out + done, 0, out_ld);
  }
  void any(Index n, const S* in, Index in_ld, S* out, Index out_ld) const {
    apply(MatrixView<const S>(in, {a_.cols, n}, {in_ld, 1}), MatrixView<S>(out, {a_.rows, n}, {out_ld, 1}));
  }
  void apply(MatrixView<const S> X, MatrixView<S> Y) const {
    if (a_.kind == Factor<S>::dense)
      gemm(ctx_, alpha_, a_.view, X, beta_, Y);
    else
      a_.apply(a_.object, ctx_, a_.op, alpha_, X, beta_, Y);
  }
  /// The last mode of contiguous tensors: out (L,M) = in (L,K) Aᵀ.
  void rows(Index L, const S* in, S* out) const {
    const Index M = a_.rows, K = a_.cols;
    if (!small()) return apply(MatrixView<const S>(in, {K, L}, {1, K}), MatrixView<S>(out, {M, L}, {1, M}));
    Workspace::Scope scope(ctx_.workspace);
    S* at = scope.take<S>(K * M);
    for (Index k = 0; k < K; ++k)
      for (Index m = 0; m < M; ++m) at[k * M + m] = a_.view(m, k);
    const auto times = [&](Index count, Index height, Index begin) {
      gemm_batched(ctx_, alpha_, View<const S, 3>(in + begin * K, {count, height, K}, {height * K, K, 1}),
                   View<const S, 3>(at, {count, K, M}, {0, M, 1}), beta_,
                   View<S, 3>(out + begin * M, {count, height, M}, {height * M, M, 1}));
    };
    const Index whole = L / chunk, done = whole * chunk;
    if (whole > 0) times(whole, chunk, 0);
    if (L > done) times(1, L - done, done);
  }

  Context& ctx_;
  const Factor<S>& a_;
  S alpha_, beta_;
};

// Tried for 16x16x16 on 256 columns: 1 and 4 cache lines of columns at a time where 2 fit (-20%; on Zen 3 -15% and +10%
// of 256 columns, -5% of 64); asking for the lines of the next slab ahead (nothing).
/// How a matrix of many columns is walked: by blocks of columns that keep their tensors in the second-level cache,
/// where rows are contiguous as tensors of lines, else as one tensor a column.
template <class S>
struct ModeBlocks {
  bool lines = false;
  Index columns = 1;  // of a block

  ModeBlocks(MatrixView<const S> X, MatrixView<const S> Y, Index entries) {
    constexpr Index cache = (Index{1} << 19) / static_cast<Index>(sizeof(S)), line = cache_line / sizeof(S);
    const Index fit = cache / std::max<Index>(1, entries);
    lines = X.cols() > 1 && X.col_stride() == 1 && Y.col_stride() == 1;
    columns = lines ? std::clamp(fit / line * line, line, 4 * line) : std::clamp(fit, Index{1}, Index{256});
  }
};

/// Runs f(worker, X block, Y block as lines, n, outer): tensors (outer, …) of lines of n, for all columns. Blocks that
/// are neither are copied; f is to overwrite its Y and scale it itself: alpha * f + beta * Y.
template <class S, class F>
void for_each_mode_block(Context& ctx, Index entries, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y, F&& f) {
  const ModeBlocks<S> blocks(X, Y, entries);
  const auto stacked = [](const auto& m) {
    return (m.row_stride() == 1 || m.rows() == 1) && (m.col_stride() == m.rows() || m.cols() == 1);
  };
  for_each_chunk(ctx, X.cols(), blocks.columns, [&](Context& worker, Index begin, Index end) {
    const auto x = X.slice(1, begin, end - begin);
    const auto y = Y.slice(1, begin, end - begin);
    const Index n = end - begin;
    if (blocks.lines)
      return f(worker, Index{1}, n, Lines<const S>{x.data(), x.row_stride()}, alpha, beta,
               Lines<S>{y.data(), y.row_stride()});
    Workspace::Scope scope(worker.workspace);
    const S* from = x.data();
    if (!stacked(x)) {
      S* copy = scope.template take<S>(x.size());
      for (Index j = 0; j < n; ++j)
        for (Index i = 0; i < x.rows(); ++i) copy[j * x.rows() + i] = x(i, j);
      from = copy;
    }
    if (stacked(y)) return f(worker, n, Index{1}, Lines<const S>{from, 1}, alpha, beta, Lines<S>{y.data(), 1});
    const MatrixView<S> T(scope.template take<S>(y.size()), {y.rows(), n}, {1, y.rows()});
    f(worker, n, Index{1}, Lines<const S>{from, 1}, alpha, S(0), Lines<S>{T.data(), 1});
    add_scaled<S>(worker, S(1), T, beta, y);
  });
}

/// The product of the factors' columns before, or rows after.
template <class S>
struct ModeSizes {
  std::span<const Factor<S>> factors;
  std::span<Index> now;  // rows of the factors that were applied, columns of the others

  void reset() {
    for (std::size_t i = 0; i < now.size(); ++i) now[i] = factors[i].cols;
  }
  Index product(std::size_t begin, std::size_t end) const {
    Index total = 1;
    for (std::size_t i = begin; i < end; ++i) total *= now[i];
    return total;
  }
};

/// Y = alpha * (A_0 ⊗ A_1 ⊗ …) X + beta * Y. The cheapest modes come first, those whose 1/K - 1/M is smallest; the
/// first mode, where it is the last to come, is applied once the others are done with slabs that fit in the first-level
/// cache.
template <class S>
void kronecker_apply(Context& ctx, std::span<const Factor<S>> factors, S alpha, MatrixView<const S> X, S beta,
                     MatrixView<S> Y) {
  if (Y.empty()) return;
  if (X.empty() || alpha == S(0)) return scale_by(ctx, beta, Y);
  const std::size_t p = factors.size();
  if (p == 0) return add_scaled<S>(ctx, alpha, X, beta, Y);
  Workspace::Scope scope(ctx.workspace);
  const auto indices = [&](Workspace::Scope& from) {
    return std::span<Index>(from.template take<Index>(static_cast<Index>(p)), p);
  };
  const std::span<Index> order = indices(scope);
  for (std::size_t i = 0; i < p; ++i) order[i] = static_cast<Index>(p - 1 - i);
  const auto key = [&](Index i) {
    const auto& f = factors[static_cast<std::size_t>(i)];
    return 1.0 / static_cast<double>(f.cols) - 1.0 / static_cast<double>(f.rows);
  };
  std::sort(order.begin(), order.end(),
            [&](Index a, Index b) { return key(a) < key(b) || (key(a) == key(b) && a > b); });
  ModeSizes<S> sizes{factors, indices(scope)};
  sizes.reset();
  Index most = 0;  // entries of a tensor between two modes
  for (std::size_t i = 0; i + 1 < p; ++i) {
    sizes.now[static_cast<std::size_t>(order[i])] = factors[static_cast<std::size_t>(order[i])].rows;
    most = std::max(most, sizes.product(0, p));
  }
  const bool by_slabs = order[p - 1] == 0;
  const std::size_t first = by_slabs ? 1 : 0;          // of the modes inside a slab
  const Index slabs = by_slabs ? factors[0].cols : 1;  // of a tensor
  const Index slab_in = X.rows() / slabs, slab_out = sizes.product(first, p), slab_most = most / slabs;
  // Of a single column, factors that do not stay in that cache are read once for all slabs: 1024 ⊗ 1024 in half the
  // time.
  const bool large_factors = std::any_of(factors.begin(), factors.end(), [](const Factor<S>& f) {
    return f.rows * f.cols > (Index{1} << 14) / static_cast<Index>(sizeof(S));
  });
  for_each_mode_block(
      ctx, std::max(X.rows(), Y.rows()), alpha, X, beta, Y,
      [&](Context& worker, Index outer, Index n, Lines<const S> in, S a, S b, Lines<S> out) {
        const auto last = static_cast<std::size_t>(order[p - 1]);
        Workspace::Scope inner(worker.workspace);
        ModeSizes<S> at{factors, indices(inner)};
        at.reset();
        Index stride = 0;
        if (p > 1) {
          const bool large = large_factors && n == 1;
          // Slabs 4 KiB apart, or a multiple of that, would compete for the same lines of the first-level cache.
          const bool padded = by_slabs && !large && slab_out * n * static_cast<Index>(sizeof(S)) % 4096 == 0;
          stride = slab_out * n + (padded ? 2 * static_cast<Index>(cache_line / sizeof(S)) : 0);
          constexpr Index cache = (Index{1} << 15) / static_cast<Index>(sizeof(S));
          const Index together = padded  ? 1
                                 : large ? outer * slabs
                                         : std::clamp<Index>(cache / (slab_most * n), 1, outer * slabs);
          S* const whole = inner.template take<S>(stride * outer * slabs);
          S* free = p > 2 ? inner.template take<S>(slab_most * n * together) : nullptr;
          S* next = p > 3 ? inner.template take<S>(slab_most * n * together) : nullptr;
          for (Index slab = 0; slab < outer * slabs; slab += together) {
            const Index count = std::min(together, outer * slabs - slab);
            at.reset();
            Lines<const S> from{in.data + slab * slab_in * in.ld, in.ld};
            for (std::size_t i = 0; i + 1 < p; ++i) {
              const auto d = static_cast<std::size_t>(order[i]);
              const Lines<S> to{i + 2 == p ? whole + slab * stride : free, n};
              ModeProduct<S>(worker, factors[d], S(1), S(0))
                  .run(count * at.product(first, d), at.product(d + 1, p), n, from, to);
              at.now[d] = factors[d].rows;
              from = {to.data, to.ld};
              std::swap(free, next);
            }
          }
          in = {whole, n};
        }
        ModeProduct<S>(worker, factors[last], a, b)
            .run(outer * at.product(0, last), at.product(last + 1, p), n, in, out, by_slabs ? stride : 0);
      });
}

}  // namespace tessera::inline TESSERA_ABI::detail
