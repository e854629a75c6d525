/// Cautious updates: what goes against the gradient stays.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <string_view>

#include <tessera/optim/block_state.hpp>
#include <tessera/optim/nested.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
struct KeepAgreeing {
  template <class V>
  TESSERA_INLINE void operator()(std::array<V, 1>& kept, V& u, const V& g) const {
    using T = typename V::value_type;
    const V zero = V(T(0)), product = u * g;  // NaN stays
    kept[0] = kept[0] + select(product <= zero, zero, V(T(1)));
    u = select(product <= zero, zero, u);
  }
};
}  // namespace detail

/// u ← 0 where the inner links' direction u and the gradient before them have not one sign; what is left times
/// n/(kept + eps) in each block of n. Stands before weight decay and the rate:
///   chain(cautious(scale_by_adam()), add_decayed_weights(0.1), scale_by_learning_rate(rate))
/// K. Liang et al., "Cautious Optimizers: Improving Training with One Line of Code" (2024), algorithm 1, where eps is
/// 1; optax.contrib.cautious, around an optimizer whose decay and rate the mask then takes in. State: the inner one.
template <class Inner>
struct Cautious {
  static constexpr std::string_view name = "cautious";
  Inner inner;
  double eps;

  template <class T>
  using State = detail::InnerState<Inner, T>;
  template <class T>
  State<T> init(const Parameters<T>& params) const {
    return {inner.init(params)};
  }
  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, State<T>& state,
                 const Parameters<T>& params) const {
    Workspace::Scope scope(ctx.workspace);
    auto* grads = scope.take<T*>(static_cast<Index>(updates.size()));
    for (std::size_t b = 0; b < updates.size(); ++b) {
      grads[b] = scope.take<T>(updates[b].extent(0));
      std::copy_n(updates[b].data(), updates[b].extent(0), grads[b]);
    }
    inner.transform(ctx, updates, state.inner, params);
    for (std::size_t b = 0; b < updates.size(); ++b) {
      const Index n = updates[b].extent(0);
      const double kept =
          detail::map_sums<1>(ctx, detail::KeepAgreeing{}, updates[b], VectorView<const T>(grads[b], n))[0];
      if (kept > 0) detail::scale_in_place(ctx, static_cast<double>(n) / (kept + eps), updates[b]);
    }
  }
};
template <class What>
auto cautious(const What& what, double eps = 1e-8) {
  return Cautious<detail::optimizer_t<What>>{detail::as_optimizer(what), detail::checked_least("cautious", "eps", eps)};
}

}  // namespace tessera::inline TESSERA_ABI::optim
