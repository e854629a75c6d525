/// M-FAC as a link.
#pragma once

#include <tessera/optim/second_order/mfac_window.hpp>

namespace tessera::inline TESSERA_ABI::optim {

struct MFacOptions {
  Index window = 32;
  double lambda = 1e-5;
};

/// u ← F⁻¹u over all blocks as one vector, F that of the last `window` gradients, this one among them.
struct ScaleByMFac {
  static constexpr std::string_view name = "scale_by_mfac";
  MFacOptions options;

  template <class T>
  struct State : MFacDynamic<T> {
    using MFacDynamic<T>::MFacDynamic;
  };
  template <class T>
  State<T> init(const Parameters<T>& params) const {
    return State<T>(detail::total_size(params), options.window, options.lambda);
  }
  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, State<T>& state, const Parameters<T>&) const {
    Workspace::Scope scope(ctx.workspace);
    const VectorView<T> g(scope.take<T>(state.dim()), state.dim()), u(scope.take<T>(state.dim()), state.dim());
    detail::gather(updates, g);
    if (state.push(ctx, VectorView<const T>(g)))
      state.ihvp_newest(ctx, u);
    else
      state.ihvp(ctx, VectorView<const T>(g), u);
    detail::scatter(VectorView<const T>(u), updates);
  }
};
inline ScaleByMFac scale_by_mfac(MFacOptions options = {}) { return {options}; }

}  // namespace tessera::inline TESSERA_ABI::optim
