/// Optimizers that look at layers, rows or columns, by their usual names; `rate` is a number or a schedule. Defaults
/// are optax's where it has the method, else the papers'. `chain(prodigy())` and
/// `chain(dadapt_adam())` need no rate.
#pragma once

#include <tessera/optim/alias.hpp>
#include <tessera/optim/clip_blocks.hpp>
#include <tessera/optim/factored.hpp>
#include <tessera/optim/lmo.hpp>
#include <tessera/optim/muon.hpp>
#include <tessera/optim/novograd.hpp>
#include <tessera/optim/partition.hpp>
#include <tessera/optim/sm3.hpp>
#include <tessera/optim/trust_ratio.hpp>

namespace tessera::inline TESSERA_ABI::optim {

template <class Rate>
auto sign_sgd(Rate rate) {
  return chain(scale_by_sign(), scale_by_learning_rate(rate));
}

/// The sign of the momentum. J. Bernstein et al., "signSGD" (ICML 2018), algorithm 2.
template <class Rate>
auto signum(Rate rate, double momentum = 0.9) {
  return chain(trace(momentum), scale_by_sign(), scale_by_learning_rate(rate));
}

template <class Rate, class Mask = everything>
auto lamb(Rate rate, AdamOptions options = {.eps = 1e-6}, double weight_decay = 0, Mask mask = {}) {
  return chain(scale_by_adam(options), add_decayed_weights(weight_decay, mask), scale_by_trust_ratio(),
               scale_by_learning_rate(rate));
}

template <class Rate, class Mask = everything>
auto lars(Rate rate, double momentum = 0.9, double weight_decay = 0, double coefficient = 1e-3, Mask mask = {}) {
  return chain(add_decayed_weights(weight_decay, mask), scale_by_trust_ratio(0, coefficient),
               scale_by_learning_rate(rate), trace(momentum));
}

template <class Rate>
auto novograd(Rate rate, NovogradOptions options = {}) {
  return chain(scale_by_novograd(options), scale_by_learning_rate(rate));
}

template <class Rate, class RowsOf = each_row, class Mask = everything>
auto adam_mini(Rate rate, MomentOptions options = {}, double weight_decay = 0, RowsOf rows_of = {}, Mask mask = {}) {
  return chain(scale_by_adam_mini(options, rows_of), add_decayed_weights(weight_decay, mask),
               scale_by_learning_rate(rate));
}

/// Steps are relative to the parameters' size: rates near 0.01.
template <class Rate>
auto adafactor(Rate rate, FactoredRmsOptions options = {}, double clipping = 1) {
  return chain(scale_by_factored_rms(options), clip_by_block_rms(clipping), scale_by_param_block_rms(),
               scale_by_learning_rate(rate));
}

template <class Rate>
auto sm3(Rate rate, double momentum = 0.9) {
  return chain(scale_by_sm3(), scale(1 - momentum), trace(momentum), scale_by_learning_rate(rate));
}

/// Muon for the blocks that the mask takes (hidden matrices; leave embeddings and the output out), AdamW for the rest;
/// weights decay where `decayed` takes them.
template <class Rate, class AdamRate, class Mask = matrices_only, class Decayed = everything>
auto muon(Rate rate, AdamRate adam_rate, MuonOptions options = {}, double weight_decay = 0, Mask mask = {},
          AdamOptions adam_options = {}, Decayed decayed = {}) {
  return partition([mask](const ParameterInfo& p) { return mask(p) ? "muon" : "adam"; },
                   group("muon", chain(scale_by_muon(options), add_decayed_weights(weight_decay, decayed),
                                       scale_by_learning_rate(rate))),
                   group("adam", adamw(adam_rate, adam_options, weight_decay, decayed)));
}

/// Parameters stay within `radius` in each block's norm, towards whose border each step goes a part `rate` of the way.
template <class Rate, class NormOf = scion_norms>
auto scion(Rate rate, double radius = 1, double momentum = 0.9, NormOf norm_of = {}) {
  return chain(trace(momentum), scale_by_lmo(radius, norm_of), add_decayed_weights(1), scale_by_learning_rate(rate));
}

}  // namespace tessera::inline TESSERA_ABI::optim
