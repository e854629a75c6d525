/// Decoupled weight decay.
#pragma once

#include <array>
#include <string_view>
#include <utility>

#include <tessera/optim/transform.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
template <class T>
struct DecayStep {
  T decay;
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V& p) const {
    u = fma(V(decay), p, u);
  }
};
}  // namespace detail

/// u ← u + decay·p for the blocks that the mask takes; after Adam this is AdamW's decay.
/// I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization" (ICLR 2019), algorithm 2.
template <class Mask>
struct AddDecayedWeights {
  static constexpr std::string_view name = "add_decayed_weights";
  static constexpr std::array<std::string_view, 0> slots{};
  double decay = 0;
  Mask mask{};  // bool(const ParameterInfo&)

  template <class T>
  detail::DecayStep<T> step(Index, const Parameter<T>& p) const {
    return {mask(p) ? static_cast<T>(decay) : T(0)};
  }
};

template <class Mask = everything>
AddDecayedWeights<Mask> add_decayed_weights(double decay, Mask mask = {}) {
  return {decay, std::move(mask)};
}

}  // namespace tessera::inline TESSERA_ABI::optim
