/// L-BFGS's inverse Hessian.
#pragma once

#include <array>
#include <cmath>
#include <limits>
#include <string>

#include <tessera/optim/second_order/flat.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
/// x ← x + factor·y, and Σ x·z of the new x: one pass for a step of either loop and the next one's product.
template <class T>
struct StepAndDot {
  T factor;
  template <class Sums, class V>
  TESSERA_INLINE void operator()(Sums& sums, V& x, const V& y, const V& z) const {
    x = fma(V(factor), y, x);
    sums[0] = fma(x, z, sums[0]);
  }
};
template <class T>
double step_and_dot(Context& ctx, double factor, VectorView<T> x, VectorView<const T> y, VectorView<const T> z) {
  return map_sums<1>(ctx, StepAndDot<T>{static_cast<T>(factor)}, x, y, z)[0];
}
}  // namespace detail

/// The last `memory` pairs s = x⁺ - x, y = g⁺ - g, and the H that follows from them by BFGS from γ·I, γ = sᵀy/yᵀy of
/// the newest pair. J. Nocedal, "Updating Quasi-Newton Matrices with Limited Storage" (1980). State: 2·memory·d
/// numbers. A product passes over 2·memory + 1 pairs of vectors.
template <class T>
class LbfgsMemory {
 public:
  LbfgsMemory(Index dim, Index memory) : d_(dim), m_(memory), s_(dim * memory), y_(dim * memory), inner_(3 * memory) {}
  Index size() const { return std::clamp<Index>(places_[1], 0, m_); }

  /// Takes a pair unless its curvature is too small: sᵀy <= ε·|s||y| or not finite; false then.
  bool push(Context& ctx, VectorView<const T> s, VectorView<const T> y) {
    const double sy = detail::dot(ctx, s, y), ss = detail::dot(ctx, s, s), yy = detail::dot(ctx, y, y);
    const double least = static_cast<double>(std::numeric_limits<T>::epsilon()) * std::sqrt(ss * yy);
    if (!(sy > least) || !std::isfinite(yy) || !std::isfinite(ss) || yy == 0) return false;
    const Index at = next();
    detail::copy_to(s, s_.data() + at * d_);
    detail::copy_to(y, y_.data() + at * d_);
    inner_[3 * at] = sy;
    inner_[3 * at + 1] = yy;
    places_ = {(at + 1) % m_, std::min(m_, size() + 1)};
    return true;
  }
  void clear() { places_ = {}; }

  /// g ← H g, by the two loops; without pairs g stays.
  void apply(Context& ctx, VectorView<T> g) {
    const Index n = size();
    if (n == 0) return;
    double product = detail::dot(ctx, s(0), VectorView<const T>(g));
    for (Index i = 0; i < n; ++i) {  // from the newest
      double& alpha = inner_[3 * place(i) + 2];
      alpha = product / inner_[3 * place(i)];
      product = detail::step_and_dot(ctx, -alpha, g, y(i), i + 1 < n ? s(i + 1) : y(i));
    }
    const double gamma = inner_[3 * place(0)] / inner_[3 * place(0) + 1];
    detail::scale_in_place(ctx, gamma, g);
    product *= gamma;  // with the oldest y
    for (Index i = n - 1; i >= 0; --i) {
      const double beta = product / inner_[3 * place(i)];
      product = detail::step_and_dot(ctx, inner_[3 * place(i) + 2] - beta, g, s(i), i > 0 ? y(i - 1) : s(i));
    }
  }

  template <class F>
  void list_buffers(const std::string& prefix, F&& f) {
    f(prefix + "s", std::span<T>(s_));
    f(prefix + "y", std::span<T>(y_));
    f(prefix + "inner", std::span<double>(inner_));
    f(prefix + "places", std::span<Index>(places_));
  }

 private:
  /// In bounds whatever a file had.
  Index next() const { return std::clamp<Index>(places_[0], 0, m_ - 1); }
  Index place(Index i) const { return (next() + m_ - 1 - i) % m_; }  // of the i-th newest
  VectorView<const T> s(Index i) const { return {s_.data() + place(i) * d_, d_}; }
  VectorView<const T> y(Index i) const { return {y_.data() + place(i) * d_, d_}; }

  Index d_, m_;
  Buffer<T> s_, y_;                // a pair a row
  Buffer<double> inner_;           // sᵀy, yᵀy, and the first loop's alpha
  std::array<Index, 2> places_{};  // the next one's, how many are held
};

}  // namespace tessera::inline TESSERA_ABI::optim
