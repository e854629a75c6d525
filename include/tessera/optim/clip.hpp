/// Clipping by the norm of all gradients together.
#pragma once

#include <span>
#include <string_view>

#include <tessera/optim/norm.hpp>
#include <tessera/optim/scale.hpp>
#include <tessera/optim/transform.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
/// Base of links that scale all updates by `factor(norm of them together)`; the norm last seen is their state.
template <class Link>
struct ScaleByGlobalNorm {
  struct State {
    double norm = 0;
  };
  template <class T>
  State init(const Parameters<T>&) const {
    return {};
  }
  template <class T>
  ScaleStep<T> reduce(Context& ctx, std::span<const VectorView<const T>> updates, State& state) const {
    return of_norm<T>(global_norm<T>(ctx, updates), state);
  }
  template <class T>
  ScaleStep<T> of_norm(double norm, State& state) const {
    state.norm = norm;
    return {static_cast<T>(static_cast<const Link&>(*this).factor(norm))};
  }
};
}  // namespace detail

/// u ← u·(max_norm/norm) where the norm of all updates is not under max_norm; smaller ones stay bit for bit.
/// R. Pascanu et al., "On the difficulty of training recurrent neural networks" (ICML 2013), algorithm 1, over all
/// parameters, as optax.clip_by_global_norm. A NaN anywhere makes every update NaN; an infinity makes the rest zero
/// and itself NaN. Its state is the norm last seen.
struct ClipByGlobalNorm : detail::ScaleByGlobalNorm<ClipByGlobalNorm> {
  static constexpr std::string_view name = "clip_by_global_norm";
  double max_norm = 1;
  explicit ClipByGlobalNorm(double limit = 1) : max_norm(limit) {}
  double factor(double norm) const { return norm < max_norm ? 1 : max_norm / norm; }
};

inline ClipByGlobalNorm clip_by_global_norm(double max_norm) {
  return ClipByGlobalNorm(detail::checked_least(ClipByGlobalNorm::name, "max_norm", max_norm));
}

}  // namespace tessera::inline TESSERA_ABI::optim
