/// What block coordinate descent minimises: losses of sparse linear functions.
#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include <Eigen/Core>

#include <tessera/matrix/csr.hpp>
#include <tessera/optim/bcd_losses.hpp>
#include <tessera/optim/forest.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// f(x) = Σ_i loss(z_i, y_i) + l2/2·|x|² (+ l1·|x|₁, which is not part of the gradient), z_i = Xᵀa_i, a_i the rows of A
/// (m, d); X (d, k) is x row by row, k the loss's outputs, one for most. Holds x, all z and the whole gradient, and
/// brings them up to date after a change of some coordinates by looking at the rows these are in only: O(k·nonzeros of
/// those rows). Throws shape_error unless y has a number for each row,
/// unsupported_error for one that the loss does not take.
template <class Loss>
class LinearObjective {
 public:
  LinearObjective(Csr<double> A, std::span<const double> y, double ridge = 0, double lasso = 0, Loss loss = {})
      : l2(ridge),
        l1(lasso),
        loss_(loss),
        k_(loss.outputs()),
        A_(std::move(A)),
        At_(A_.transposed()),
        y_(y.begin(), y.end()),
        x_(size(A_.cols() * k_)),
        before_(size(k_)),
        after_(size(k_)) {
    if (static_cast<Index>(y.size()) != A_.rows())
      throw shape_error(tessera::detail::concat("tessera: objective of A ",
                                                tessera::detail::shape_text(A_.rows(), A_.cols()), " with ", y.size(),
                                                " targets; expected one for each row"));
    for (std::size_t i = 0; i < y_.size(); ++i)
      if (!loss_.takes(y_[i]))
        throw unsupported_error(
            tessera::detail::concat("tessera: objective: target ", i, " is ", y_[i], ", which its loss does not take"));
    mark_.assign(size(A_.rows()), -1);
    bound_.assign(x_.size(), l2);
    for (Index j = 0; j < A_.cols(); ++j)
      column(j, [&](Index, double a) {
        for (Index c = 0; c < k_; ++c) bound_[size(j * k_ + c)] += loss_.bound(c, c) * a * a;
      });
    refresh();
  }

  static constexpr bool quadratic = Loss::quadratic;
  const double l2, l1;
  Index cols() const { return static_cast<Index>(x_.size()); }
  std::span<const double> x() const { return x_; }
  std::span<const double> gradient() const { return gradient_; }      // of the smooth part
  std::span<const double> curvature_bound() const { return bound_; }  // of each coordinate
  /// f with l1's part. O(m + n).
  double value() const {
    double sum = 0;
    for (std::size_t i = 0; i < y_.size(); ++i) sum += loss_.value(&z_[i * size(k_)], y_[i]);
    for (const double v : x_) sum += 0.5 * l2 * v * v + l1 * std::abs(v);
    return sum;
  }

  /// The Hessian of `block`'s coordinates at x, or what bounds it everywhere: H (b, b) += . O(b·nonzeros of columns).
  void hessian(std::span<const Index> block, bool bound, Eigen::MatrixXd& H) const {
    pairs(block, bound, [&](Index a, Index b, double value) {
      H(a, b) += value;
      if (a != b) H(b, a) += value;
    });
    H.diagonal().array() += l2;
  }
  /// The same as a diagonal (b) and edges, for blocks whose graph is to be a forest; O(nonzeros of the columns) if so.
  void hessian(std::span<const Index> block, bool bound, std::vector<double>& diagonal,
               std::vector<ForestEdge>& edges) const {
    diagonal.assign(block.size(), l2);
    edges.clear();
    pairs(block, bound, [&](Index a, Index b, double value) {
      if (a == b)
        diagonal[size(a)] += value;
      else
        edges.push_back({a, b, value});
    });
  }

  /// f(x + step on block) - f(x). O(nonzeros of the columns).
  double change(std::span<const Index> block, std::span<const double> step) const {
    double sum = 0;
    for (std::size_t k = 0; k < block.size(); ++k) {
      const double x = x_[size(block[k])], to = x + step[k];
      sum += 0.5 * l2 * (to * to - x * x) + l1 * (std::abs(to) - std::abs(x));
    }
    touch(block, step);
    for (std::size_t t = 0; t < rows_.size(); ++t) {
      const std::size_t i = size(rows_[t]), k = size(k_);
      for (std::size_t c = 0; c < k; ++c) after_[c] = z_[i * k + c] + delta_[t * k + c];
      sum += loss_.value(after_.data(), y_[i]) - loss_.value(&z_[i * k], y_[i]);
    }
    untouch();
    return sum;
  }

  /// x ← x + step on block; `f(j)` for every coordinate whose derivative changed, some more than once.
  template <class F>
  void move(std::span<const Index> block, std::span<const double> step, F&& f) {
    touch(block, step);
    for (std::size_t t = 0; t < rows_.size(); ++t) {
      const std::size_t i = size(rows_[t]), k = size(k_);
      double* const z = &z_[i * k];
      loss_.slope(z, y_[i], before_.data());
      for (std::size_t c = 0; c < k; ++c) z[c] += delta_[t * k + c];
      loss_.slope(z, y_[i], after_.data());
      row(rows_[t], [&](Index j, double a) {
        for (Index c = 0; c < k_; ++c) {
          gradient_[size(j * k_ + c)] += (after_[size(c)] - before_[size(c)]) * a;
          f(j * k_ + c);
        }
      });
    }
    untouch();
    for (std::size_t k = 0; k < block.size(); ++k) {
      x_[size(block[k])] += step[k];
      gradient_[size(block[k])] += l2 * step[k];
      f(block[k]);
    }
  }

  /// A·x and the gradient from scratch, without what rounding has added up in them.
  void refresh() {
    z_.assign(size(A_.rows() * k_), 0);
    gradient_.resize(x_.size());
    for (std::size_t j = 0; j < x_.size(); ++j) gradient_[j] = l2 * x_[j];
    for (Index i = 0; i < A_.rows(); ++i) {
      double* const z = &z_[size(i * k_)];
      row(i, [&](Index j, double a) {
        for (Index c = 0; c < k_; ++c) z[c] += a * x_[size(j * k_ + c)];
      });
      loss_.slope(z, y_[size(i)], after_.data());
      row(i, [&](Index j, double a) {
        for (Index c = 0; c < k_; ++c) gradient_[size(j * k_ + c)] += after_[size(c)] * a;
      });
    }
  }

  /// Coordinates that share a row with j, j among them; some more than once.
  template <class F>
  void neighbours(Index j, F&& f) const {
    column(j / k_, [&](Index i, double) {
      row(i, [&](Index other, double) {
        for (Index c = 0; c < k_; ++c) f(other * k_ + c);
      });
    });
  }

 private:
  static std::size_t size(Index i) { return static_cast<std::size_t>(i); }
  template <class F>
  static void line(const Csr<double>& M, Index i, F&& f) {
    for (auto e = size(M.row_ptr()[size(i)]); e < size(M.row_ptr()[size(i) + 1]); ++e)
      f(static_cast<Index>(M.col_idx()[e]), M.values()[e]);
  }
  template <class F>
  void row(Index i, F&& f) const {
    line(A_, i, f);
  }
  template <class F>
  void column(Index j, F&& f) const {
    line(At_, j, f);
  }

  /// rows_ ← the rows of the block's columns, delta_ ← how their A·x change.
  void touch(std::span<const Index> block, std::span<const double> step) const {
    for (std::size_t k = 0; k < block.size(); ++k)
      column(block[k] / k_,
             [&](Index i, double a) { delta_[slot(i) * size(k_) + size(block[k] % k_)] += a * step[k]; });
  }
  std::size_t slot(Index i) const {
    if (mark_[size(i)] < 0) {
      mark_[size(i)] = static_cast<Index>(rows_.size());
      rows_.push_back(i);
      delta_.resize(delta_.size() + size(k_));
    }
    return size(mark_[size(i)]);
  }
  void untouch() const {
    for (const Index i : rows_) mark_[size(i)] = -1;
    rows_.clear();
    delta_.clear();
  }

  /// `f(a, b, part)`, a <= b places in the block, for each row's part of the Hessian.
  template <class F>
  void pairs(std::span<const Index> block, bool bound, F&& f) const {
    for (const Index j : block) column(j / k_, [&](Index i, double) { slot(i); });
    members_.resize(rows_.size());
    for (auto& list : members_) list.clear();
    for (std::size_t k = 0; k < block.size(); ++k)
      column(block[k] / k_, [&](Index i, double a) {
        members_[size(mark_[size(i)])].push_back({static_cast<Index>(k), block[k] % k_, a});
      });
    for (std::size_t t = 0; t < rows_.size(); ++t) {
      const double* const z = &z_[size(rows_[t] * k_)];
      const auto& list = members_[t];
      for (std::size_t p = 0; p < list.size(); ++p)
        for (std::size_t q = p; q < list.size(); ++q) {
          const Member &u = list[p], &v = list[q];
          f(u.place, v.place,
            (bound ? loss_.bound(u.output, v.output) : loss_.second(z, u.output, v.output)) * u.a * v.a);
        }
    }
    untouch();
  }

  struct Member {
    Index place, output;
    double a;
  };

  Loss loss_;
  Index k_;
  Csr<double> A_, At_;
  std::vector<double> y_, x_, z_, gradient_, bound_;
  mutable std::vector<Index> mark_, rows_;  // scratch: the place of a row in rows_, or -1
  mutable std::vector<double> delta_, before_, after_;
  mutable std::vector<std::vector<Member>> members_;
};

}  // namespace tessera::inline TESSERA_ABI::optim
