/// Sophia: momentum over a diagonal of the Hessian, clipped.
#pragma once

#include <array>
#include <string_view>

#include <tessera/kernels/map/map.hpp>
#include <tessera/optim/moments.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// `every` > 0: at every such step h takes batch·g², the gradient's own (empirical Fisher). 0: h is what
/// `observe_hessian` was given.
struct SophiaOptions {
  double b1 = 0.96;
  double b2 = 0.99;
  double gamma = 0.05;
  double eps = 1e-12;
  double clip = 1;
  Index every = 10;
  double batch = 1;
};

namespace detail {
template <class T>
struct SophiaStep {
  Average<T> first, second;
  T batch, gamma, eps, clip;
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V&, V& mu, V& h) const {
    const V g = u;
    mu = first(mu, g);
    h = second(h, V(batch) * (g * g));
    u = clamp(mu / max(V(eps), V(gamma) * h), V(clip));
  }
};

template <class T>
struct TakeHessian {
  Average<T> average;
  template <class V>
  TESSERA_INLINE void operator()(V& h, const V& estimate) const {
    h = average(h, estimate);
  }
};
}  // namespace detail

/// mu ← b1·mu + (1-b1)·g;  u ← mu/max(gamma·h, eps) cut to [-clip, clip]. State: two numbers a parameter.
/// H. Liu et al., "Sophia: A Scalable Stochastic Second-order Optimizer for Language Model Pre-training" (ICLR 2024),
/// algorithm 3. Its estimators (Hutchinson's, Gauss-Newton-Bartlett's batch·ĝ² with labels drawn from the model) come
/// in by `observe_hessian`; the default takes the gradient's square, which needs no second pass and is no more than
/// "like" it.
struct ScaleBySophia {
  static constexpr std::string_view name = "scale_by_sophia";
  static constexpr std::array<std::string_view, 2> slots{"mu", "h"};
  SophiaOptions options;

  template <class T>
  detail::SophiaStep<T> step(Index count, const Parameter<T>&) const {
    const auto& o = options;
    const bool look = o.every > 0 && count % o.every == 0;
    return {detail::Average<T>(o.b1),
            detail::Average<T>(look ? o.b2 : 1),
            static_cast<T>(look ? o.batch : 0),
            static_cast<T>(o.gamma),
            static_cast<T>(o.eps),
            static_cast<T>(o.clip)};
  }

  /// h ← b2·h + (1-b2)·estimate, over all blocks; `state` is this link's, std::get<i>(state.links) of its chain. Throws
  /// shape_error where blocks differ.
  template <class T>
  void observe_hessian(Context& ctx, SlotState<T, 2>& state, const Parameters<T>& estimates) const {
    if (state.blocks.size() != estimates.size())
      throw shape_error(detail::concat("tessera: scale_by_sophia: ", estimates.size(), " blocks of Hessian, but ",
                                       state.blocks.size(), " of state"));
    for (std::size_t b = 0; b < estimates.size(); ++b) {
      auto& h = state.blocks[b][1];
      map(ctx, detail::TakeHessian<T>{detail::Average<T>(options.b2)}, VectorView<T>(h.data(), h.size()),
          VectorView<const T>(estimates[b].view()));
    }
  }
};
inline ScaleBySophia scale_by_sophia(SophiaOptions options = {}) {
  return {detail::checked_options(ScaleBySophia::name, options)};
}

}  // namespace tessera::inline TESSERA_ABI::optim
