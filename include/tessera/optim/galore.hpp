/// GaLore by its usual name, and FRUGAL in its subspace; apart from low_memory.hpp because Eigen's eigenvectors take
/// long to compile.
#pragma once

#include <tessera/optim/low_memory.hpp>
#include <tessera/optim/svd_projection.hpp>

namespace tessera::inline TESSERA_ABI::optim {

template <class Rate, class Mask = matrices_only, class Decayed = everything>
auto galore(Rate rate, LowRankOptions options = {}, double weight_decay = 0, Mask mask = {}, AdamOptions adam = {},
            Decayed decayed = {}) {
  return detail::low_memory("galore", in_low_rank(scale_by_adam(adam), options, svd_projection{}), rate, adam,
                            weight_decay, mask, decayed);
}

/// `free_rate` times the sign of what the subspace does not see, as in `frugal`.
template <class Rate, class Mask = matrices_only, class Decayed = everything>
auto frugal_svd(Rate rate, LowRankOptions options = {.scale = 1}, double weight_decay = 0, double free_rate = 1,
                Mask mask = {}, AdamOptions adam = {}, Decayed decayed = {}) {
  return detail::low_memory(
      "frugal_svd",
      in_low_rank(scale_by_adam(adam), options, svd_projection{}, chain(scale_by_sign(), scale(free_rate))), rate, adam,
      weight_decay, mask, decayed);
}

}  // namespace tessera::inline TESSERA_ABI::optim
