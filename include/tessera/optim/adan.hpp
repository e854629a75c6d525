/// Adan.
#pragma once

#include <array>
#include <string_view>

#include <tessera/optim/moments.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// b1 for the average of gradients, b2 of their differences, b3 of squares; eps is outside the root, eps_root inside.
struct AdanOptions {
  double b1 = 0.98;
  double b2 = 0.92;
  double b3 = 0.99;
  double eps = 1e-8;
  double eps_root = 0;
};

namespace detail {
template <class T>
struct AdanStep {
  Average<T> first, difference, square;
  T m_factor, v_factor;  // the bias corrections; v's times b2
  T b2;
  Root<T> root;
  bool first_step;

  template <class V>
  TESSERA_INLINE void operator()(V& u, const V&, V& m, V& v, V& n, V& before) const {
    const V g = u, d = first_step ? V(T(0)) : g - before;
    const V ahead = fma(V(b2), d, g);
    m = first(m, g);
    v = difference(v, d);
    n = square(n, ahead * ahead);
    before = g;
    u = fma(V(v_factor), v, V(m_factor) * m) / root(n);
  }
};
}  // namespace detail

/// With d = g - g_before (0 at first): m, v, n the averages of g, d and (g + b2·d)²;
/// u ← (m_hat + b2·v_hat)/(√(n_hat + eps_root) + eps). State: four numbers a parameter.
/// X. Xie et al., "Adan: Adaptive Nesterov Momentum Algorithm" (2022), algorithm 1, corrected for the bias as in its
/// authors' code. b are what averages keep; the paper's are 1 - b.
struct ScaleByAdan {
  static constexpr std::string_view name = "scale_by_adan";
  static constexpr std::array<std::string_view, 4> slots{"m", "v", "n", "g"};
  static constexpr std::array<std::string_view, 1> squares{"n"};
  AdanOptions options;

  template <class T>
  detail::AdanStep<T> step(Index count, const Parameter<T>&) const {
    const auto& o = options;
    const double t = detail::time_of(count);
    return {detail::Average<T>(o.b1),
            detail::Average<T>(o.b2),
            detail::Average<T>(o.b3),
            static_cast<T>(detail::debias(o.b1, t)),
            static_cast<T>(o.b2 * detail::debias(o.b2, t)),
            static_cast<T>(o.b2),
            {detail::debias(o.b3, t), o.eps_root, o.eps},
            count == 0};
  }
};
inline ScaleByAdan scale_by_adan(AdanOptions options = {}) {
  return {detail::checked_options(ScaleByAdan::name, options)};
}

}  // namespace tessera::inline TESSERA_ABI::optim
