/// Optimizers with little state, by their usual names; `rate` is a number or a schedule. Matrices that the mask takes
/// are moved by the method, all else by AdamW at the same rate; what `decayed` takes decays.
#pragma once

#include <tessera/optim/alias.hpp>
#include <tessera/optim/apollo_mini.hpp>
#include <tessera/optim/frugal.hpp>
#include <tessera/optim/frugal_blocks.hpp>
#include <tessera/optim/low_rank_state.hpp>
#include <tessera/optim/partition.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
/// `link` for what the mask takes, which must be matrices, and Adam for the rest, both with decoupled decay.
template <class Link, class Rate, class Mask, class Decayed>
auto low_memory(const char* name, const Link& link, Rate rate, const AdamOptions& adam, double weight_decay, Mask mask,
                Decayed decayed) {
  return partition([name, mask](const ParameterInfo& p) { return mask(p) ? name : "adam"; },
                   group(name, chain(link, add_decayed_weights(weight_decay, decayed), scale_by_learning_rate(rate))),
                   group("adam", adamw(rate, adam, weight_decay, decayed)));
}
}  // namespace detail

template <class Rate, class Mask = matrices_only, class Decayed = everything>
auto apollo(Rate rate, ApolloOptions options = {}, double weight_decay = 0, std::uint64_t seed = 0, Mask mask = {},
            AdamOptions adam = {}, Decayed decayed = {}) {
  return detail::low_memory("apollo", scale_by_apollo(options, scale_by_adam(adam), gaussian_projection{seed}), rate,
                            adam, weight_decay, mask, decayed);
}

template <class Rate, class Mask = matrices_only, class Decayed = everything>
auto apollo_mini(Rate rate, ApolloOptions options = {.scale = std::sqrt(128.0)}, double weight_decay = 0,
                 std::uint64_t seed = 0, Mask mask = {}, AdamOptions adam = {}, Decayed decayed = {}) {
  return detail::low_memory("apollo_mini",
                            scale_by_apollo_mini(options, scale_by_adam(adam), gaussian_projection{seed}), rate, adam,
                            weight_decay, mask, decayed);
}

/// Adam in a random subspace, drawn anew now and then.
template <class Rate, class Mask = matrices_only, class Decayed = everything>
auto flora(Rate rate, LowRankOptions options = {}, double weight_decay = 0, std::uint64_t seed = 0, Mask mask = {},
           AdamOptions adam = {}, Decayed decayed = {}) {
  return detail::low_memory("flora", in_low_rank(scale_by_adam(adam), options, gaussian_projection{seed}), rate, adam,
                            weight_decay, mask, decayed);
}

/// Signs move every parameter as far: rates are Adam's or below; `free_rate` times that for them.
template <class Rate, class Mask = matrices_only, class Decayed = everything>
auto frugal(Rate rate, FrugalOptions options = {}, double weight_decay = 0, double free_rate = 1, Mask mask = {},
            AdamOptions adam = {}, Decayed decayed = {}) {
  return detail::low_memory("frugal",
                            scale_by_frugal(scale_by_adam(adam), options, chain(scale_by_sign(), scale(free_rate))),
                            rate, adam, weight_decay, mask, decayed);
}

}  // namespace tessera::inline TESSERA_ABI::optim
