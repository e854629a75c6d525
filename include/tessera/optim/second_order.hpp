/// Methods with more of the curvature than a diagonal, by their usual names; `rate` is a number or a schedule. K-FAC
/// and MKOR are told of layers by `observe`: `link_state<"scale_by_kfac">(state)` is the state that it wants.
#pragma once

#include <tessera/optim/adam.hpp>
#include <tessera/optim/alias.hpp>
#include <tessera/optim/named.hpp>
#include <tessera/optim/second_order/graft.hpp>
#include <tessera/optim/second_order/kfac.hpp>
#include <tessera/optim/second_order/lbfgs.hpp>
#include <tessera/optim/second_order/mfac.hpp>
#include <tessera/optim/second_order/mkor.hpp>
#include <tessera/optim/second_order/natural_gradient.hpp>
#include <tessera/optim/second_order/scale_by_lbfgs.hpp>
#include <tessera/optim/second_order/scale_by_mfac.hpp>
#include <tessera/optim/second_order/shampoo.hpp>
#include <tessera/optim/second_order/soap.hpp>
#include <tessera/optim/second_order/tiles.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// With Adam's step lengths.
template <class Rate, class Mask = everything>
auto shampoo(Rate rate, ShampooOptions options = {}, double momentum = 0.9, double weight_decay = 0, Mask mask = {}) {
  return chain(graft(scale_by_shampoo(options), scale_by_adam({.b1 = 0})), trace(momentum),
               add_decayed_weights(weight_decay, mask), scale_by_learning_rate(rate));
}
/// Of tiles of at most `side` rows and columns; lengths are of whole blocks.
template <class Rate, class Mask = everything>
auto shampoo_tiles(Rate rate, Index side, ShampooOptions options = {}, double momentum = 0.9, double weight_decay = 0,
                   Mask mask = {}) {
  return chain(graft(in_tiles(scale_by_shampoo(options), side), scale_by_adam({.b1 = 0})), trace(momentum),
               add_decayed_weights(weight_decay, mask), scale_by_learning_rate(rate));
}
template <class Rate, class Mask = everything>
auto soap(Rate rate, SoapOptions options = {}, double weight_decay = 0, Mask mask = {}) {
  return chain(scale_by_soap(options), add_decayed_weights(weight_decay, mask), scale_by_learning_rate(rate));
}
template <class Rate>
auto kfac(Rate rate, KfacOptions options = {}, double momentum = 0.9) {
  return chain(scale_by_kfac(options), trace(momentum), scale_by_learning_rate(rate));
}
template <class Rate>
auto mkor(Rate rate, MkorOptions options = {}, double momentum = 0.9) {
  return chain(scale_by_mkor(options), trace(momentum), scale_by_learning_rate(rate));
}
template <class Rate>
auto mfac(Rate rate, MFacOptions options = {}) {
  return chain(scale_by_mfac(options), scale_by_learning_rate(rate));
}

}  // namespace tessera::inline TESSERA_ABI::optim
