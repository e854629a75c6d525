/// Bilevel optimisation with many lower problems, a few of which are looked at in each step.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <Eigen/Eigenvalues>

#include <tessera/core/error.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/optim/nested.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// Which samples a value is of: the same draw at two points is the same samples.
struct BatchDraw {
  Philox words;
  Index size;
};

/// Rates, how much is drawn in a step, and how fast what is tracked forgets.
struct BsvrbOptions {
  Index blocks = 1, samples = 1;          // I of all blocks a step, B samples of each
  double rate = 0.01;                     // of x
  double lower_rate = 0.1;                // of each y_i, and of v_i
  double alpha = 0.1;                     // how fast trackers of lower gradients and Hessians forget
  double beta = 0.1;                      // how fast the hypergradient's does
  bool products = false;                  // v_i by Hessian-vector products, else H_i inverted
  double curvature = 1e-3, radius = 1e3;  // H_i >= curvature·I; |v_i| <= radius
  bool variance_reduction = true;         // false: plain stochastic gradients
  std::uint64_t seed = 0;
};

/// min over x of F(x) = (1/m)·Σ f_i(x, y_i(x)), y_i(x) = argmin g_i(x, y), g_i strongly convex in y:
///   ∇F = (1/m)·Σ ∇_x f_i - ∇²_xy g_i·v_i,  v_i = (∇²_yy g_i)⁻¹∇_y f_i.
/// Q. Hu, Z. Qiu, Z. Guo, L. Zhang, T. Yang, "Blockwise Stochastic Variance-Reduced Methods with Parallel Speedup for
/// Multi-Block Bilevel Optimization" (ICML 2023), in both forms: H_i inverted, v_i by products. Trackers of
/// each block are MSVR's: h ← (1-α)h + α·g + γ(g - g'), γ = (m-I)/(I(1-α)) + 1-α, g' the same samples at the point
/// before, so that lower_rate·γ must stay below 1 over the curvature of g; x's is STORM's: z ← G + (1-β)(z - G'). A
/// block seen for the first time starts with its samples.
/// Problem, all of it for block i and samples d:
///   blocks(), upper_size(), lower_size(i)
///   lower_gradient(i, x, y, d) → ∇_y g (n)      lower_hessian(i, x, y, d) → ∇²_yy g (n, n), unless `products`
///   lower_product(i, x, y, v, d) → ∇²_yy g·v, if `products`      cross_product(i, x, y, v, d) → ∇²_xy g·v (of x)
///   upper_gradients(i, x, y, d) → pair of ∇_x f, ∇_y f
/// A step: two of each for I blocks, and O(I·n³) for inverses.
template <class Problem>
class Bsvrb : public detail::ListedState<Bsvrb<Problem>> {
 public:
  using Vector = Eigen::VectorXd;
  /// Throws shape_error for another x, unsupported_error for what the message says.
  Bsvrb(const Problem& problem, const BsvrbOptions& options, Vector x)
      : problem_(problem), o_(options), x_(std::move(x)), old_x_(x_), z_(Vector::Zero(x_.size())) {
    const Index m = problem.blocks();
    if (x_.size() != problem.upper_size())
      throw shape_error(tessera::detail::concat("tessera: bsvrb: x of ", x_.size(), ", not ", problem.upper_size()));
    if (o_.blocks < 1 || o_.blocks > m || o_.samples < 1 ||
        !(o_.alpha > 0 && o_.alpha < 1 && o_.beta > 0 && o_.beta <= 1))
      throw unsupported_error(tessera::detail::concat("tessera: bsvrb with ", o_.blocks, " of ", m, " blocks, ",
                                                      o_.samples, " samples, alpha ", o_.alpha, ", beta ", o_.beta,
                                                      "; expected 1 to m, 1 or more, (0, 1), (0, 1]"));
    if (!std::isfinite(o_.rate) || !std::isfinite(o_.lower_rate) || !(o_.curvature > 0 && o_.radius > 0))
      throw unsupported_error(tessera::detail::concat(
          "tessera: bsvrb with rate ", o_.rate, ", lower_rate ", o_.lower_rate, ", curvature ", o_.curvature,
          ", radius ", o_.radius, "; expected finite rates, curvature and radius above 0"));
    for (Index i = 0; i < m; ++i) {
      order_.push_back(i);
      const Vector zero = Vector::Zero(problem.lower_size(i));
      const Index n = o_.products ? 0 : zero.size();
      lower_.push_back({zero, zero, zero, zero, zero, zero, Eigen::MatrixXd::Zero(n, n), 0});
    }
  }

  const Vector& x() const { return x_; }
  const Vector& y(Index i) const { return lower_[static_cast<std::size_t>(i)].y; }
  const Vector& hypergradient() const { return z_; }  // tracked

  /// Throws shape_error and property_error where what the problem gives for a block has another size or is not finite;
  /// nothing has moved then.
  void step() {
    const Philox words(o_.seed, 2 * static_cast<std::uint64_t>(count_));
    const std::size_t m = order_.size(), I = static_cast<std::size_t>(o_.blocks);
    std::vector<std::size_t> with(I);
    for (std::size_t k = 0; k < I; ++k) {
      with[k] = k + words.below(k, m - k);
      std::swap(order_[k], order_[with[k]]);
    }
    Vector now = Vector::Zero(x_.size()), before = now;
    std::vector<Lower> next;
    next.reserve(I);
    try {
      for (std::size_t k = 0; k < I; ++k) next.push_back(visit(order_[k], now, before));
    } catch (...) {
      for (std::size_t k = I; k-- > 0;) std::swap(order_[k], order_[with[k]]);
      throw;
    }
    for (std::size_t k = 0; k < I; ++k) lower_[static_cast<std::size_t>(order_[k])] = std::move(next[k]);
    now /= static_cast<double>(I), before /= static_cast<double>(I);
    z_ = o_.variance_reduction && count_ > 0 ? Vector(now + (1 - o_.beta) * (z_ - before)) : now;
    old_x_ = x_;
    x_ -= o_.rate * z_;
    ++count_;
  }

  /// All that a run goes on from, x and the lower variables in it.
  template <class F>
  void list_buffers(const std::string& prefix, F&& f) {
    const auto list = [&](const std::string& name, auto& x) {
      if (x.size() > 0) f(prefix + name, std::span<double>(x.data(), static_cast<std::size_t>(x.size())));
    };
    detail::list_value(f, prefix + "count", count_);
    f(prefix + "order", std::span<Index>(order_));
    list("x", x_), list("x_before", old_x_), list("hypergradient", z_);
    for (std::size_t i = 0; i < lower_.size(); ++i) {
      Lower& b = lower_[i];
      const std::string block = detail::concat(i, ".");
      detail::list_value(f, prefix + block + "seen", b.seen);
      list(block + "y", b.y), list(block + "y_before", b.old_y), list(block + "v", b.v);
      list(block + "v_before", b.old_v), list(block + "s", b.s), list(block + "u", b.u), list(block + "H", b.H);
    }
  }

 private:
  struct Lower {
    Vector y, old_y, v, old_v, s, u;  // now and one step before; trackers of ∇_y g and of ∇²_yy g·v - ∇_y f
    Eigen::MatrixXd H;
    Index seen;  // the step it was last looked at, counted from 1
  };

  template <class V>
  void track(V& h, const V& now, const V& before, bool first) const {
    const double a = o_.alpha, m = static_cast<double>(order_.size()), I = static_cast<double>(o_.blocks);
    if (first || !o_.variance_reduction)
      h = now;
    else
      h = (1 - a) * h + a * now + ((m - I) / (I * (1 - a)) + 1 - a) * (now - before);
  }

  /// What the problem gave for block i, `rows` by `cols` and finite.
  template <class V>
  static V checked(Index i, const char* what, V x, Index rows, Index cols = 1) {
    if (x.rows() != rows || x.cols() != cols)
      throw shape_error(tessera::detail::concat("tessera: bsvrb: the ", what, " of block ", i, " is ",
                                                tessera::detail::shape_text(x.rows(), x.cols()), "; expected ",
                                                tessera::detail::shape_text(rows, cols)));
    if (!x.allFinite())
      throw property_error(
          tessera::detail::concat("tessera: bsvrb: the ", what, " of block ", i, " is not finite; expected numbers"));
    return x;
  }

  /// Adds block i's hypergradient here to `now` and at the point before to `before`; gives what becomes of the block.
  Lower visit(Index i, Vector& now, Vector& before) const {
    if (i < 0 || i >= static_cast<Index>(lower_.size()))
      throw format_error(
          tessera::detail::concat("tessera: bsvrb: block ", i, " of ", lower_.size(), " in the state that was read"));
    Lower b = lower_[static_cast<std::size_t>(i)];
    const BatchDraw d{
        Philox(o_.seed, 2 * static_cast<std::uint64_t>(count_) + 1 + (static_cast<std::uint64_t>(i) << 40)),
        o_.samples};
    const Index n = b.y.size(), p = x_.size();
    const bool first = b.seen == 0;
    if (b.seen != count_) b.old_y = b.y, b.old_v = b.v;
    b.seen = count_ + 1;
    const auto lower = [&](const Vector& x, const Vector& y) {
      return checked(i, "lower gradient", Vector(problem_.lower_gradient(i, x, y, d)), n);
    };
    const auto upper = [&](const Vector& x, const Vector& y) {
      std::pair<Vector, Vector> f = problem_.upper_gradients(i, x, y, d);
      return std::pair(checked(i, "upper gradient of x", std::move(f.first), p),
                       checked(i, "upper gradient of y", std::move(f.second), n));
    };
    const auto product = [&](const Vector& x, const Vector& y, const Vector& v) {
      return checked(i, "lower product", Vector(problem_.lower_product(i, x, y, v, d)), n);
    };
    const auto hessian = [&](const Vector& x, const Vector& y) {
      return checked(i, "lower Hessian", Eigen::MatrixXd(problem_.lower_hessian(i, x, y, d)), n, n);
    };
    const auto cross = [&](const Vector& x, const Vector& y, const Vector& v) {
      return checked(i, "cross product", Vector(problem_.cross_product(i, x, y, v, d)), p);
    };
    track(b.s, lower(x_, b.y), lower(old_x_, b.old_y), first);
    const auto [fx, fy] = upper(x_, b.y);
    const auto [old_fx, old_fy] = upper(old_x_, b.old_y);
    if (o_.products) {
      track(b.u, Vector(product(x_, b.y, b.v) - fy), Vector(product(old_x_, b.old_y, b.old_v) - old_fy), first);
    } else {
      const Eigen::MatrixXd old_H = b.H;
      track(b.H, hessian(x_, b.y), hessian(old_x_, b.old_y), first);
      b.old_v = solve(first ? b.H : old_H, old_fy);
      b.v = solve(b.H, fy);
    }
    now += fx - cross(x_, b.y, b.v);
    before += old_fx - cross(old_x_, b.old_y, b.old_v);
    b.old_y = b.y;
    b.y -= o_.lower_rate * b.s;
    if (!o_.products) return b;
    b.old_v = b.v;
    b.v -= o_.lower_rate * b.u;
    if (const double norm = b.v.norm(); norm > o_.radius) b.v *= o_.radius / norm;
    return b;
  }

  /// With H's eigenvalues no smaller than `curvature`: a tracker of semidefinite matrices need not be one.
  Vector solve(const Eigen::MatrixXd& H, const Vector& rhs) const {
    if (rhs.size() == 0) return rhs;
    const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> eig(0.5 * (H + H.transpose()));
    const Vector values = eig.eigenvalues().cwiseMax(o_.curvature);
    return eig.eigenvectors() * (eig.eigenvectors().transpose() * rhs).cwiseQuotient(values);
  }

  const Problem& problem_;
  BsvrbOptions o_;
  Vector x_, old_x_, z_;
  std::vector<Index> order_;
  std::vector<Lower> lower_;
  Index count_ = 0;
};

}  // namespace tessera::inline TESSERA_ABI::optim
