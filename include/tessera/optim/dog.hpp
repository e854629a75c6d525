/// Distance over gradients: step sizes from how far the parameters have come.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <tessera/optim/block_state.hpp>
#include <tessera/optim/chain.hpp>
#include <tessera/optim/scale.hpp>
#include <tessera/optim/trust_ratio.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// The first distance is `distance`, or if that is 0 relative·(1 + ‖x_0‖): small enough for the first step to be, 1e-4
/// with batch norm; or with `first_rate` over 0 the first step has that rate and the distance begins at 0.
/// `layer_wise`: every block by itself (L-DoG).
struct DogOptions {
  double relative = 1e-6;
  double distance = 0;
  double first_rate = 0;
  double eps = 1e-8;
  bool layer_wise = false;
};
/// `squared_distance` is the first guess, 0 for eps.
struct DowgOptions {
  double squared_distance = 0;
  double eps = 1e-4;
};

namespace detail {
struct AddSquaredDistance {
  template <class Sums, class V>
  TESSERA_INLINE void operator()(Sums& sums, const V& x, const V& y) const {
    const V off = x - y;
    sums[0] = fma(off, off, sums[0]);
  }
};

/// Where the parameters began, and two numbers for each group: one block, or all.
template <class T>
struct FromStart : BlockState<T, 1> {
  std::vector<double> farthest, squares, factors;
  FromStart(const Parameters<T>& params, std::size_t groups)
      : BlockState<T, 1>({"start"}, params, [](const ParameterInfo& p) { return std::array<Index, 1>{p.size()}; }),
        farthest(groups),
        squares(groups),
        factors(params.size(), 1) {
    check_memory(params, "parameter");
    for (std::size_t b = 0; b < params.size(); ++b)
      std::copy_n(params[b].data, params[b].size(), this->blocks[b][0].data());
  }
  template <class F>
  void for_each_buffer(const std::string& prefix, const std::vector<ParameterInfo>& infos, F&& f) {
    f(prefix + "farthest", std::span<double>(farthest));
    f(prefix + "squares", std::span<double>(squares));
    BlockState<T, 1>::for_each_buffer(prefix, infos, f);
  }
  /// ‖x - x_0‖² and ‖u‖², by group.
  void measure(Context& ctx, std::span<const VectorView<const T>> updates, const Parameters<T>& params,
               std::vector<double>& distances, std::vector<double>& norms) {
    distances.assign(farthest.size(), 0);
    norms.assign(farthest.size(), 0);
    for (std::size_t b = 0; b < params.size(); ++b) {
      const std::size_t g = std::min(b, farthest.size() - 1);
      distances[g] += map_sums<1>(ctx, AddSquaredDistance{}, VectorView<const T>(params[b].view()),
                                  VectorView<const T>(this->view(b, 0)))[0];
      norms[g] += sum_squares(ctx, updates[b]);
    }
  }
  /// u ← rate of its group·u.
  template <class Rate>
  ScaleEachBlock<T> scaled(Rate&& rate) {
    for (std::size_t b = 0; b < factors.size(); ++b) factors[b] = rate(std::min(b, farthest.size() - 1));
    ++this->count;
    return {&factors};
  }
};
}  // namespace detail

/// r ← max(r, ‖x - x_0‖), s ← s + ‖g‖²; u ← r/√(s + eps)·g. Better evaluated at an average of the parameters
/// (`averaged`). State: one number a parameter; one more read of parameters, starts and updates.
/// M. Ivgi, O. Hinder, Y. Carmon, "DoG is SGD's Best Friend: A Parameter-Free Dynamic Step Size Schedule" (ICML 2023),
/// eq. 2; by block §4; optax.contrib.scale_by_dog, optax.scale_by_distance_over_gradients.
struct ScaleByDog {
  static constexpr std::string_view name = "scale_by_dog";
  DogOptions options;

  template <class T>
  struct State : detail::FromStart<T> {
    std::vector<double> distances, norms;  // of this step
    using detail::FromStart<T>::FromStart;
  };
  template <class T>
  State<T> init(const Parameters<T>& params) const {
    const std::size_t groups = options.layer_wise ? std::max<std::size_t>(params.size(), 1) : 1;
    State<T> state(params, groups);
    std::vector<double> squares(groups);
    Context ctx;
    for (std::size_t b = 0; b < params.size(); ++b)
      squares[std::min(b, groups - 1)] += sum_squares(ctx, VectorView<const T>(params[b].view()));
    for (std::size_t g = 0; g < groups; ++g)
      state.farthest[g] = options.first_rate > 0 ? 0
                          : options.distance > 0 ? options.distance
                                                 : options.relative * (1 + std::sqrt(squares[g]));
    return state;
  }
  template <class T>
  detail::ScaleEachBlock<T> reduce(Context& ctx, std::span<const VectorView<const T>> updates, State<T>& state,
                                   const Parameters<T>& params) const {
    state.measure(ctx, updates, params, state.distances, state.norms);
    const bool given = state.count == 0 && options.first_rate > 0;
    for (std::size_t g = 0; g < state.farthest.size(); ++g) {
      state.farthest[g] = std::max(state.farthest[g], std::sqrt(state.distances[g]));
      state.squares[g] += state.norms[g];
    }
    return state.scaled([&](std::size_t g) {
      return given ? options.first_rate : state.farthest[g] / std::sqrt(state.squares[g] + options.eps);
    });
  }
};
inline ScaleByDog scale_by_dog(DogOptions options = {}) { return {detail::checked_options(ScaleByDog::name, options)}; }

/// r² ← max(r², ‖x - x_0‖²), s ← s + r²·‖g‖²; u ← r²/(√s + eps)·g: DoG with weights, which grows faster. State: one
/// number a parameter.
/// A. Khaled, K. Mishchenko, C. Jin, "DoWG Unleashed: An Efficient Universal Parameter-Free Gradient Descent Method"
/// (NeurIPS 2023), algorithm 1; optax.contrib.scale_by_dowg.
struct ScaleByDowg {
  static constexpr std::string_view name = "scale_by_dowg";
  DowgOptions options;

  template <class T>
  using State = ScaleByDog::State<T>;
  template <class T>
  State<T> init(const Parameters<T>& params) const {
    State<T> state(params, 1);
    state.farthest[0] = options.squared_distance > 0 ? options.squared_distance : options.eps;  // squared here
    return state;
  }
  template <class T>
  detail::ScaleEachBlock<T> reduce(Context& ctx, std::span<const VectorView<const T>> updates, State<T>& state,
                                   const Parameters<T>& params) const {
    state.measure(ctx, updates, params, state.distances, state.norms);
    double& square = state.farthest[0];
    square = std::max(square, state.distances[0]);
    state.squares[0] += square * state.norms[0];
    return state.scaled([&](std::size_t) { return square / (std::sqrt(state.squares[0]) + options.eps); });
  }
};
inline ScaleByDowg scale_by_dowg(DowgOptions options = {}) {
  detail::checked_positive(ScaleByDowg::name, "eps", options.eps);
  return {options};
}

template <class Rate>
auto dog(Rate rate, DogOptions options = {}) {
  return chain(scale_by_dog(options), scale_by_learning_rate(rate));
}
template <class Rate>
auto dowg(Rate rate, DowgOptions options = {}) {
  return chain(scale_by_dowg(options), scale_by_learning_rate(rate));
}

}  // namespace tessera::inline TESSERA_ABI::optim
