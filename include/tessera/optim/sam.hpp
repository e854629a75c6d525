/// Sharpness-aware minimisation.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>

#include <tessera/optim/clip.hpp>
#include <tessera/optim/nested.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
template <class T>
struct Multiply {
  template <class V>
  TESSERA_INLINE void operator()(V& out, const V& a, const V& b) const {
    out = a * b;
  }
};
template <class T>
struct Climb {  // along g, or along p²·g
  T by;
  bool adaptive;
  template <class V>
  TESSERA_INLINE void operator()(V& p, const V& g) const {
    p = fma(V(by), adaptive ? p * p * g : g, p);
  }
};
}  // namespace detail

/// Two calls a step, each with gradients where the parameters then are:
///   opt.perturb(ctx, grads, state, params);   params += rho·g/‖g‖, the highest point near by
///   opt.update(ctx, grads, state, params);    back again, bit for bit, and a step of the inner optimizer
/// or, without gradients there, opt.restore(state, params), back again alone.
/// P. Foret et al., "Sharpness-Aware Minimization" (ICLR 2021), algorithm 1. `adaptive`: rho·p²g/‖p·g‖, J. Kwon et al.,
/// "ASAM" (ICML 2021), eq. 9. State: one number a parameter and the inner state.
template <class Inner>
struct Sam {
  Inner inner;
  double rho;
  bool adaptive;

  template <class T>
  struct State : detail::WrapperState<State<T>, Inner, T> {  // the parameters, while they are perturbed
    Index perturbed = 0;
    using detail::WrapperState<State, Inner, T>::WrapperState;
    template <class F>
    void list_buffers(const std::string& prefix, F&& f) {
      detail::list_value(f, prefix + "perturbed", perturbed);
      this->list_kept(prefix, "kept", f);
    }
  };

  template <class T>
  State<T> init(const Parameters<T>& params) const {
    return State<T>(params, inner);
  }
  /// Throws unsupported_error after another perturb.
  template <class T>
  void perturb(Context& ctx, const Parameters<T>& grads, State<T>& state, const Parameters<T>& params) const {
    state.check(params, grads);
    if (state.perturbed != 0)
      throw unsupported_error("tessera: sam: perturb after perturb; expected update with the gradients found there");
    double sum = 0;
    for (std::size_t b = 0; b < params.size(); ++b) {
      const VectorView<const T> g = grads[b].view(), p = params[b].view();
      if (adaptive) {  // `kept` is free until the copy below
        map(ctx, detail::Multiply<T>{}, state.view(b), p, g);
        sum += sum_squares(ctx, VectorView<const T>(state.view(b)));
      } else {
        sum += sum_squares(ctx, g);
      }
    }
    const double by = rho / (std::sqrt(sum) + 1e-12);
    state.keep(params);
    for (std::size_t b = 0; b < params.size(); ++b)
      map(ctx, detail::Climb<T>{static_cast<T>(by), adaptive}, params[b].view(), VectorView<const T>(grads[b].view()));
    state.perturbed = 1;
  }
  /// params, bit for bit, as they were before perturb; nothing without one.
  template <class T>
  void restore(State<T>& state, const Parameters<T>& params) const {
    state.check(params);
    if (state.perturbed == 0) return;
    for (std::size_t b = 0; b < params.size(); ++b) std::copy_n(state.kept[b].data(), params[b].size(), params[b].data);
    state.perturbed = 0;
  }
  /// Throws unsupported_error without perturb before it.
  template <class T>
  void update(Context& ctx, const Parameters<T>& grads, State<T>& state, const Parameters<T>& params) const {
    state.check(params, grads);
    if (state.perturbed == 0)
      throw unsupported_error("tessera: sam: update without perturb; expected perturb, gradients there, then update");
    restore(state, params);
    inner.update(ctx, grads, state.inner, params);
  }
};

template <class What>
auto sam(const What& what, double rho = 0.05, bool adaptive = false) {
  return Sam<detail::optimizer_t<What>>{detail::as_optimizer(what), rho, adaptive};
}

}  // namespace tessera::inline TESSERA_ABI::optim
