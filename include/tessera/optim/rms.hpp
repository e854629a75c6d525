/// Gradients over the root of their squares: Adagrad, RMSprop, Adadelta.
#pragma once

#include <array>
#include <string_view>

#include <tessera/optim/moments.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
template <class T>
struct RssStep {
  T added, eps;
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V&, V& sum) const {
    sum = fma(u, u, sum + V(added));
    u = select(sum == V(T(0)), V(T(0)), u / sqrt(sum + V(eps)));
  }
};

template <class T>
struct RmsStep {
  Average<T> average;
  T added;
  Root<T> root;
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V&, V& nu) const {
    nu = average(nu + V(added), u * u);
    u = u / root(nu);
  }
};

template <class T>
struct StddevStep {
  Average<T> average;
  T added, eps;
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V&, V& mu, V& nu) const {
    mu = average(mu, u);
    nu = average(nu + V(added), u * u);
    u = u / sqrt(max(V(T(0)), fnma(mu, mu, nu)) + V(eps));
  }
};

template <class T>
struct AdadeltaStep {
  Average<T> average;
  T eps;
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V&, V& e_g, V& e_x) const {
    e_g = average(e_g, u * u);
    u = u * (sqrt(e_x + V(eps)) / sqrt(e_g + V(eps)));
    e_x = average(e_x, u * u);
  }
};
}  // namespace detail

/// s ← s + g², from `initial`;  u ← g/√(s + eps), 0 where s is. State: one number a parameter.
/// J. Duchi, E. Hazan, Y. Singer, "Adaptive Subgradient Methods" (JMLR 2011), fig. 1, diagonal.
struct ScaleByRss {
  static constexpr std::string_view name = "scale_by_rss";
  static constexpr std::array<std::string_view, 1> slots{"sum_of_squares"};
  static constexpr std::array<std::string_view, 1> squares{"sum_of_squares"};
  double initial = 0.1;
  double eps = 1e-7;

  template <class T>
  detail::RssStep<T> step(Index count, const Parameter<T>&) const {
    return {static_cast<T>(count == 0 ? initial : 0), static_cast<T>(eps)};
  }
};
inline ScaleByRss scale_by_rss(double initial = 0.1, double eps = 1e-7) {
  return {detail::checked_least(ScaleByRss::name, "initial", initial),
          detail::checked_least(ScaleByRss::name, "eps", eps)};
}

/// eps under the root, as in optax, or added to it; `bias_correction` as Adam's.
struct RmsOptions {
  double decay = 0.9;
  double eps = 1e-8;
  double initial = 0;
  bool eps_in_sqrt = true;
  bool bias_correction = false;
};

/// nu ← decay·nu + (1-decay)·g²;  u ← g/√(nu + eps). State: one number a parameter.
/// T. Tieleman, G. Hinton, "RMSprop" (Coursera, lecture 6.5, 2012).
struct ScaleByRms {
  static constexpr std::string_view name = "scale_by_rms";
  static constexpr std::array<std::string_view, 1> slots{"nu"};
  RmsOptions options;

  template <class T>
  detail::RmsStep<T> step(Index count, const Parameter<T>&) const {
    const auto& o = options;
    const double factor = o.bias_correction ? detail::debias(o.decay, detail::time_of(count)) : 1;
    return {detail::Average<T>(o.decay),
            static_cast<T>(count == 0 ? o.initial : 0),
            {factor, o.eps_in_sqrt ? o.eps : 0, o.eps_in_sqrt ? 0 : o.eps}};
  }
};
inline ScaleByRms scale_by_rms(RmsOptions options = {}) { return {detail::checked_options(ScaleByRms::name, options)}; }

/// Centred RMSprop: u ← g/√(nu - mu² + eps), mu and nu the averages of g and g². State: two numbers a parameter.
/// A. Graves, "Generating Sequences With Recurrent Neural Networks" (2013), eq. 38-40, without its momentum.
struct ScaleByStddev {
  static constexpr std::string_view name = "scale_by_stddev";
  static constexpr std::array<std::string_view, 2> slots{"mu", "nu"};
  double decay = 0.9;
  double eps = 1e-8;
  double initial = 0;

  template <class T>
  detail::StddevStep<T> step(Index count, const Parameter<T>&) const {
    return {detail::Average<T>(decay), static_cast<T>(count == 0 ? initial : 0), static_cast<T>(eps)};
  }
};
inline ScaleByStddev scale_by_stddev(double decay = 0.9, double eps = 1e-8) {
  return {detail::checked_decay(ScaleByStddev::name, "decay", decay),
          detail::checked_least(ScaleByStddev::name, "eps", eps)};
}

/// u ← g·√(e_x + eps)/√(e_g + eps), e_g and e_x the averages of g² and u² (the latter of the step before). State: two
/// numbers a parameter. M. Zeiler, "ADADELTA: An Adaptive Learning Rate Method" (2012), algorithm 1.
struct ScaleByAdadelta {
  static constexpr std::string_view name = "scale_by_adadelta";
  static constexpr std::array<std::string_view, 2> slots{"e_g", "e_x"};
  static constexpr std::array<std::string_view, 2> squares{"e_g", "e_x"};
  double rho = 0.9;
  double eps = 1e-6;

  template <class T>
  detail::AdadeltaStep<T> step(Index, const Parameter<T>&) const {
    return {detail::Average<T>(rho), static_cast<T>(eps)};
  }
};
inline ScaleByAdadelta scale_by_adadelta(double rho = 0.9, double eps = 1e-6) {
  return {detail::checked_decay(ScaleByAdadelta::name, "rho", rho),
          detail::checked_least(ScaleByAdadelta::name, "eps", eps)};
}

}  // namespace tessera::inline TESSERA_ABI::optim
