/// Mixtures of sparse adapters: parts of one matrix that take turns in training and are one at inference.
/// H. Zhang et al., "Split & Merge: Unlocking the Potential of Visual Adapters via Sparse Training" (2023), §3.2, MoSA.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>

#include <tessera/core/buffer.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/kernels/gemm/gemm.hpp>

namespace tessera::inline TESSERA_ABI::nn {

/// To which of k parts each entry of a matrix belongs: a byte each, so no two parts share one and none is left.
class MosaSplit {
 public:
  MosaSplit(Buffer<std::uint8_t> part_of, Index rows, Index cols, Index parts)
      : part_of_(std::move(part_of)), rows_(rows), cols_(cols), parts_(parts) {}
  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  Index parts() const { return parts_; }
  Index part(Index i, Index j) const { return part_of_[i * cols_ + j]; }
  bool has(Index part, Index i, Index j) const { return part_of_[i * cols_ + j] == part; }
  /// How many of the entries.
  Index size(Index part) const { return std::count(part_of_.begin(), part_of_.end(), static_cast<std::uint8_t>(part)); }

  /// to ← the entries of from that are of this part, zeros elsewhere; they may be one. Throws shape_error.
  template <class T>
  void masked(Index part, std::type_identity_t<MatrixView<const T>> from, MatrixView<T> to) const {
    if (part < 0 || part >= parts_ || from.rows() != rows_ || from.cols() != cols_ || to.rows() != rows_ ||
        to.cols() != cols_)
      throw shape_error(tessera::detail::concat("tessera: MosaSplit of (", tessera::detail::shape_text(rows_, cols_),
                                                ") in ", parts_, ": part ", part, " of (",
                                                tessera::detail::shape_text(from.rows(), from.cols()), ") to (",
                                                tessera::detail::shape_text(to.rows(), to.cols()), ")"));
    for (Index i = 0; i < rows_; ++i)
      for (Index j = 0; j < cols_; ++j) to(i, j) = has(part, i, j) ? from(i, j) : T(0);
  }

 private:
  Buffer<std::uint8_t> part_of_;
  Index rows_, cols_, parts_;
};

/// k parts drawn at random, of sizes that differ by one at most. Throws shape_error for k outside 1 to 256.
inline MosaSplit mosa_split(Index rows, Index cols, Index k, std::uint64_t seed) {
  if (k < 1 || k > 256)
    throw shape_error(tessera::detail::concat("tessera: mosa_split in ", k, " parts; expected 1 to 256"));
  Buffer<std::uint8_t> part_of(rows * cols);
  const Philox draws(seed);
  for (Index i = 0; i < part_of.size(); ++i) part_of[i] = static_cast<std::uint8_t>(i % k);
  for (Index i = part_of.size(); i-- > 1;)  // R. Fisher, F. Yates
    std::swap(
        part_of[i],
        part_of[static_cast<Index>(draws.below(static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(i) + 1))]);
  return {std::move(part_of), rows, cols, k};
}

/// Y = X·(W of this part)ᵀ + beta·Y: a step of training. W (out, in) holds all parts in their places; after training it
/// is the merged adapter itself, of a dense one's cost. A temporary of W's size, and dense gemm's flops: at two to
/// eight parts that is faster than a sparse product.
template <class T>
void mosa_forward(Context& ctx, std::type_identity_t<MatrixView<const T>> X,  // (n, in)
                  std::type_identity_t<MatrixView<const T>> W, const MosaSplit& split, Index part,
                  std::type_identity_t<T> beta, MatrixView<T> Y) {  // (n, out)
  Workspace::Scope scope(ctx.workspace);
  const MatrixView<T> own(scope.take<T>(W.rows() * W.cols()), W.rows(), W.cols());
  split.masked<T>(part, W, own);
  gemm<T>(ctx, T(1), X, MatrixView<const T>(own).transposed(), beta, Y);
}

/// dX = dY·(W of this part) + beta_dx·dX where dX has data; dW = dYᵀ·X in this part's entries, zeros in the others.
template <class T>
void mosa_backward(Context& ctx, std::type_identity_t<MatrixView<const T>> X,
                   std::type_identity_t<MatrixView<const T>> dY, std::type_identity_t<MatrixView<const T>> W,
                   const MosaSplit& split, Index part, std::type_identity_t<T> beta_dx, MatrixView<T> dX,
                   MatrixView<T> dW) {
  if (dX.data() != nullptr) {
    Workspace::Scope scope(ctx.workspace);
    const MatrixView<T> own(scope.take<T>(W.rows() * W.cols()), W.rows(), W.cols());
    split.masked<T>(part, W, own);
    gemm<T>(ctx, T(1), dY, MatrixView<const T>(own), beta_dx, dX);
  }
  gemm<T>(ctx, T(1), dY.transposed(), X, T(0), dW);
  split.masked<T>(part, dW, dW);
}

/// W ← the sum of modules that were kept apart, each in its own part of the split and zero elsewhere.
template <class T>
void mosa_merge(std::span<const MatrixView<const T>> modules, const MosaSplit& split, MatrixView<T> W) {
  if (static_cast<Index>(modules.size()) != split.parts())
    throw shape_error(tessera::detail::concat("tessera: mosa_merge: ", static_cast<Index>(modules.size()),
                                              " modules of a split in ", split.parts()));
  const auto check = [&](MatrixView<const T> of) {
    if (of.rows() != split.rows() || of.cols() != split.cols())
      throw shape_error(tessera::detail::concat("tessera: mosa_merge: (",
                                                tessera::detail::shape_text(of.rows(), of.cols()), ") of a split of (",
                                                tessera::detail::shape_text(split.rows(), split.cols()), ")"));
  };
  for (const auto& module : modules) check(module);
  check(W);
  for (Index i = 0; i < split.rows(); ++i)
    for (Index j = 0; j < split.cols(); ++j) {
      W(i, j) = modules[static_cast<std::size_t>(split.part(i, j))](i, j);
    }
}

}  // namespace tessera::inline TESSERA_ABI::nn
