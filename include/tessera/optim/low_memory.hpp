/// Optimizers with little state, by their usual names; `rate` is a number or a schedule. Matrices that the mask takes
/// are moved by the method, all else by AdamW at the same rate.
#pragma once

#include <tessera/optim/alias.hpp>
#include <tessera/optim/apollo_mini.hpp>
#include <tessera/optim/partition.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
/// `link` for what the mask takes, which must be matrices, and Adam for the rest, both with decoupled decay.
template <class Link, class Rate, class Mask>
auto low_memory(const char* name, const Link& link, Rate rate, const AdamOptions& adam, double weight_decay,
                Mask mask) {
  return partition([name, mask](const ParameterInfo& p) { return mask(p) ? name : "adam"; },
                   group(name, chain(link, add_decayed_weights(weight_decay), scale_by_learning_rate(rate))),
                   group("adam", adamw(rate, adam, weight_decay)));
}
}  // namespace detail

template <class Rate, class Mask = matrices_only>
auto apollo(Rate rate, ApolloOptions options = {}, double weight_decay = 0, std::uint64_t seed = 0, Mask mask = {},
            AdamOptions adam = {}) {
  return detail::low_memory("apollo", scale_by_apollo(options, scale_by_adam(adam), gaussian_projection{seed}), rate,
                            adam, weight_decay, mask);
}

template <class Rate, class Mask = matrices_only>
auto apollo_mini(Rate rate, ApolloOptions options = {.scale = std::sqrt(128.0)}, double weight_decay = 0,
                 std::uint64_t seed = 0, Mask mask = {}, AdamOptions adam = {}) {
  return detail::low_memory("apollo_mini",
                            scale_by_apollo_mini(options, scale_by_adam(adam), gaussian_projection{seed}), rate, adam,
                            weight_decay, mask);
}

}  // namespace tessera::inline TESSERA_ABI::optim
