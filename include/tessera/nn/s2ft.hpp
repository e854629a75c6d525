/// Fine-tuning of a few channels of coupled layers, moved together so that they are one dense part of each matrix.
/// X. Yang et al., "S²FT: Efficient, Scalable and Generalizable LLM Fine-tuning by Structured Sparsity" (NeurIPS 2024),
/// §3, algorithm 1.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include <tessera/core/buffer.hpp>
#include <tessera/core/order.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/kernels/gemm/gemm.hpp>

namespace tessera::inline TESSERA_ABI::nn {

namespace detail {
/// `chosen` first, then the others, each part in order.
inline std::vector<Index> chosen_first(Index n, std::vector<Index> chosen) {
  std::sort(chosen.begin(), chosen.end());
  std::vector<Index> all = chosen;
  for (Index i = 0; i < n; ++i)
    if (!std::binary_search(chosen.begin(), chosen.end(), i)) all.push_back(i);
  return all;
}
}  // namespace detail

/// A permutation (position → channel) that puts k of n channels first: those drawn at random, the paper's S²FT-R.
/// Throws shape_error.
inline std::vector<Index> s2ft_select(Index n, Index k, std::uint64_t seed) {
  if (k < 0 || k > n) throw shape_error(tessera::detail::concat("tessera: s2ft_select: ", k, " of ", n, " channels"));
  std::vector<Index> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), Index{0});
  const Philox draws(seed);
  for (Index i = 0; i < k; ++i)  // R. Fisher, F. Yates, the first k
    std::swap(order[static_cast<std::size_t>(i)],
              order[static_cast<std::size_t>(i + static_cast<Index>(draws.below(static_cast<std::uint64_t>(i),
                                                                                static_cast<std::uint64_t>(n - i))))]);
  order.resize(static_cast<std::size_t>(k));
  return detail::chosen_first(n, std::move(order));
}
/// The k channels of the largest scores, norms of weights or activations: S²FT-W, S²FT-A.
template <class T>
std::vector<Index> s2ft_select(std::span<const T> scores, Index k) {
  const Index n = static_cast<Index>(scores.size());
  if (k < 0 || k > n) throw shape_error(tessera::detail::concat("tessera: s2ft_select: ", k, " of ", n, " channels"));
  std::vector<Index> order(scores.size());
  std::iota(order.begin(), order.end(), Index{0});
  const T* const score = scores.data();
  std::sort(order.begin(), order.end(), tessera::detail::FallingScores{score});
  order.resize(static_cast<std::size_t>(k));
  return detail::chosen_first(n, std::move(order));
}
/// A permutation of heads as one of their channels, `head_dim` each.
inline std::vector<Index> s2ft_heads(std::span<const Index> heads, Index head_dim) {
  std::vector<Index> channels;
  for (const Index h : heads)
    for (Index j = 0; j < head_dim; ++j) channels.push_back(h * head_dim + j);
  return channels;
}

/// Rows of W: row i becomes what row order[i] was. A column permutation is that of W.transposed().
template <class T>
void permute_rows(std::span<const Index> order, MatrixView<T> W) {
  if (static_cast<Index>(order.size()) != W.rows())
    throw shape_error(tessera::detail::concat("tessera: co_permute: a permutation of ",
                                              static_cast<Index>(order.size()), " channels, (",
                                              tessera::detail::shape_text(W.rows(), W.cols()), ") has ", W.rows()));
  if (std::vector<char> taken(order.size()); !std::all_of(order.begin(), order.end(), [&](Index i) {
        return i >= 0 && i < W.rows() && std::exchange(taken[static_cast<std::size_t>(i)], char(1)) == 0;
      }))
    throw shape_error(tessera::detail::concat("tessera: co_permute: expected each of 0 to ", W.rows() - 1, " once"));
  Buffer<T> column(W.rows());
  for (Index j = 0; j < W.cols(); ++j) {
    for (Index i = 0; i < W.rows(); ++i) column[i] = W(order[static_cast<std::size_t>(i)], j);
    for (Index i = 0; i < W.rows(); ++i) W(i, j) = column[i];
  }
}

/// The same channels of coupled layers: of those that make them (W_up, W_gate; W_v) the rows, of those that take them
/// (W_down; W_o) the columns. What the layers compute together does not change. In place.
template <class T>
void co_permute(std::span<const Index> order, std::initializer_list<MatrixView<T>> makers,
                std::initializer_list<MatrixView<T>> takers) {
  for (const auto& W : makers) permute_rows(order, W);
  for (const auto& W : takers) permute_rows(order, W.transposed());
}

/// Backward of Y = X·Wᵀ where only rows [0, k) of W (out, in) learn, k = dW.rows(): dW = beta·dW + dY[:, :k]ᵀ·X, and
/// dX = dY·W + beta_dx·dX where it has data. k/out of the flops of a whole dW.
template <class T>
void partial_linear_backward(Context& ctx, std::type_identity_t<MatrixView<const T>> W,
                             std::type_identity_t<MatrixView<const T>> X, std::type_identity_t<MatrixView<const T>> dY,
                             MatrixView<T> dX, std::type_identity_t<T> beta_dx, std::type_identity_t<T> beta,
                             MatrixView<T> dW) {
  if (dW.rows() > W.rows() || dY.cols() != W.rows())
    throw shape_error(tessera::detail::concat("tessera: partial_linear_backward of W (",
                                              tessera::detail::shape_text(W.rows(), W.cols()), "): dY (",
                                              tessera::detail::shape_text(dY.rows(), dY.cols()), "), dW (",
                                              tessera::detail::shape_text(dW.rows(), dW.cols()), ")"));
  if (dX.data() != nullptr) gemm<T>(ctx, T(1), dY, W, beta_dx, dX);
  gemm<T>(ctx, T(1), MatrixView<const T>(dY.data(), {dY.rows(), dW.rows()}, dY.strides()).transposed(), X, beta, dW);
}
/// The same where columns [0, k) learn, k = dW.cols(): `saved` is X[:, :k] (n, k), all that the forward pass keeps of
/// X. Stored by its columns (W.transposed() row-major), such a W has its learning part in one piece too.
template <class T>
void partial_linear_backward_columns(Context& ctx, std::type_identity_t<MatrixView<const T>> W,
                                     std::type_identity_t<MatrixView<const T>> saved,
                                     std::type_identity_t<MatrixView<const T>> dY, MatrixView<T> dX,
                                     std::type_identity_t<T> beta_dx, std::type_identity_t<T> beta, MatrixView<T> dW) {
  if (dX.data() != nullptr) gemm<T>(ctx, T(1), dY, W, beta_dx, dX);
  gemm<T>(ctx, T(1), dY.transposed(), saved, beta, dW);
}

/// What fine-tuning made of a part of W, kept beside the base: attached it is exactly what was trained, detached the
/// base is there again bit for bit.
template <class T>
class S2Adapter {
 public:
  /// `base` and `trained`: the part before and after, any strides.
  S2Adapter(MatrixView<const T> base, MatrixView<const T> trained)
      : rows_(base.rows()), cols_(base.cols()), base_(copy(base)), trained_(copy(trained)) {}
  void attach(MatrixView<T> part) const { put(trained_, part); }
  void detach(MatrixView<T> part) const { put(base_, part); }
  /// part += weight·(trained - base): several adapters at once.
  void add(T weight, MatrixView<T> part) const {
    check(part);
    for (Index i = 0; i < rows_; ++i)
      for (Index j = 0; j < cols_; ++j) part(i, j) += weight * (trained_[i * cols_ + j] - base_[i * cols_ + j]);
  }

 private:
  void check(MatrixView<const T> from) const {
    if (from.rows() != rows_ || from.cols() != cols_)
      throw shape_error(tessera::detail::concat("tessera: S2Adapter of (", tessera::detail::shape_text(rows_, cols_),
                                                ") and (", tessera::detail::shape_text(from.rows(), from.cols()), ")"));
  }
  Buffer<T> copy(MatrixView<const T> from) const {
    check(from);
    Buffer<T> to(rows_ * cols_);
    for (Index i = 0; i < rows_; ++i)
      for (Index j = 0; j < cols_; ++j) to[i * cols_ + j] = from(i, j);
    return to;
  }
  void put(const Buffer<T>& from, MatrixView<T> to) const {
    check(to);
    for (Index i = 0; i < rows_; ++i)
      for (Index j = 0; j < cols_; ++j) to(i, j) = from[i * cols_ + j];
  }
  Index rows_, cols_;
  Buffer<T> base_, trained_;
};

}  // namespace tessera::inline TESSERA_ABI::nn
