/// Sparse layers of as many multiplications as the dense one they replace.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <utility>
#include <vector>

#include <tessera/compress/random.hpp>
#include <tessera/core/context.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/sparse/sddmm.hpp>

namespace tessera::inline TESSERA_ABI {

/// What a dense (M,N) becomes, σ the larger of 0 and its argument:
///   wide        W of (kM,kN), k = 1/√(1-s): its neighbours are widened by k too
///   parallel    Σ_j σ(W_j x) over 1/(1-s) branches (M,N)
///   factorized  V σ(U x), the inner width such that both have the sparsity s
///   doped       L R x + W x, the rank such that W (M,N) has the sparsity s
enum class IsoFlop { wide, parallel, factorized, doped };

/// Shapes (rows, cols) of the sparse matrices and how many entries each keeps; `rank` is that of L R. All of them
/// together multiply M·N times a column, exactly.
struct IsoFlopPlan {
  struct Part {
    Index rows = 0, cols = 0, kept = 0;
  };
  IsoFlop kind = IsoFlop::wide;
  Index rows = 0, cols = 0, rank = 0;  // of the layer's output and input
  std::vector<Part> parts;

  Index kept() const {
    Index all = 0;
    for (const Part& p : parts) all += p.kept;
    return all;
  }
  Index multiplications() const { return kept() + rank * (rows + cols); }
  /// Entries that masks choose from.
  Index places() const {
    Index all = 0;
    for (const Part& p : parts) all += p.rows * p.cols;
    return all;
  }
};

/// S. Saxena et al., "Sparse Iso-FLOP Transformations for Maximizing Training Efficiency" (2023), §3 and Table 1.
/// Throws unsupported_error unless the sparsity is from 0 to below 1, shape_error unless M and N are positive and what
/// results can be counted, of parallel branches at most 65536.
inline IsoFlopPlan iso_flop_plan(IsoFlop kind, Index M, Index N, double sparsity) {
  if (!(sparsity >= 0 && sparsity < 1))
    throw unsupported_error(detail::concat("tessera: iso_flop_plan of (", detail::shape_text(M, N), ") at sparsity ",
                                           sparsity, "; expected 0 to below 1"));
  const double dense = static_cast<double>(M) * static_cast<double>(N), denser = 1 / (1 - sparsity);
  if (M <= 0 || N <= 0 || !(dense * denser < 0x1p53))
    throw shape_error(detail::concat("tessera: iso_flop_plan of (", detail::shape_text(M, N), ") at sparsity ",
                                     sparsity, ": expected positive sizes whose product can be counted"));
  if (kind == IsoFlop::parallel && denser > 65536)
    throw shape_error(detail::concat("tessera: iso_flop_plan of (", detail::shape_text(M, N), ") at sparsity ",
                                     sparsity, ": ", denser, " parallel branches; expected at most 65536"));
  const auto rounded = [](double x) { return std::max<Index>(1, static_cast<Index>(std::llround(x))); };
  IsoFlopPlan plan{kind, M, N, 0, {}};
  const Index all = M * N;
  if (kind == IsoFlop::wide) {
    plan.rows = rounded(static_cast<double>(M) * std::sqrt(denser));
    plan.cols = rounded(static_cast<double>(N) * std::sqrt(denser));
    plan.parts = {{plan.rows, plan.cols, std::min(all, plan.rows * plan.cols)}};
  } else if (kind == IsoFlop::parallel) {
    const Index branches = rounded(denser);
    for (Index j = 0; j < branches; ++j) plan.parts.push_back({M, N, all * (j + 1) / branches - all * j / branches});
  } else if (kind == IsoFlop::factorized) {
    const Index least = (all + M + N - 1) / (M + N);
    const Index inner = std::max(least, rounded(dense * denser / static_cast<double>(M + N)));
    const Index first = std::min(inner * N, rounded(dense * static_cast<double>(N) / static_cast<double>(M + N)));
    plan.parts = {{inner, N, first}, {M, inner, all - first}};
  } else {
    plan.rank = static_cast<Index>(sparsity * dense / static_cast<double>(M + N));
    plan.parts = {{M, N, all - plan.rank * (M + N)}};
  }
  return plan;
}

/// A layer by a plan, on random masks, its values such that outputs are about as large as inputs. Masks may be changed
/// as it is trained: `sparse()` are its matrices, which `dynamic_sparse_update` takes.
template <std::floating_point T>
class IsoFlopLinear {
 public:
  IsoFlopLinear(IsoFlopPlan plan, std::uint64_t seed)
      : plan_(std::move(plan)), left_(plan_.rows * plan_.rank), right_(plan_.rank * plan_.cols) {
    const Philox draws(seed);
    std::uint64_t drawn = 0;
    const auto draw = [&](double scale) { return static_cast<T>(scale * draws.normal(drawn++)); };
    const auto fill = [&](Buffer<T>& values, double scale) {
      for (T& v : values) v = draw(scale);
    };
    for (const auto& part : plan_.parts) {
      const Mask mask = random_mask(part.rows, part.cols, part.kept, seed + 1 + sparse_.size());
      const double scale =
          std::sqrt(static_cast<double>(part.rows) / static_cast<double>(std::max<Index>(1, part.kept)));
      sparse_.push_back(detail::csr_on<T>(mask, [&](Index, Index) { return draw(scale); }));
    }
    fill(left_, plan_.rank > 0 ? std::sqrt(1.0 / static_cast<double>(plan_.rank)) : 0.0);
    fill(right_, std::sqrt(1.0 / static_cast<double>(plan_.cols)));
  }

  const IsoFlopPlan& plan() const { return plan_; }
  std::vector<Csr<T>>& sparse() { return sparse_; }
  const std::vector<Csr<T>>& sparse() const { return sparse_; }
  MatrixView<T> left() { return {left_.data(), plan_.rows, plan_.rank}; }
  MatrixView<T> right() { return {right_.data(), plan_.rank, plan_.cols}; }

  /// Y (rows,B) from X (cols,B). 2·M·N flops a column, M and N those of the dense layer. Throws shape_error.
  void forward(Context& ctx, MatrixView<const T> X, MatrixView<T> Y) const {
    check(X, Y.rows(), Y.cols());
    if (plan_.kind == IsoFlop::wide) {
      sparse_[0].apply(ctx, Op::none, T(1), X, T(0), Y);
    } else if (plan_.kind == IsoFlop::doped) {
      Inner low = inner(plan_.rank, X.cols());
      gemm<T>(ctx, T(1), MatrixView<const T>(right_.data(), plan_.rank, plan_.cols), X, T(0), low.all());
      sparse_[0].apply(ctx, Op::none, T(1), X, T(0), Y);
      gemm<T>(ctx, T(1), MatrixView<const T>(left_.data(), plan_.rows, plan_.rank), low.all(), T(1), Y);
    } else if (plan_.kind == IsoFlop::factorized) {
      Inner hidden = activated(ctx, sparse_[0], X);
      sparse_[1].apply(ctx, Op::none, T(1), hidden.all(), T(0), Y);
    } else {
      for (Index j = 0; j < Y.cols(); ++j)
        for (Index i = 0; i < Y.rows(); ++i) Y(i, j) = T(0);
      for (const auto& W : sparse_) add_to(activated(ctx, W, X), Y);
    }
  }

  struct Gradient {
    std::vector<Csr<T>> sparse;  // on the patterns
    Buffer<T> left, right;
  };
  /// dX (cols,B), and the gradient of all values. Twice the flops of `forward`, which it repeats. Throws shape_error.
  Gradient backward(Context& ctx, MatrixView<const T> X, MatrixView<const T> dY, MatrixView<T> dX) const {
    check(X, dY.rows(), dY.cols());
    check(dX, dY.rows(), dY.cols());
    Gradient grad{{}, Buffer<T>(left_.size()), Buffer<T>(right_.size())};
    const auto through = [&](const Csr<T>& W, MatrixView<const T> x, MatrixView<const T> dy, T beta, MatrixView<T> dx) {
      W.apply(ctx, Op::transpose, T(1), dy, beta, dx);
      grad.sparse.push_back(sddmm(ctx, T(1), W, dy, x));
    };
    if (plan_.kind == IsoFlop::wide) {
      through(sparse_[0], X, dY, T(0), dX);
    } else if (plan_.kind == IsoFlop::doped) {
      const MatrixView<const T> L(left_.data(), plan_.rows, plan_.rank), R(right_.data(), plan_.rank, plan_.cols);
      Inner low = inner(plan_.rank, X.cols()), dlow = inner(plan_.rank, X.cols());
      gemm<T>(ctx, T(1), R, X, T(0), low.all());
      gemm<T>(ctx, T(1), L.transposed(), dY, T(0), dlow.all());
      gemm<T>(ctx, T(1), dY, low.all().transposed(), T(0), MatrixView<T>(grad.left.data(), plan_.rows, plan_.rank));
      gemm<T>(ctx, T(1), dlow.all(), X.transposed(), T(0), MatrixView<T>(grad.right.data(), plan_.rank, plan_.cols));
      through(sparse_[0], X, dY, T(0), dX);
      gemm<T>(ctx, T(1), R.transposed(), dlow.all(), T(1), dX);
    } else if (plan_.kind == IsoFlop::factorized) {
      Inner hidden = activated(ctx, sparse_[0], X), dhidden = inner(sparse_[0].rows(), X.cols());
      Csr<T> outer = sddmm(ctx, T(1), sparse_[1], dY, MatrixView<const T>(hidden.all()));
      sparse_[1].apply(ctx, Op::transpose, T(1), dY, T(0), dhidden.all());
      keep_active(hidden, dhidden);
      through(sparse_[0], X, dhidden.all(), T(0), dX);
      grad.sparse.push_back(std::move(outer));
    } else {
      for (std::size_t j = 0; j < sparse_.size(); ++j) {
        Inner out = activated(ctx, sparse_[j], X), dout = inner(dY.rows(), dY.cols());
        for (Index i = 0; i < dY.rows(); ++i)
          for (Index n = 0; n < dY.cols(); ++n) dout.all()(i, n) = dY(i, n);
        keep_active(out, dout);
        through(sparse_[j], X, dout.all(), j == 0 ? T(0) : T(1), dX);
      }
    }
    return grad;
  }

 private:
  /// (rows, columns), row-major.
  struct Inner {
    Buffer<T> values;
    Index rows, cols;
    MatrixView<T> all() { return {values.data(), rows, cols}; }
  };
  static Inner inner(Index rows, Index cols) { return {Buffer<T>(rows * cols), rows, cols}; }

  void check(MatrixView<const T> X, Index rows, Index columns) const {
    if (X.rows() != plan_.cols || rows != plan_.rows || X.cols() != columns)
      throw shape_error(detail::concat("tessera: IsoFlopLinear (", detail::shape_text(plan_.rows, plan_.cols), ") of (",
                                       detail::shape_text(X.rows(), X.cols()), ") with (",
                                       detail::shape_text(rows, columns), ") at its output: expected (",
                                       detail::shape_text(plan_.cols, columns), ") and (",
                                       detail::shape_text(plan_.rows, columns), ")"));
  }
  Inner activated(Context& ctx, const Csr<T>& W, MatrixView<const T> X) const {
    Inner out = inner(W.rows(), X.cols());
    W.apply(ctx, Op::none, T(1), X, T(0), out.all());
    for (T& v : out.values) v = v < T(0) ? T(0) : v;  // a NaN stays
    return out;
  }
  static void add_to(Inner from, MatrixView<T> Y) {
    const auto all = from.all();
    for (Index i = 0; i < Y.rows(); ++i)
      for (Index n = 0; n < Y.cols(); ++n) Y(i, n) += all(i, n);
  }
  static void keep_active(const Inner& activated, Inner& gradient) {
    for (Index k = 0; k < activated.rows * activated.cols; ++k)
      if (activated.values[k] == T(0)) gradient.values[k] = T(0);
  }

  IsoFlopPlan plan_;
  std::vector<Csr<T>> sparse_;
  Buffer<T> left_, right_;
};

/// log₂ of how many masks there are of a plan's counts: what training may choose from.
inline double log2_masks(const IsoFlopPlan& plan) {
  double bits = 0;
  for (const auto& p : plan.parts) {
    const double size = static_cast<double>(p.rows) * static_cast<double>(p.cols), kept = static_cast<double>(p.kept);
    bits += (std::lgamma(size + 1) - std::lgamma(kept + 1) - std::lgamma(size - kept + 1)) / std::log(2.0);
  }
  return bits;
}

}  // namespace tessera::inline TESSERA_ABI
