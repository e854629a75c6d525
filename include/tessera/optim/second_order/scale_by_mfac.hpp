/// M-FAC as a link.
#pragma once

#include <tessera/optim/second_order/mfac_window.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// `damping` > 0: λ is that times the mean square of the window's gradients, and u is multiplied by it.
struct MFacOptions {
  Index window = 32;
  double lambda = 1e-5;
  double damping = 0;
};

/// u ← F⁻¹u over all blocks as one vector, F that of the last `window` gradients, this one among them. F >= λ·I, so
/// |F⁻¹u|² <= uᵀF⁻¹u/λ: on a loss of curvature L every step falls at rates below 2λ/L, or 2/L with `damping`, whose
/// steps are no longer than the gradient's and up to 1 + 1/damping shorter where the window has most of its squares.
/// At higher rates gradients of one and the same batch, nearly parallel, leave what is not in their span 1/λ too long.
struct ScaleByMFac {
  static constexpr std::string_view name = "scale_by_mfac";
  MFacOptions options;

  template <class T>
  struct State : MFacDynamic<T> {
    using MFacDynamic<T>::MFacDynamic;
  };
  template <class T>
  State<T> init(const Parameters<T>& params) const {
    if (!(options.damping >= 0 && std::isfinite(options.damping)))
      throw unsupported_error(
          detail::concat("tessera: scale_by_mfac: damping = ", options.damping, "; expected 0 or more"));
    return State<T>(detail::total_size(params), options.window, options.lambda);
  }
  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, State<T>& state, const Parameters<T>&) const {
    Workspace::Scope scope(ctx.workspace);
    const VectorView<T> g(scope.take<T>(state.dim()), state.dim()), u(scope.take<T>(state.dim()), state.dim());
    detail::gather(updates, g);
    const bool taken = state.push(ctx, VectorView<const T>(g));
    const double factor = options.damping > 0 ? state.damp(options.damping) : 1;
    if (taken)
      state.ihvp_newest(ctx, u);
    else
      state.ihvp(ctx, VectorView<const T>(g), u);
    if (factor != 1) detail::scale_in_place(ctx, factor, u);
    detail::scatter(VectorView<const T>(u), updates);
  }
};
inline ScaleByMFac scale_by_mfac(MFacOptions options = {}) { return {options}; }

}  // namespace tessera::inline TESSERA_ABI::optim
