/// A link or chain on some of the blocks.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string_view>
#include <utility>

#include <tessera/optim/nested.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
template <class Step>
struct MaskedStep {
  bool on;
  Step step;
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V& p) const {
    if (on) step(u, p);
  }
};

template <class L>
concept Slotless = ElementwiseTransform<L> && std::tuple_size_v<std::remove_cvref_t<decltype(L::slots)>>
== 0;
}  // namespace detail

/// Of an element-wise link that keeps nothing: stays element-wise.
template <class Link, class Mask>
struct MaskedElementwise {
  static constexpr std::string_view name = Link::name;
  static constexpr std::array<std::string_view, 0> slots{};
  Link link;
  Mask mask;

  template <class T>
  auto step(Index count, const Parameter<T>& p) const {
    return detail::MaskedStep<detail::step_t<Link, T>>{mask(p), link.step(count, p)};
  }
};

/// Of anything else: the inner chain works on the updates in memory, and keeps state for the taken blocks only.
template <class Inner, class Mask>
struct Masked {
  static constexpr std::string_view name = "masked";
  Inner inner;
  Mask mask;

  template <class T>
  struct State : detail::InnerState<Inner, T> {
    detail::Part<T> part;
  };

  template <class T>
  State<T> init(const Parameters<T>& params) const {
    auto part = detail::Part<T>::where(mask, params);
    return {{inner.init(part.params)}, std::move(part)};
  }
  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, State<T>& state,
                 const Parameters<T>& params) const {
    state.part.transform(inner, ctx, updates, state.inner, params);
  }
};

/// `what`, a link or chain, on the blocks for which `mask(const ParameterInfo&)` holds; the others' updates pass as
/// they are (optax.masked). Reducing links inside see the taken blocks only.
template <class What, class Mask>
auto masked(const What& what, Mask mask) {
  if constexpr (detail::Slotless<What>)
    return MaskedElementwise<What, Mask>{what, std::move(mask)};
  else
    return Masked<detail::optimizer_t<What>, Mask>{detail::as_optimizer(what), std::move(mask)};
}

}  // namespace tessera::inline TESSERA_ABI::optim
