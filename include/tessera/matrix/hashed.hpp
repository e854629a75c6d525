/// Matrices whose entries share parameters by a hash.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include <tessera/core/buffer.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/expr/expr.hpp>

namespace tessera::inline TESSERA_ABI {

/// W(i,j) = λ g(k) w[h(k)] (M,N), k = i·N + j, of m shared parameters w. Folds: the entries in row-major order are cut
/// into pieces of m, each turned by a random offset, so that a parameter stands in ⌊MN/m⌋ or ⌈MN/m⌉ entries, neighbours
/// stay neighbours, and m = M·N is a dense matrix. g is a random sign for every run of 16 entries, 1 in the first fold:
/// without compression W is λ w.
/// A. Desai, A. Shrivastava, "In defense of parameter sharing for model-compression" (ICLR 2024), STABLE-RPS with
/// RANDOMFOLD; A. Desai et al., "Hardware-Aware Compression with Random Operation Access Specific Tile (ROAST) Hashing"
/// (ICML 2023) for the neighbours. Products take panels of W written to scratch: 2·M·N flops a column, m numbers read.
template <std::floating_point S>
class Hashed : public OperatorBase<Hashed<S>> {
 public:
  using Scalar = S;
  static constexpr Index run = 16;

  /// Throws shape_error unless there are 1 to M·N parameters (none if M·N is 0).
  Hashed(Index rows, Index cols, Buffer<S> parameters, std::uint64_t seed = 1, S scale = S(1))
      : w_(std::move(parameters)), rows_(rows), cols_(cols), seed_(seed), scale_(scale) {
    Index entries = 0;
    if (rows < 0 || cols < 0 || __builtin_mul_overflow(rows, cols, &entries)) entries = -1;
    if (entries < 0 || w_.size() > entries || (entries > 0 && w_.size() == 0))
      throw shape_error(detail::concat("tessera: Hashed ", detail::shape_text(rows, cols), " of ", w_.size(),
                                       " parameters: expected 1 to their product, and that it fits"));
  }

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  S scale() const { return scale_; }
  std::span<const S> parameters() const { return w_; }
  std::span<S> parameters() { return w_; }
  Index parameter_count() const { return w_.size(); }
  /// h(k): the parameter that entry k in row-major order has; there must be one.
  Index slot(Index k) const {
    const Index at = k % w_.size() + offset(k / w_.size());
    return at < w_.size() ? at : at - w_.size();
  }
  /// g(k)
  S sign(Index k) const {
    if (k < w_.size()) return S(1);
    return (Philox(seed_, 0x51).bits(static_cast<std::uint64_t>(k / run)) & 1) != 0 ? S(-1) : S(1);
  }

  void apply(Context& ctx, Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    Workspace::Scope scope(ctx.workspace);
    S* const panel = scope.take<S>(std::min(rows_, height) * cols_);
    for (Index i = 0; i < rows_; i += height) {
      const Index h = std::min(height, rows_ - i);
      write(i, h, panel);
      const MatrixView<const S> W(panel, h, cols_);
      if (op == Op::none) {
        detail::dense_apply<S>(ctx, alpha, W, X, beta, Y.slice(0, i, h));
      } else {
        detail::dense_apply<S>(ctx, alpha, W.transposed(), X.slice(0, i, h), beta, Y);
        beta = S(1);
      }
    }
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    f(ByteRange{w_.begin(), w_.end()});
  }
  std::size_t bytes() const { return w_.bytes(); }
  std::string describe() const {
    return detail::concat("Hashed ", detail::shape_text(rows_, cols_), " of ", w_.size(), " parameters");
  }
  Eigen::MatrixX<S> to_dense() const {
    Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> dense(rows_, cols_);
    write(0, rows_, dense.data());
    return dense;
  }
  Eigen::VectorX<S> diagonal() const {
    Eigen::VectorX<S> d(std::min(rows_, cols_));
    for (Index i = 0; i < d.size(); ++i) d[i] = scale_ * sign(i * cols_ + i) * w_[slot(i * cols_ + i)];
    return d;
  }

  /// dw[h(k)] += λ g(k) (dY Xᵀ)(k). Each parameter gathers as many entries as share it: `gradient_scale` divides that
  /// out for optimizers that are not invariant to it.
  void grad(Context& ctx, MatrixView<const S> X, MatrixView<const S> dY, S beta, std::span<S> dparams) const {
    detail::check_grad(*this, X, dY, dparams);
    for (S& d : dparams) d = beta == S(0) ? S(0) : beta * d;
    if (w_.size() == 0 || X.cols() == 0) return;
    Workspace::Scope scope(ctx.workspace);
    S* const panel = scope.take<S>(std::min(rows_, height) * cols_);
    for (Index i = 0; i < rows_; i += height) {
      const Index h = std::min(height, rows_ - i);
      detail::dense_apply<S>(ctx, S(1), dY.slice(0, i, h), X.transposed(), S(0), MatrixView<S>(panel, h, cols_));
      for_each_run(i * cols_, (i + h) * cols_, [&](Index k, Index at, Index count, S by) {
        const S* from = panel + (k - i * cols_);
        for (Index r = 0; r < count; ++r) dparams[static_cast<std::size_t>(at + r)] += by * from[r];
      });
    }
  }
  /// The factor on gradients, m / (λ² M N), with which a step changes W as it would without sharing. STABLE-RPS, §4.
  S gradient_scale() const { return static_cast<S>(w_.size()) / (scale_ * scale_ * static_cast<S>(rows_ * cols_)); }

 private:
  static constexpr Index height = 64;  // rows of a panel

  Index offset(Index fold) const {
    if (fold == 0) return 0;
    return static_cast<Index>(
        Philox(seed_, 0x0ff).below(static_cast<std::uint64_t>(fold), static_cast<std::uint64_t>(w_.size())));
  }
  /// f(k, slot, count, λ g) for entries [begin, end), as long as slots follow each other and signs are equal.
  template <class F>
  void for_each_run(Index begin, Index end, F&& f) const {
    const Index m = w_.size();
    for (Index k = begin; k < end;) {
      const Index fold = k / m, turn = offset(fold), stop = std::min(end, (fold + 1) * m);
      while (k < stop) {
        const Index raw = k - fold * m + turn, at = raw < m ? raw : raw - m;
        Index count = std::min(stop - k, m - at);
        if (fold > 0) count = std::min(count, (k / run + 1) * run - k);
        f(k, at, count, scale_ * sign(k));
        k += count;
      }
    }
  }
  void write(Index row, Index count, S* panel) const {
    for_each_run(row * cols_, (row + count) * cols_, [&](Index k, Index at, Index length, S by) {
      S* to = panel + (k - row * cols_);
      for (Index r = 0; r < length; ++r) to[r] = by * w_[at + r];
    });
  }

  Buffer<S> w_;
  Index rows_ = 0, cols_ = 0;
  std::uint64_t seed_ = 1;
  S scale_ = S(1);
};

}  // namespace tessera::inline TESSERA_ABI
