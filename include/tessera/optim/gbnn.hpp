/// A hidden layer trained by gradient boosting, a few units at a time.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include <tessera/core/rng.hpp>
#include <tessera/optim/alias.hpp>
#include <tessera/optim/gbnn_network.hpp>
#include <tessera/optim/schedules_more.hpp>
#include <tessera/optim/unit_wise.hpp>

namespace tessera::inline TESSERA_ABI::optim {

enum class BoostLoss { squared, logistic };  // logistic: y = ±1, the network says log odds

/// How many units in how many stages, and how each stage is fitted.
struct GbnnOptions {
  Index stages = 10, units = 4;  // T, J
  BoostLoss loss = BoostLoss::squared;
  double shrinkage = 0.5;
  Index inner_steps = 300;  // of Adam, on all rows, for each stage
  double rate = 0.05;       // where they begin; falls along half a cosine
  std::uint64_t seed = 0;
};

namespace detail {
template <class T>
struct TanhBack {  // d ← d·(1 - h²)
  template <class V>
  TESSERA_INLINE void operator()(V& d, const V& h) const {
    d = fnma(d * h, h, d);
  }
};
}  // namespace detail

/// Stage by stage: pseudo-residuals r of the loss, J tanh units fitted to them by least squares, a Newton step along
/// what they say (halved until the loss falls), times `shrinkage`. S. Emami, G. Martínez-Muñoz, "Sequential Training of
/// Neural Networks with Gradient Boosting" (2019, IEEE Access 2023), algorithm 1; units by Adam instead of L-BFGS.
/// X (n, features), y (n). The training loss never rises. Throws shape_error, unsupported_error, property_error
/// for numbers that are not finite. T·inner_steps passes
/// over J units.
template <class T>
Gbnn<T> gbnn_fit(Context& ctx, MatrixView<const T> X, std::span<const T> y, const GbnnOptions& o = {}) {
  const Index n = X.rows(), d = X.cols(), J = o.units;
  if (static_cast<Index>(y.size()) != n || n == 0 || J < 1 || o.stages < 0)
    throw shape_error(tessera::detail::concat("tessera: gbnn_fit of X ", tessera::detail::shape_text(n, d), ", ",
                                              y.size(), " targets, ", o.stages, " stages of ", J, " units"));
  for (Index i = 0; i < n; ++i) {
    const T target = y[static_cast<std::size_t>(i)];
    for (Index j = 0; j <= d; ++j)
      if (const T value = j < d ? X(i, j) : target; !std::isfinite(value))
        throw property_error(tessera::detail::concat(
            "tessera: gbnn_fit: ",
            j < d ? tessera::detail::concat("X(", i, ", ", j, ")") : detail::concat("target ", i), " is ",
            static_cast<double>(value), "; expected a finite number"));
  }
  const bool logistic = o.loss == BoostLoss::logistic;
  if (const auto odd = std::find_if(y.begin(), y.end(), [](T v) { return v != T(1) && v != T(-1); });
      logistic && odd != y.end())
    throw unsupported_error(tessera::detail::concat("tessera: gbnn_fit: target ", odd - y.begin(), " is ",
                                                    static_cast<double>(*odd), "; expected 1 or -1"));
  const auto loss = [&](const std::vector<double>& F) {
    double sum = 0;
    for (std::size_t i = 0; i < F.size(); ++i) {
      const double m = -static_cast<double>(y[i]) * F[i], e = static_cast<double>(y[i]) - F[i];
      sum += logistic ? std::max(m, 0.0) + std::log1p(std::exp(-std::abs(m))) : 0.5 * e * e;
    }
    return sum / static_cast<double>(n);
  };
  Gbnn<T> net{d,
              o.stages,
              J,
              {},
              Buffer<T>(o.stages * J * d),
              Buffer<T>(o.stages * J),
              Buffer<T>(o.stages * J),
              Buffer<T>(o.stages),
              {}};
  double mean = 0;
  for (const T v : y) mean += static_cast<double>(v) / static_cast<double>(n);
  if (logistic) mean = std::log((1 + mean + 1e-9) / (1 - mean + 1e-9));
  net.start = static_cast<T>(mean);
  std::vector<double> F(y.size(), mean), h(y.size()), next(y.size()), slope(y.size()), second(y.size());
  net.history.push_back(loss(F));

  Buffer<T> c(1), dW(J * d), db(J), da(J), dc(1), H(n * J), dH(n * J), said(n), r(n);
  const MatrixView<T> hidden(H.data(), n, J), back(dH.data(), n, J);
  const auto opt = adam(cosine_decay{.init = o.rate, .steps = o.inner_steps});
  for (Index t = 0; t < o.stages; ++t) {
    const MatrixView<T> W(net.W.data() + t * J * d, J, d);
    const VectorView<T> b(net.bias.data() + t * J, J), a(net.output.data() + t * J, J);
    const Philox draws(o.seed, static_cast<std::uint64_t>(t));
    for (Index k = 0; k < J * d; ++k)
      W.data()[k] = static_cast<T>(draws.normal(static_cast<std::uint64_t>(k)) / std::sqrt(static_cast<double>(d)));
    for (Index k = 0; k < J; ++k)
      a[k] = static_cast<T>(draws.normal(static_cast<std::uint64_t>(J * d + k)) / std::sqrt(static_cast<double>(J)));
    double size = 0;
    for (std::size_t i = 0; i < F.size(); ++i) {
      const double p = 1 / (1 + std::exp(-F[i])), v = static_cast<double>(y[i]);
      slope[i] = logistic ? (v + 1) / 2 - p : v - F[i];
      second[i] = logistic ? p * (1 - p) : 1;
      size += slope[i] * slope[i];
    }
    const double scale = std::sqrt(size / static_cast<double>(n)) + 1e-300;  // units are fitted to numbers of size 1
    for (Index i = 0; i < n; ++i) r[i] = static_cast<T>(slope[static_cast<std::size_t>(i)] / scale);
    c[0] = T(0);
    const Parameters<T> params{{"W", W},
                               {"b", std::span<T>(b.data(), static_cast<std::size_t>(J))},
                               {"a", std::span<T>(a.data(), static_cast<std::size_t>(J))},
                               {"c", std::span<T>(c)}},
        grads{{"W", MatrixView<T>(dW.data(), J, d)},
              {"b", std::span<T>(db)},
              {"a", std::span<T>(da)},
              {"c", std::span<T>(dc)}};
    auto state = opt.init(params);
    const auto forward = [&] {  // said ← what the units say
      detail::tanh_layer<T>(ctx, X, W, b, hidden);
      std::fill(said.begin(), said.end(), c[0]);
      gemv<T>(ctx, T(1), hidden, a, T(1), VectorView<T>(said.data(), n));
    };
    for (Index step = 0; step < o.inner_steps; ++step) {
      forward();
      for (Index i = 0; i < n; ++i) said[i] = (said[i] - r[i]) / static_cast<T>(n);
      const MatrixView<const T> error(said.data(), n, 1);
      gemv<T>(ctx, T(1), hidden.transposed(), VectorView<const T>(said.data(), n), T(0), VectorView<T>(da.data(), J));
      gemm<T>(ctx, T(1), error, MatrixView<const T>(a.data(), 1, J), T(0), back);
      map(ctx, detail::TanhBack<T>{}, VectorView<T>(dH.data(), n * J), VectorView<const T>(H.data(), n * J));
      gemm<T>(ctx, T(1), back.transposed(), X, T(0), MatrixView<T>(dW.data(), J, d));
      nn::bias_backward<T>(ctx, back, T(0), VectorView<T>(db.data(), J));
      dc[0] = static_cast<T>(detail::sum(said.data(), n));
      opt.update(ctx, grads, state, params);
    }
    forward();
    double along = 0, bend = 0;
    for (std::size_t i = 0; i < F.size(); ++i) {
      h[i] = static_cast<double>(said[static_cast<Index>(i)]);
      along += slope[i] * h[i];
      bend += second[i] * h[i] * h[i];
    }
    double step = bend > 0 ? o.shrinkage * along / bend : 0, now = net.history.back();
    for (int halving = 0; halving < 40; ++halving, step *= 0.5) {
      for (std::size_t i = 0; i < F.size(); ++i) next[i] = F[i] + step * h[i];
      if (now = loss(next); now < net.history.back()) break;
    }
    if (!(now < net.history.back())) step = 0, next = F, now = net.history.back();
    std::swap(F, next);
    net.history.push_back(now);
    for (Index k = 0; k < J; ++k) a[k] *= static_cast<T>(step);
    net.offset[t] = c[0] * static_cast<T>(step);
  }
  return net;
}

}  // namespace tessera::inline TESSERA_ABI::optim
