/// M-FAC of a fixed set of gradients.
#pragma once

#include <algorithm>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include <tessera/core/order.hpp>
#include <tessera/matrix/diagonal_plus_low_rank.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// The inverse of F = λ·I + (1/m)·Σ g_i g_iᵀ (d,d), gradients being G's rows (m,d). E. Frantar, E. Kurtic, D. Alistarh,
/// "M-FAC: Efficient Matrix-Free Approximations of Second-Order Information" (NeurIPS 2021), §3.1. Their recursion over
/// the gradients is Woodbury's formula taken a rank at a time; here it is taken at once, as the library inverts a
/// diagonal plus low rank: F⁻¹ is `inverse()`, an operator. O(d·m²) and 2·d·m numbers to make, O(d·m) a product, O(m)
/// an element. Throws shape_error without gradients, unsupported_error unless λ > 0.
template <class T>
class MFacStatic {
 public:
  MFacStatic(MatrixView<const T> G, double lambda) : inverse_(inverted(fisher(G, lambda))) {}

  Index dim() const { return inverse_.rows(); }
  const DiagonalPlusLowRank<T>& inverse() const { return inverse_; }

  /// F⁻¹ x of (d).
  Eigen::VectorX<T> ihvp(Context& ctx, const Eigen::VectorX<T>& x) const {
    if (x.size() != dim())
      throw shape_error(tessera::detail::concat("tessera: MFacStatic of ", dim(), " parameters times ", x.size()));
    Eigen::VectorX<T> y(dim());
    inverse_.apply(ctx, Op::none, T(1), view(x), T(0), view(y));
    return y;
  }
  /// F⁻¹(i,j). Throws shape_error outside.
  T inv_elem(Index i, Index j) const {
    if (i < 0 || j < 0 || i >= dim() || j >= dim())
      throw shape_error(tessera::detail::concat("tessera: MFacStatic of ", dim(), " parameters: element (", i, ", ", j,
                                                "); expected 0 to ", dim() - 1));
    T sum = i == j ? inverse_.main().entries()[i] : T(0);
    for (Index k = 0; k < inverse_.rank(); ++k) sum += inverse_.left()(i, k) * inverse_.right()(j, k);
    return sum;
  }
  /// What zeroing each of w (d) alone adds to the quadratic model: w_i²/(2·F⁻¹(i,i)). B. Hassibi, D. Stork, "Second
  /// Order Derivatives for Network Pruning: Optimal Brain Surgeon" (1992), eq. 5.
  Eigen::VectorX<T> saliency(std::span<const T> w) const {
    check(w.size());
    Eigen::VectorX<T> all(dim());
    for (Index i = 0; i < dim(); ++i)
      all[i] = w[static_cast<std::size_t>(i)] * w[static_cast<std::size_t>(i)] / (2 * inv_elem(i, i));
    return all;
  }
  /// Sets the `count` weights of least saliency to zero and moves the others to the minimum of the quadratic model
  /// under that: δ = -F⁻¹E_Q (F⁻¹_QQ)⁻¹ w_Q, all of Q together, by the inverse of a diagonal plus low rank again. O((d
  /// + count)·m²). Returns Q, rising.
  std::vector<Index> prune(Context& ctx, std::span<T> w, Index count) const {
    const Eigen::VectorX<T> gain = -saliency(w);
    if (count < 0 || count > dim())
      throw shape_error(tessera::detail::concat("tessera: MFacStatic: prune ", count, " of ", dim(), " weights"));
    std::vector<Index> order(w.size());
    std::iota(order.begin(), order.end(), Index{0});
    std::sort(order.begin(), order.end(), tessera::detail::FallingScores{gain});
    order.resize(static_cast<std::size_t>(count));
    std::sort(order.begin(), order.end());
    Eigen::VectorX<T> d(count), pruned(count), z(count), spread = Eigen::VectorX<T>::Zero(dim());
    Eigen::MatrixX<T> U(count, inverse_.rank()), V(count, inverse_.rank());
    for (Index q = 0; q < count; ++q) {
      const Index i = order[static_cast<std::size_t>(q)];
      d[q] = inverse_.main().entries()[i];
      pruned[q] = w[static_cast<std::size_t>(i)];
      for (Index k = 0; k < inverse_.rank(); ++k) {
        U(q, k) = inverse_.left()(i, k);
        V(q, k) = inverse_.right()(i, k);
      }
    }
    diagonal_plus_low_rank(d, U, V).solve(ctx, Op::none, view(std::as_const(pruned)), view(z));
    for (Index q = 0; q < count; ++q) spread[order[static_cast<std::size_t>(q)]] = z[q];
    const Eigen::VectorX<T> move = ihvp(ctx, spread);
    for (Index i = 0; i < dim(); ++i) w[static_cast<std::size_t>(i)] -= move[i];
    for (const Index i : order) w[static_cast<std::size_t>(i)] = 0;
    return order;
  }

 private:
  void check(std::size_t size) const {
    if (static_cast<Index>(size) != dim())
      throw shape_error(tessera::detail::concat("tessera: MFacStatic of ", dim(), " parameters: ", size, " weights"));
  }
  static DiagonalPlusLowRank<T> fisher(MatrixView<const T> G, double lambda) {
    if (G.rows() == 0 || !(lambda > 0))
      throw unsupported_error(tessera::detail::concat("tessera: MFacStatic of ", G.rows(), " gradients, lambda = ",
                                                      lambda, "; expected at least 1, and more than 0"));
    Buffer<T> d(G.cols(), uninitialized);
    std::fill_n(d.data(), d.size(), static_cast<T>(lambda));
    Dense<T> U(G.transposed()), V(G.transposed());
    for (T& u : U.parameters()) u /= static_cast<T>(G.rows());
    return {Diagonal<T>(std::move(d)), std::move(U), std::move(V)};
  }
  DiagonalPlusLowRank<T> inverse_;
};

}  // namespace tessera::inline TESSERA_ABI::optim
