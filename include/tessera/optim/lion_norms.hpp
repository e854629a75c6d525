/// Lion-K of norms that do not go by element, and what any Lion-K lets fall.
#pragma once

#include <cmath>
#include <span>
#include <string_view>

#include <tessera/kernels/map/map.hpp>
#include <tessera/kernels/sum_squares/sum_squares.hpp>
#include <tessera/optim/lion.hpp>
#include <tessera/optim/unit_wise.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
/// out ← |u|^power, 0 at 0; NaN stays.
template <class T>
struct AbsolutePower {
  T power;
  template <class V>
  TESSERA_INLINE void operator()(V& out, const V& u) const {
    const V a = abs(u);
    out = select(a == V(T(0)), V(T(0)), exp(V(power) * log(a)));
  }
};
template <class T>
struct SignedPower {  // u ← sign(u)·|factor·u|^power
  T power, factor;
  template <class V>
  TESSERA_INLINE void operator()(V& u) const {
    V a = u * V(factor);
    AbsolutePower<T>{power}(a, a);
    u = copysign(a, u);
  }
};
}  // namespace detail

/// u ← ∇|u|_p of each block, that is sign(u)·(|u|/|u|_p)^(p-1), of length 1 in the dual norm; zeros stay. Behind
/// `scale_by_lion_k(kappa::half_squared{})` it is the Lion-K of κ = Σ over blocks of |·|_p, whose decay λ keeps each
/// block inside |x|_q <= 1/λ, 1/p + 1/q = 1. Group norms are the same with `scale_by_lmo`: rows, columns, spectrum.
/// L. Chen, B. Liu, K. Liang, Q. Liu (ICLR 2024), table 2. State: none. Two reads, two logarithms an element.
struct ScaleByNormGradient {
  static constexpr std::string_view name = "scale_by_norm_gradient";
  struct State {};
  double p = 2;

  template <class T>
  State init(const Parameters<T>&) const {
    return {};
  }
  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, State&, const Parameters<T>&) const {
    for (const VectorView<T>& u : updates) {
      Workspace::Scope scope(ctx.workspace);
      const VectorView<T> half(scope.take<T>(u.extent(0)), u.extent(0));
      map(ctx, detail::AbsolutePower<T>{static_cast<T>(p / 2)}, half, VectorView<const T>(u));
      const double norm = std::pow(sum_squares(ctx, VectorView<const T>(half)), 1 / p);
      if (norm != 0) map(ctx, detail::SignedPower<T>{static_cast<T>(p - 1), static_cast<T>(1 / norm)}, u);
    }
  }
};
/// Throws unsupported_error unless 1 < p < ∞: for 1 it is `kappa::l1`.
inline ScaleByNormGradient scale_by_norm_gradient(double p) {
  if (!(p > 1 && std::isfinite(p)))
    throw unsupported_error(
        tessera::detail::concat("tessera: scale_by_norm_gradient(", p, "): expected 1 < p; for 1 use kappa::l1"));
  return {p};
}

/// What Lion-K lets fall for small rates, the constraint in it: f(x) + κ*(λx)/λ + c·(κ*(λx) + κ(m) + λ·⟨m, x⟩), c as in
/// `lion_lyapunov`, which is this where κ* is 0. Theorem 3.1 of the same paper, divided by α.
inline double lion_k_lyapunov(double f, double kappa_of_m, double conjugate, double product, double rate, double decay,
                              double b1 = 0.9, double b2 = 0.99) {
  return lion_lyapunov(f + conjugate / decay, kappa_of_m + conjugate, product, rate, decay, b1, b2);
}

}  // namespace tessera::inline TESSERA_ABI::optim
