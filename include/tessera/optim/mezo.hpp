/// Training by two forward passes and no gradient: MeZO and Sparse MeZO.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <tessera/optim/mezo_mask.hpp>
#include <tessera/optim/nested.hpp>
#include <tessera/optim/normal_groups.hpp>
#include <tessera/optim/schedules.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// What a step saw.
struct MezoStep {
  double plus, minus, projected;  // f(x + eps·m∘z), f(x - eps·m∘z), their difference over 2·eps
};

/// x ← x - rate·p·(m∘z), z ~ N(0, I), p = (f(x + eps·m∘z) - f(x - eps·m∘z))/(2·eps): SPSA in place. z is drawn again
/// from (seed, step) in each of three passes, so that the memory is that of inference. S. Malladi et al., "Fine-Tuning
/// Language Models with Just Forward Passes" (NeurIPS 2023), algorithm 1; m_i = (|x_i| <= t of its block), t found once
/// by `init`: Y. Liu et al., "Sparse MeZO" (2024), §3.2.
/// Deviation: m must be readable from x + eps·z, which no bounded set of x allows if all of it moves by eps·z. So a
/// number nearer to t than 2·eps·|z| moves by half of that distance only, to both sides: |x| <= t stays what it was,
/// and the mask costs no memory. x comes back within a few roundings of max(|x|, eps·|z|), bit for bit where m is 0.
template <Schedule Rate, class Threshold>
struct Mezo {
  Rate rate;
  double eps;
  std::uint64_t seed;
  Threshold threshold;

  struct State : detail::ListedState<State> {
    std::vector<ParameterInfo> blocks;
    Index count = 0;
    std::uint64_t seed = 0;
    std::vector<double> thresholds;
    template <class F>
    void list_buffers(const std::string& prefix, F&& f) {
      detail::list_value(f, prefix + "mezo.count", count);
      detail::list_value(f, prefix + "mezo.seed", seed);
      f(prefix + "mezo.thresholds", std::span<double>(thresholds));
    }
  };
  template <class T>
  State init(const Parameters<T>& params) const {
    State state;
    state.blocks.assign(params.begin(), params.end());
    state.seed = seed;
    detail::check_memory(params, "parameter");
    for (const auto& block : params) state.thresholds.push_back(static_cast<double>(threshold(block)));
    return state;
  }

  /// One step; `loss()` is the value at `params` as they then are, the same function both times. Where p is not finite
  /// nothing but the count changes; where `loss` throws, params are put back. Some 3 reads and writes of params, 3
  /// normal draws a number; a few kB of ctx.workspace a thread. Throws shape_error for other blocks than `init` saw or
  /// without memory.
  template <class T, class Loss>
  MezoStep step(Context& ctx, Loss&& loss, State& state, const Parameters<T>& params) const {
    detail::check_state_of(state.blocks, params);
    detail::check_memory(params, "parameter");
    double at = 0;  // where params are, in eps·z
    const auto move = [&](double to, double by) {
      for (std::size_t b = 0; b < params.size(); ++b) {
        const NormalDraws draws(ctx, state.seed, static_cast<std::uint64_t>(state.count),
                                static_cast<std::uint32_t>(b));
        const detail::MezoMove<T> f{static_cast<T>(state.thresholds[b]), static_cast<T>(at * eps),
                                    static_cast<T>(to * eps), static_cast<T>(by)};
        const VectorView<T> x = params[b].view();
        for_each_chunk(ctx, x.extent(0), 64 * NormalDraws::group, [&](Context& worker, Index begin, Index end) {
          Workspace::Scope scope(worker.workspace);
          float* const z = scope.take<float>(NormalDraws::group);
          T* const wide = std::is_same_v<T, float> ? nullptr : scope.take<T>(NormalDraws::group);
          for (Index i = begin; i < end; i += NormalDraws::group) {
            const Index n = std::min(NormalDraws::group, end - i);
            draws(worker, i / NormalDraws::group, z);
            const T* same = wide;
            if constexpr (std::is_same_v<T, float>)
              same = z;
            else
              std::copy_n(z, n, wide);
            map(worker, f, VectorView<T>(x.data() + i, n), VectorView<const T>(same, n));
          }
        });
      }
      at = to;
    };
    MezoStep result{};
    try {
      move(1, 0);
      result.plus = static_cast<double>(loss());
      move(-1, 0);
      result.minus = static_cast<double>(loss());
    } catch (...) {
      move(0, 0);
      throw;
    }
    result.projected = (result.plus - result.minus) / (2 * eps);
    move(0, std::isfinite(result.projected) ? -static_cast<double>(rate(state.count)) * result.projected : 0);
    ++state.count;
    return result;
  }
};

namespace detail {
inline double checked_eps(double eps) {
  if (!(eps > 0 && std::isfinite(eps)))
    throw unsupported_error(tessera::detail::concat("tessera: mezo with eps = ", eps,
                                                    ": values at two points apart; expected more than 0"));
  return eps;
}
}  // namespace detail

/// mezo(constant{1e-6}, 1e-3, seed). Throws unsupported_error unless eps > 0.
template <Schedule Rate>
Mezo<Rate, no_threshold> mezo(Rate rate, double eps = 1e-3, std::uint64_t seed = 0) {
  return {std::move(rate), detail::checked_eps(eps), seed, {}};
}
/// sparse_mezo(rate, smallest{0.25}): `threshold(block)` is the largest magnitude that moves.
template <Schedule Rate, class Threshold = smallest>
Mezo<Rate, Threshold> sparse_mezo(Rate rate, Threshold threshold = {}, double eps = 1e-3, std::uint64_t seed = 0) {
  return {std::move(rate), detail::checked_eps(eps), seed, std::move(threshold)};
}

}  // namespace tessera::inline TESSERA_ABI::optim
