/// Diagonal plus low rank, singular diagonals among them, by a small bordered system.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include <Eigen/LU>
#include <tessera/expr/closed_form.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// det A by the LU factors of A.
template <class Matrix>
auto lu_log_determinant(const Eigen::PartialPivLU<Matrix>& lu) {
  using S = typename Matrix::Scalar;
  if (lu.rows() == 0) return LogDeterminant<S>{};
  auto d = log_determinant_of_diagonal(Eigen::VectorX<S>(lu.matrixLU().diagonal()));
  if (lu.permutationP().determinant() < 0) d.sign = -d.sign;
  return d;
}
template <class Matrix>
auto lu_log_determinant(const Matrix& A) {
  if (A.rows() == 0) return LogDeterminant<typename Matrix::Scalar>{};
  return lu_log_determinant(Eigen::PartialPivLU<Matrix>(A));
}

/// A = diag(d) + U Vᵀ (N,N), U and V (N,R), as [D U; Vᵀ -I] [x; t] = [b; 0]. The entries of d are eliminated but for
/// the `held` ones, at most R that are zero or less than `small` of their rows' |u||v|; they stay in the core
///   M = [D_h U_h; V_hᵀ -(I + VᵀD⁻¹U)]   (k+R, k+R), the products over the entries that are not held,
/// whose LU is of O((k+R)³), at most 8 times Woodbury's, which this is without held entries. A is singular where more
/// than R entries are zero. O(N·R²).
template <std::floating_point S>
class Bordered {
 public:
  using Matrix = Eigen::MatrixX<S>;
  using Vector = Eigen::VectorX<S>;
  static constexpr S for_solutions = S(0.125);
  /// An operator pays for each held entry in every product.
  static S for_operators() { return std::sqrt(std::numeric_limits<S>::epsilon()); }

  Bordered(const Vector& d, const Matrix& U, const Matrix& V, S small) : pivots_(d), rank_(U.cols()) {
    if (rank_ == 0) return;
    std::vector<std::pair<S, Index>> candidates;
    for (Index i = 0; i < d.size(); ++i) {
      const S beside = U.row(i).stableNorm() * V.row(i).stableNorm();
      if (d[i] == S(0))
        candidates.emplace_back(S(0), i);
      else if (std::abs(d[i]) < small * beside)
        candidates.emplace_back(std::abs(d[i]) / beside, i);
    }
    std::sort(candidates.begin(), candidates.end());
    for (std::size_t i = 0; i < candidates.size() && static_cast<Index>(i) < rank_; ++i)
      held_.push_back(candidates[i].second);
    for (const Index i : held_) pivots_[i] = std::numeric_limits<S>::infinity();
    const Index k = held(), size = k + rank_;
    Matrix M = Matrix::Zero(size, size);
    for (Index i = 0; i < k; ++i) {
      const Index at = held_[static_cast<std::size_t>(i)];
      M(i, i) = d[at];
      M.row(i).tail(rank_) = U.row(at);
      M.col(i).tail(rank_) = V.row(at).transpose();
    }
    M.bottomRightCorner(rank_, rank_) =
        -(Matrix::Identity(rank_, rank_) + V.transpose() * pivots_.asDiagonal().inverse() * U);
    lu_.compute(M);
  }

  /// d with infinity where it is held, so that division by it is 0 there.
  const Vector& pivots() const { return pivots_; }
  Index held() const { return static_cast<Index>(held_.size()); }
  Index held(Index i) const { return held_[static_cast<std::size_t>(i)]; }
  Index rank() const { return rank_; }
  /// op(M)⁻¹ T of T (held + rank, n), rank > 0.
  Matrix solve(Op op, const Matrix& T) const {
    if (op == Op::none) return lu_.solve(T);
    return lu_.transpose().solve(T);
  }
  /// det A = (-1)^R ∏ pivots · det M
  LogDeterminant<S> log_determinant() const {
    LogDeterminant<S> total;
    for (Index i = 0; i < pivots_.size(); ++i)
      if (!std::isinf(pivots_[i])) total = total * LogDeterminant<S>::of(pivots_[i]);
    if (rank_ == 0) return total;
    total = total * lu_log_determinant(lu_);
    if (rank_ % 2 == 1) total.sign = -total.sign;
    return total;
  }
  /// L, R (N, held + rank) with A⁻¹ = diag(1/pivots) + L Rᵀ.
  std::pair<Matrix, Matrix> inverse_factors(const Matrix& U, const Matrix& V) const {
    const Index n = pivots_.size(), k = held();
    Matrix L = Matrix::Zero(n, k + rank_), R = L;
    for (Index i = 0; i < k; ++i) L(held(i), i) = R(held(i), i) = S(1);
    L.rightCols(rank_) = -(pivots_.asDiagonal().inverse() * U);
    R.rightCols(rank_) = -(pivots_.asDiagonal().inverse() * V);
    if (L.size() > 0) {
      const Matrix solved = lu_.transpose().solve(L.transpose());  // L M⁻¹
      L = solved.transpose();
    }
    return {std::move(L), std::move(R)};
  }

 private:
  Vector pivots_;
  Index rank_;
  std::vector<Index> held_;
  Eigen::PartialPivLU<Matrix> lu_;
};

}  // namespace tessera::inline TESSERA_ABI::detail
