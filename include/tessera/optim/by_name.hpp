/// Optimizers by their names: make_optimizer<float>("adamw", {{"rate", 1e-3}, {"weight_decay", 0.1}}). To add one, add
/// its line. A program includes this in one unit, which compiles them all, and recipe.hpp elsewhere, with
///   extern template const std::vector<NamedOptimizer<float>>& named_optimizers<float>();
#pragma once

#include <type_traits>

#include <tessera/optim/average.hpp>
#include <tessera/optim/by_name_options.hpp>
#include <tessera/optim/by_name_targets.hpp>
#include <tessera/optim/cautious.hpp>
#include <tessera/optim/cocob.hpp>
#include <tessera/optim/dadapt.hpp>
#include <tessera/optim/dog.hpp>
#include <tessera/optim/first_order.hpp>
#include <tessera/optim/fromage.hpp>
#include <tessera/optim/galore.hpp>
#include <tessera/optim/layer_wise.hpp>
#include <tessera/optim/linesearch.hpp>
#include <tessera/optim/lion_norms.hpp>
#include <tessera/optim/lookahead.hpp>
#include <tessera/optim/low_memory.hpp>
#include <tessera/optim/mechanize.hpp>
#include <tessera/optim/mezo.hpp>
#include <tessera/optim/momo.hpp>
#include <tessera/optim/optimistic.hpp>
#include <tessera/optim/polyak.hpp>
#include <tessera/optim/prodigy.hpp>
#include <tessera/optim/recipe.hpp>
#include <tessera/optim/rprop.hpp>
#include <tessera/optim/sam.hpp>
#include <tessera/optim/second_order.hpp>
#include <tessera/optim/storage.hpp>
#include <tessera/optim/storage4.hpp>

namespace tessera::inline TESSERA_ABI::optim {

template <class T>
const std::vector<NamedOptimizer<T>>& named_optimizers() {
  using namespace detail;
  // Recipe, which depends on T here and in what is called: nothing is compiled where no optimizer is asked for by name.
  using R = std::conditional_t<true, Recipe, T>;
  static const std::vector<NamedOptimizer<T>> all{
      // first order
      {"sgd", [](R& h) { return sgd(h.rate(1e-2)); }},
      {"momentum", [](R& h) { return sgd(h.rate(1e-2), h.decay("momentum", 0.9), h("nesterov", 0) != 0); }},
      {"adam", [](R& h) { return adam(h.rate(1e-3), adam_options(h)); }},
      {"adamw", [](R& h) { return adamw_by_name(h); }},
      {"nadam", [](R& h) { return nadam(h.rate(1e-3), adam_options(h)); }},
      {"adagrad", [](R& h) { return adagrad(h.rate(1e-2), h("initial", 0.1), h("eps", 1e-7)); }},
      {"rmsprop", [](R& h) { return rmsprop(h.rate(1e-3), {.decay = h.decay("decay", 0.9), .eps = h("eps", 1e-8)}); }},
      {"rmsprop_centered",
       [](R& h) {
         return chain(scale_by_stddev(h.decay("decay", 0.9), h("eps", 1e-8)), scale_by_learning_rate(h.rate(1e-3)));
       }},
      {"adadelta", [](R& h) { return adadelta(h.rate(1), h.decay("rho", 0.9), h("eps", 1e-6)); }},
      {"amsgrad", [](R& h) { return amsgrad(h.rate(1e-3), moment_options(h)); }},
      {"adamax", [](R& h) { return adamax(h.rate(2e-3), moment_options(h)); }},
      {"yogi", [](R& h) { return yogi(h.rate(1e-2), moment_options(h, {.eps = 1e-3})); }},
      {"adabelief", [](R& h) { return adabelief(h.rate(1e-3), moment_options(h, {.eps = 1e-16, .eps_root = 1e-16})); }},
      {"radam", [](R& h) { return radam(h.rate(1e-3), moment_options(h), h("threshold", 5)); }},
      {"adan",
       [](R& h) {
         return decayed_descent(h, scale_by_adan({.b1 = h.decay("b1", 0.98),
                                                  .b2 = h.decay("b2", 0.92),
                                                  .b3 = h.decay("b3", 0.99),
                                                  .eps = h("eps", 1e-8)}));
       }},
      {"ademamix",
       [](R& h) {
         return decayed_descent(h, scale_by_ademamix({.b1 = h.decay("b1", 0.9),
                                                      .b2 = h.decay("b2", 0.999),
                                                      .b3 = h.decay("b3", 0.9999),
                                                      .alpha = h("alpha", 5),
                                                      .eps = h("eps", 1e-8),
                                                      .warmup = h.whole("warmup", 0)}));
       }},
      {"adopt",
       [](R& h) {
         return decayed_descent(
             h, scale_by_adopt({.b1 = h.decay("b1", 0.9), .b2 = h.decay("b2", 0.9999), .eps = h("eps", 1e-6)}));
       }},
      {"lion",
       [](R& h) {
         return lion(h.rate(1e-4), h.decay("b1", 0.9), h.decay("b2", 0.99), h("weight_decay", 1e-3), h.decayed());
       }},
      {"lion_huber", [](R& h) { return lion_k_by_name(h, 1e-4, kappa::huber{h("huber", 1e-3)}); }},
      {"lion_relativistic", [](R& h) { return lion_k_by_name(h, 1e-4, kappa::relativistic{h("softening", 1e-3)}); }},
      {"lion_lp",
       [](R& h) { return lion_k_by_name(h, 1e-2, kappa::half_squared{}, scale_by_norm_gradient(h("p", 1.5))); }},
      {"lion_rows",
       [](R& h) { return lion_k_by_name(h, 1e-2, kappa::half_squared{}, scale_by_lmo(1, rows_or_block{})); }},
      {"lion_spectral", [](R& h) { return lion_k_by_name(h, 1e-2, kappa::half_squared{}, scale_by_lmo()); }},
      {"madgrad", [](R& h) { return chain(madgrad(h.rate(1e-2), h.decay("momentum", 0.9), h("eps", 1e-6))); }},
      {"mars",
       [](R& h) {
         return mars(h.rate(1e-3), h("gamma", 0.025), adam_options(h, {.b1 = 0.95, .b2 = 0.99}),
                     h("weight_decay", 1e-4), h.decayed());
       }},
      {"grokfast",
       [](R& h) { return chain(grokfast(h.decay("grok_decay", 0.98), h("grok_gain", 2)), adamw_by_name(h)); }},
      {"sophia",
       [](R& h) {
         return decayed_descent(h, scale_by_sophia({.b1 = h.decay("b1", 0.96),
                                                    .b2 = h.decay("b2", 0.99),
                                                    .gamma = h("gamma", 0.05),
                                                    .every = h.whole("every", 10),
                                                    .batch = h("batch", 1)}));
       }},
      {"nadamw", [](R& h) { return nadamw(h.rate(1e-3), adam_options(h), h("weight_decay", 1e-4), h.decayed()); }},
      {"adamaxw", [](R& h) { return adamaxw(h.rate(2e-3), moment_options(h), h("weight_decay", 1e-4), h.decayed()); }},
      {"acprop",
       [](R& h) {
         return acprop(h.rate(1e-3), moment_options(h, {.eps = 1e-16, .eps_root = 1e-16}), h("weight_decay", 0),
                       h.decayed());
       }},
      {"simplified_ademamix",
       [](R& h) {
         return decayed_descent(h,
                                scale_by_simplified_ademamix({.b1 = h.decay("b1", 0.99),
                                                              .b2 = h.decay("b2", 0.95),
                                                              .alpha = h("alpha", 10),
                                                              .eps = h("eps", 1e-8)}),
                                1e-5);
       }},
      {"cautious", [](R& h) { return decayed_descent(h, cautious(scale_by_adam(adam_options(h)))); }},
      {"rprop", [](R& h) { return rprop(h("rate", 1e-3), rprop_options(h)); }},
      {"optimistic_gradient_descent",
       [](R& h) { return optimistic_gradient_descent(h.rate(1e-2), h("alpha", 1), h("beta", 1)); }},
      {"optimistic_adam",
       [](R& h) {
         return optimistic_adam(h.rate(1e-3), h("alpha", 1), h("beta", 1), adam_options(h, {.nesterov = true}));
       }},
      {"noisy_sgd", [](R& h) { return noisy_sgd(h.rate(1e-2), h("eta", 0.01), h("gamma", 0.55), seed_of(h)); }},
      {"cocob",
       [](R& h) { return cocob(h.rate(1), h("alpha", 100), h("eps", 1e-8), h("weight_decay", 0), h.decayed()); }},
      {"adamw_bf16", [](R& h) { return decayed_descent(h, in_bf16(scale_by_adam(adam_options(h)))); }},
      {"adamw_8bit", [](R& h) { return decayed_descent(h, in_dynamic8(scale_by_adam(adam_options(h)))); }},
      {"adamw_4bit", [](R& h) { return decayed_descent(h, in_dynamic4(scale_by_adam(adam_options(h)))); }},
      // by layers, rows or all blocks
      {"sign_sgd", [](R& h) { return sign_sgd(h.rate(1e-3)); }},
      {"signum", [](R& h) { return signum(h.rate(1e-3), h.decay("momentum", 0.9)); }},
      {"lamb",
       [](R& h) { return lamb(h.rate(1e-3), adam_options(h, {.eps = 1e-6}), h("weight_decay", 1e-4), h.decayed()); }},
      {"lars",
       [](R& h) {
         return lars(h.rate(1), h.decay("momentum", 0.9), h("weight_decay", 1e-4), h("coefficient", 1e-3), h.decayed());
       }},
      {"novograd",
       [](R& h) {
         return novograd(h.rate(1e-3), {h.decay("b1", 0.9), h.decay("b2", 0.25), h("eps", 1e-6), h("weight_decay", 0)});
       }},
      {"adam_mini",
       [](R& h) {
         return adam_mini(h.rate(1e-3), moment_options(h), h("weight_decay", 1e-4), each_row{}, h.decayed());
       }},
      {"adafactor",
       [](R& h) {
         return adafactor(h.rate(1e-2), {.decay = h("decay", 0.8), .min_dim = h.whole("min_dim", 128)},
                          h("clipping", 1));
       }},
      {"sm3", [](R& h) { return sm3(h.rate(1e-1), h.decay("momentum", 0.9)); }},
      {"prodigy", [](R& h) { return chain(prodigy(distance_options(h))); }},
      {"dadapt_adam", [](R& h) { return chain(dadapt_adam(distance_options(h))); }},
      {"dog",
       [](R& h) { return dog(h.rate(1), {.relative = h("start", 1e-4), .layer_wise = h("layer_wise", 0) != 0}); }},
      {"dowg", [](R& h) { return dowg(h.rate(1), {.squared_distance = h("start", 0), .eps = h("eps", 1e-4)}); }},
      {"fromage", [](R& h) { return fromage(h.rate(1e-2), h("min_norm", 1e-6)); }},
      {"muon",
       [](R& h) {
         const auto rate = h.rate(2e-2);
         return muon(rate, times(h("adam_ratio", 0.15), rate),
                     {.momentum = h.decay("momentum", 0.95), .nesterov = h("nesterov", 1) != 0},
                     h("weight_decay", 1e-4), h.matrices(), adam_options(h), h.decayed());
       }},
      {"scion", [](R& h) { return scion(h.rate(1e-2), h("radius", 30), h.decay("momentum", 0.9), scion_norms{}); }},
      // with little state
      {"apollo",
       [](R& h) {
         return apollo(h.rate(1e-2), apollo_options(h, {}, true), h("weight_decay", 0), seed_of(h), h.matrices(),
                       adam_options(h), h.decayed());
       }},
      {"apollo_mini",
       [](R& h) {
         return apollo_mini(h.rate(1e-2), apollo_options(h, {.scale = std::sqrt(128.0)}, false), h("weight_decay", 0),
                            seed_of(h), h.matrices(), adam_options(h), h.decayed());
       }},
      {"flora",
       [](R& h) {
         return flora(h.rate(1e-2), low_rank_options(h), h("weight_decay", 0), seed_of(h), h.matrices(),
                      adam_options(h), h.decayed());
       }},
      {"frugal",
       [](R& h) {
         auto options = frugal_options(h);
         options.seed = seed_of(h);
         return frugal(h.rate(1e-3), options, h("weight_decay", 0), h("free_rate", 1), h.matrices(), adam_options(h),
                       h.decayed());
       }},
      {"frugal_blocks",
       [](R& h) {
         return chain(scale_by_frugal_blocks(scale_by_adam(adam_options(h)), frugal_options(h),
                                             chain(scale_by_sign(), scale(h("free_rate", 1)))),
                      add_decayed_weights(h("weight_decay", 0), h.decayed()), scale_by_learning_rate(h.rate(1e-3)));
       }},
      {"badam",
       [](R& h) {
         const auto adam =
             chain(scale_by_adam(adam_options(h)), add_decayed_weights(h("weight_decay", 0), h.decayed()));
         return chain(scale_by_frugal_blocks(adam, frugal_options(h, 100), freeze()),
                      scale_by_learning_rate(h.rate(1e-3)));
       }},
      {"galore",
       [](R& h) {
         return galore(h.rate(1e-2), low_rank_options(h), h("weight_decay", 0), h.matrices(), adam_options(h),
                       h.decayed());
       }},
      {"frugal_svd",
       [](R& h) {
         return frugal_svd(h.rate(1e-3), low_rank_options(h, 1), h("weight_decay", 0), h("free_rate", 1), h.matrices(),
                           adam_options(h), h.decayed());
       }},
      // by values of the loss too
      {"polyak_sgd",
       [](R& h) {
         return polyak_sgd(h.rate(1), {h("lower_bound", 0), h("max_rate", 1), h("eps", 0), h("positive", 0) != 0});
       }},
      {"momo", [](R& h) { return chain(momo(momo_options(h, 1))); }},
      {"momo_adam", [](R& h) { return momo_adam_by_name(h); }},
      {"backtracking", [](R& h) { return backtracking_linesearch(sgd(h.rate(1)), {.max_rate = h("max_rate", 1)}); }},
      {"zoom", [](R& h) { return zoom_linesearch(sgd(h.rate(1))); }},
      // by values of the loss alone
      {"mezo", [](R& h) { return mezo(h.rate(1e-3), h("eps", 1e-3), static_cast<std::uint64_t>(h.whole("seed", 0))); }},
      {"sparse_mezo",
       [](R& h) {
         return sparse_mezo(h.rate(1e-3), smallest{h("share", 0.25)}, h("eps", 1e-3),
                            static_cast<std::uint64_t>(h.whole("seed", 0)));
       }},
      // more of the curvature
      {"shampoo",
       [](R& h) {
         return shampoo(
             h.rate(1e-3),
             {.b2 = h.decay("b2", 1, true), .every = h.whole("every", 10, 1), .max_dim = h.whole("max_dim", 1024)},
             h.decay("momentum", 0.9), h("weight_decay", 1e-4), h.decayed());
       }},
      {"shampoo_tiles",
       [](R& h) {
         return shampoo_tiles(h.rate(1e-3), h.whole("side", 128, 1),
                              {.b2 = h.decay("b2", 1, true), .every = h.whole("every", 10, 1)},
                              h.decay("momentum", 0.9), h("weight_decay", 1e-4), h.decayed());
       }},
      {"soap",
       [](R& h) {
         return soap(h.rate(3e-3),
                     {.b1 = h.decay("b1", 0.95),
                      .b2 = h.decay("b2", 0.95),
                      .eps = h("eps", 1e-8),
                      .every = h.whole("every", 10, 1),
                      .max_dim = h.whole("max_dim", 4096)},
                     h("weight_decay", 1e-4), h.decayed());
       }},
      {"lbfgs",
       [](R& h) { return chain(scale_by_lbfgs(h.whole("memory", 10, 1)), scale_by_learning_rate(h.rate(1e-1))); }},
      {"mfac",
       [](R& h) {
         const double lambda = h("lambda", 1e-5);
         return mfac(h.rate(1e-2),
                     {.window = h.whole("window", 32, 1), .lambda = lambda, .damping = h("damping", 0.1)});
       }},
      // with a look into the model
      {"kfac", [](R& h) { return kfac_by_name(h); }},
      {"mkor", [](R& h) { return mkor_by_name(h); }},
      {"natural_gradient", [](R& h) { return natural_gradient_by_name(h); }},
      {"target_surrogate", [](R& h) { return target_surrogate_by_name(h); }},
      // around others
      {"lookahead", [](R& h) { return lookahead(adamw_by_name(h), h.whole("period", 5, 1), h("alpha", 0.5)); }},
      {"schedule_free",
       [](R& h) {
         const double momentum = h.decay("momentum", 0.9);
         return schedule_free(
             decayed_descent(h, scale_by_adam({.b1 = 0, .b2 = h.decay("b2", 0.999), .eps = h("eps", 1e-8)})),
             h.rate(1e-3), momentum);
       }},
      {"sam", [](R& h) { return sam(adamw_by_name(h), h("rho", 0.05), h("adaptive", 0) != 0); }},
      {"mechanize",
       [](R& h) {
         return mechanize(adam(h.rate(1), adam_options(h)),
                          {.weight_decay = h("mechanic_decay", 1e-2), .start = h("start", 1e-6)});
       }},
      {"averaged", [](R& h) { return averaged(adamw_by_name(h), AnySchedule(ema_average{h.decay("average", 0.99)})); }},
      {"polyak_averaged",
       [](R& h) { return averaged(adamw_by_name(h), AnySchedule(polyak_average{h.whole("start", 0)})); }},
      {"swa",
       [](R& h) {
         return averaged(adamw_by_name(h), AnySchedule(swa_average{h.whole("start", 0), h.whole("period", 1, 1)}));
       }},
  };
  return all;
}

}  // namespace tessera::inline TESSERA_ABI::optim
