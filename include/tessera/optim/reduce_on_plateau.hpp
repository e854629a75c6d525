/// Smaller steps once the objective stops falling.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <string_view>

#include <tessera/optim/loss.hpp>
#include <tessera/optim/nested.hpp>
#include <tessera/optim/scale.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// `accumulation`: how many values are averaged before one is looked at.
struct PlateauOptions {
  double factor = 0.1;
  Index patience = 10;
  double rtol = 1e-4, atol = 0;
  Index cooldown = 0, accumulation = 1;
  double min_scale = 0;
};

/// u ← scale·u. A mean of `accumulation` observed values is better where it is below (1 - rtol)·best - atol; after
/// `patience` in a row that are not, scale ← max(factor·scale, min_scale) and the next `cooldown` do not count. Throws
/// unsupported_error without a value (`observe_loss`). Reads no updates of its own. optax.contrib.reduce_on_plateau.
struct ReduceOnPlateau {
  static constexpr std::string_view name = "reduce_on_plateau";
  PlateauOptions options;

  struct State : ObservedLoss {
    double scale = 1, best = std::numeric_limits<double>::infinity(), average = 0;
    Index plateau = 0, cooldown = 0, count = 0;
    template <class F>
    void list_buffers(const std::string& prefix, F&& f) {
      detail::list_value(f, prefix + "scale", scale);
      detail::list_value(f, prefix + "best", best);
      detail::list_value(f, prefix + "average", average);
      detail::list_value(f, prefix + "plateau", plateau);
      detail::list_value(f, prefix + "cooldown", cooldown);
      detail::list_value(f, prefix + "count", count);
    }
  };
  template <class T>
  State init(const Parameters<T>&) const {
    return {};
  }
  template <class T>
  detail::ScaleStep<T> reduce(Context&, std::span<const VectorView<const T>>, State& state) const {
    const double value = state.take_loss(name), n = static_cast<double>(++state.count);
    state.average = ((n - 1) * state.average + value) / n;
    if (state.count >= options.accumulation) look(state);
    return {static_cast<T>(state.scale)};
  }

 private:
  void look(State& state) const {
    const auto& o = options;
    const bool better = state.average < (1 - o.rtol) * state.best - o.atol;
    if (better) state.best = state.average;
    const Index waited = better ? 0 : state.plateau + 1;
    state.average = 0;
    state.count = 0;
    if (state.cooldown > 0) {
      --state.cooldown;
      state.plateau = 0;
    } else if (waited >= o.patience && !better) {
      state.scale = std::max(o.factor * state.scale, o.min_scale);
      state.cooldown = o.cooldown;
      state.plateau = 0;
    } else {
      state.plateau = waited;
    }
  }
};

/// Throws unsupported_error unless 0 < factor < 1, 0 <= rtol < 1, 0 <= atol, one of them over 0, and accumulation >= 1.
inline ReduceOnPlateau reduce_on_plateau(PlateauOptions options = {}) {
  const auto& o = options;
  const auto fail = [](const char* what, double is, const char* expected) {
    throw unsupported_error(detail::concat("tessera: reduce_on_plateau: ", what, " ", is, "; expected ", expected));
  };
  if (!(o.factor > 0 && o.factor < 1)) fail("factor", o.factor, "one between 0 and 1");
  if (!(o.rtol >= 0 && o.rtol < 1)) fail("rtol", o.rtol, "0 or more and less than 1");
  if (!(o.atol >= 0)) fail("atol", o.atol, "0 or more");
  if (o.rtol == 0 && o.atol == 0) fail("rtol and atol", 0, "one of them over 0");
  if (o.accumulation < 1) fail("accumulation", static_cast<double>(o.accumulation), "1 or more");
  return {options};
}

}  // namespace tessera::inline TESSERA_ABI::optim
