/// Schedules of several pieces, with optax's names and formulas.
#pragma once

#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include <tessera/optim/schedules_more.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// At each step of `factors`, which rise, init times all factors up to it; along straight lines in between, or half
/// cosines. optax.piecewise_interpolate_schedule.
struct piecewise_interpolate {
  double init = 1;
  std::vector<std::pair<Index, double>> factors{};  // (step, factor)
  bool cosine = false;
  double operator()(Index step) const {
    Index from = 0;
    double value = init;
    for (const auto& [to, factor] : factors) {
      const double next = value * factor;
      if (step < to) {
        const double t = detail::part_done(step - from, to - from);
        return cosine ? next + (value - next) * detail::half_cosine(t) : value + (next - value) * t;
      }
      from = to;
      value = next;
    }
    return value;
  }
};

/// Linearly from init to peak over `warmup` steps, then peak.
struct warmup_constant {
  double init = 0, peak = 1;
  Index warmup = 1;
  double operator()(Index step) const { return linear{init, peak, warmup}(step); }
};

/// Linearly from init to peak over `warmup` steps, then `decay`, counted from there, of which init is the peak.
/// optax.warmup_exponential_decay_schedule.
struct warmup_exponential_decay {
  double init = 0;
  Index warmup = 1;
  exponential_decay decay{};
  double operator()(Index step) const {
    return step < warmup ? linear{init, decay.init, warmup}(step) : decay(step - warmup);
  }
};

/// One after the other, each `decay_steps` long and counted from its own 0; the last stays at its end.
/// I. Loshchilov, F. Hutter, "SGDR" (2017), with warm-ups; optax.sgdr_schedule.
struct sgdr_cycles {
  std::vector<warmup_cosine> cycles{};
  double operator()(Index step) const {
    if (cycles.empty()) return 0;
    std::size_t c = 0;
    for (; c + 1 < cycles.size() && step >= cycles[c].decay_steps; ++c) step -= cycles[c].decay_steps;
    return cycles[c](step);
  }
};

}  // namespace tessera::inline TESSERA_ABI::optim
