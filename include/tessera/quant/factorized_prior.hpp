/// A learned distribution of one variable: a rising chain of small layers, as logits.
/// J. Ballé et al., "Variational Image Compression with a Scale Hyperprior" (2018), §6.1.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <span>

#include <tessera/core/config.hpp>
#include <tessera/simd/math.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// A channel's cumulative distribution: σ of four layers 1 → 3 → 3 → 3 → 1, x ↦ g(H x + b), g(z) = z + a ∘ tanh z
/// (the last: g(z) = z), rising because H > 0 and a > -1. Held as softplus⁻¹(H), b, tanh⁻¹(a).
struct PriorLayers {
  static constexpr std::array<int, 5> width{1, 3, 3, 3, 1};
  static constexpr int layers = 4, most = 3;
  static constexpr int matrix(int k) { return k == 0 ? 0 : matrix(k - 1) + per(k - 1); }
  static constexpr int per(int k) { return w(k + 1) * (w(k) + (k + 1 < layers ? 2 : 1)); }
  static constexpr int bias(int k) { return matrix(k) + w(k + 1) * w(k); }
  static constexpr int gain(int k) { return bias(k) + w(k + 1); }
  static constexpr int w(int k) { return width[static_cast<std::size_t>(k)]; }
  static constexpr int parameters = 3 * 3 + 2 * 3 * 5 + 1 * 4;
};

/// H, b and a themselves.
template <class T>
using PriorNumbers = std::array<T, PriorLayers::parameters>;

template <class T>
PriorNumbers<T> prior_numbers(std::span<const float> held) {
  using L = PriorLayers;
  PriorNumbers<T> p{};
  for (int k = 0; k < L::layers; ++k)
    for (int i = L::matrix(k); i < L::matrix(k) + L::per(k); ++i) {
      const auto at = static_cast<std::size_t>(i);
      const double h = static_cast<double>(held[at]);
      const double softplus = h > 30 ? h : std::log1p(std::exp(h));
      p[at] = static_cast<T>(i < L::bias(k) ? softplus : k + 1 < L::layers && i >= L::gain(k) ? std::tanh(h) : h);
    }
  return p;
}

/// u = the logit of the distribution at x, slope = du/dx.
template <class V, class T>
TESSERA_FLAT void prior_logit(const T* p, const V& x, V& u, V& slope) {
  using L = PriorLayers;
  V h[L::most] = {x, x, x}, d[L::most] = {V(T(1)), V(T(1)), V(T(1))};
  for (int k = 0; k < L::layers; ++k) {
    V z[L::most], s[L::most];
    for (int i = 0; i < L::w(k + 1); ++i) {
      z[i] = V(p[L::bias(k) + i]);
      s[i] = V(T(0));
      for (int j = 0; j < L::w(k); ++j) {
        const V weight(p[L::matrix(k) + i * L::w(k) + j]);
        z[i] = fma(weight, h[j], z[i]);
        s[i] = fma(weight, d[j], s[i]);
      }
      if (k + 1 < L::layers) {
        const V a(p[L::gain(k) + i]), t = tanh(z[i]);
        s[i] = s[i] * fma(a, fnma(t, t, V(T(1))), V(T(1)));
        z[i] = fma(a, t, z[i]);
      }
    }
    for (int i = 0; i < L::w(k + 1); ++i) {
      h[i] = z[i];
      d[i] = s[i];
    }
  }
  u = h[0];
  slope = d[0];
}

/// bits = -log2 P(y - 1/2 <= . < y + 1/2), at most 40; slope = d bits / dy.
template <class T>
struct PriorBits {
  const T* p;
  template <class V>
  TESSERA_INLINE void operator()(V& bits, V& slope, const V& y) const {
    V low, high, dlow, dhigh;
    prior_logit(p, V(y - V(T(0.5))), low, dlow);
    prior_logit(p, V(y + V(T(0.5))), high, dhigh);
    // In the upper half 1 - σ(u) = σ(-u) keeps its digits.
    const V flip = select(low + high > V(T(0)), V(T(-1)), V(T(1)));
    const V a = sigmoid(V(flip * low)), b = sigmoid(V(flip * high));
    const V chance = max(V(T(0x1p-40)), V(abs(b - a)));
    constexpr T per_bit = std::numbers::log2e_v<T>;
    bits = V(-per_bit) * log(chance);
    slope = V(-per_bit) * (b * (V(T(1)) - b) * dhigh - a * (V(T(1)) - a) * dlow) / chance;
  }
};

/// One evaluation with what its gradient needs.
struct PriorTrace {
  using L = PriorLayers;
  double in[L::layers][L::most], t[L::layers][L::most];
  double run(const PriorNumbers<double>& p, double x) {
    double h[L::most] = {x};
    for (int k = 0; k < L::layers; ++k) {
      double z[L::most];
      for (int i = 0; i < L::w(k + 1); ++i) {
        z[i] = at(p, L::bias(k) + i);
        for (int j = 0; j < L::w(k); ++j) z[i] += at(p, L::matrix(k) + i * L::w(k) + j) * h[j];
        t[k][i] = std::tanh(z[i]);
        if (k + 1 < L::layers) z[i] += at(p, L::gain(k) + i) * t[k][i];
      }
      std::copy_n(h, L::w(k), in[k]);
      std::copy_n(z, L::w(k + 1), h);
    }
    return h[0];
  }
  /// grad += d · ∂ run / ∂ (H, b, a)
  void back(const PriorNumbers<double>& p, double d, PriorNumbers<double>& grad) const {
    double g[L::most] = {d};
    for (int k = L::layers; k-- > 0;) {
      double below[L::most] = {};
      for (int i = 0; i < L::w(k + 1); ++i) {
        double dz = g[i];
        if (k + 1 < L::layers) {
          grad[static_cast<std::size_t>(L::gain(k) + i)] += g[i] * t[k][i];
          dz *= 1 + at(p, L::gain(k) + i) * (1 - t[k][i] * t[k][i]);
        }
        grad[static_cast<std::size_t>(L::bias(k) + i)] += dz;
        for (int j = 0; j < L::w(k); ++j) {
          grad[static_cast<std::size_t>(L::matrix(k) + i * L::w(k) + j)] += dz * in[k][j];
          below[j] += dz * at(p, L::matrix(k) + i * L::w(k) + j);
        }
      }
      std::copy_n(below, L::most, g);
    }
  }
  static double at(const PriorNumbers<double>& p, int i) { return p[static_cast<std::size_t>(i)]; }
};

}  // namespace tessera::inline TESSERA_ABI::detail
