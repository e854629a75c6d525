/// Noise on gradients.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include <tessera/core/rng.hpp>
#include <tessera/optim/nested.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// u ← u + N(0, eta/(1 + t)^gamma), t = 0 at the first step.
/// A. Neelakantan et al., "Adding Gradient Noise Improves Learning for Very Deep Networks" (2015), eq. 1;
/// optax.add_noise. Element i of block b at step t takes draw i of Philox stream t·blocks + b: the same for any thread
/// count. Seed and step stand in the state. Two Philox blocks and a logarithm an element: some 50 ns.
struct AddNoise {
  static constexpr std::string_view name = "add_noise";
  double eta = 0.01, gamma = 0.55;
  std::uint64_t seed = 0;

  struct State {
    std::uint64_t seed = 0;
    Index count = 0;
    template <class F>
    void list_buffers(const std::string& prefix, F&& f) {
      detail::list_value(f, prefix + "seed", seed);
      detail::list_value(f, prefix + "count", count);
    }
  };
  template <class T>
  State init(const Parameters<T>&) const {
    return {seed, 0};
  }
  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, State& state, const Parameters<T>&) const {
    const double deviation = std::sqrt(eta / std::pow(static_cast<double>(state.count + 1), gamma));
    for (std::size_t b = 0; b < updates.size(); ++b) {
      const Philox draws(state.seed, static_cast<std::uint64_t>(state.count) * updates.size() + b);
      T* u = updates[b].data();
      for_each_chunk(ctx, updates[b].extent(0), Index{1} << 12, [&](Context&, Index begin, Index end) {
        for (Index i = begin; i < end; ++i)
          u[i] = static_cast<T>(static_cast<double>(u[i]) + deviation * draws.normal(static_cast<std::uint64_t>(i)));
      });
    }
    ++state.count;
  }
};
inline AddNoise add_noise(double eta, double gamma, std::uint64_t seed) { return {eta, gamma, seed}; }

}  // namespace tessera::inline TESSERA_ABI::optim
