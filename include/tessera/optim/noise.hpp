/// Noise on gradients.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include <tessera/core/rng.hpp>
#include <tessera/kernels/attention/draws/list.hpp>
#include <tessera/kernels/map/map.hpp>
#include <tessera/optim/nested.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {

/// a ← √(-2·log(a/2^32))·cos(2π·b/2^32). The cosine is the sine of a quarter turn less, a Taylor series to 1e-18.
struct NormalOfWords {
  template <class V>
  TESSERA_INLINE void operator()(V& a, const V& b) const {
    const V turns = b * V(0x1p-32), x = (V(0.25) - abs(turns - nearest(turns))) * V(6.283185307179586477), z = x * x;
    const V tail = simd::detail::horner(z, 1.0 / 51090942171709440000.0, -1.0 / 121645100408832000.0,
                                        1.0 / 355687428096000.0, -1.0 / 1307674368000.0, 1.0 / 6227020800.0,
                                        -1.0 / 39916800.0, 1.0 / 362880.0, -1.0 / 5040.0, 1.0 / 120.0, -1.0 / 6.0);
    a = sqrt(V(-2.0) * log(a * V(0x1p-32))) * fma(x * z, tail, x);
  }
};

/// `Philox::normal` of 16 elements and their neighbours at a time, to its rounding.
class NormalPieces {
 public:
  static constexpr Index piece = 1024;

  NormalPieces(Context& ctx, Workspace::Scope& scope, std::uint64_t seed, std::uint64_t stream)
      : words_(scope.take<std::uint32_t>(2 * piece)), a_(scope.take<double>(piece)), b_(scope.take<double>(piece)) {
    args_.c2 = static_cast<std::uint32_t>(stream);
    args_.c3 = static_cast<std::uint32_t>(stream >> 32);
    args_.key0 = static_cast<std::uint32_t>(seed);
    args_.key1 = static_cast<std::uint32_t>(seed >> 32);
    args_.words = words_;
    run_ = DrawKernels::select(ctx, args_).run;
  }
  /// u (n) ← u + deviation·draws from `first` on, a multiple of `piece`; n <= piece.
  template <class T>
  void add(Context& ctx, double deviation, Index first, Index n, T* u) {
    const Index groups = (n + 15) / 16;
    args_.c1 = static_cast<std::uint32_t>(static_cast<std::uint64_t>(first) / 2 >> 32);
    args_.first = static_cast<std::uint32_t>(first / 16);
    run_(args_, {0, groups, 0});
    const auto wide = [](std::uint32_t word) {
      return static_cast<double>(static_cast<std::int32_t>(word ^ 1u << 31));
    };
    for (Index h = 0; h < 2 * groups; ++h)  // eight draws 2·i or 2·i + 1 of a group: their first words, their second
      for (Index i = 0; i < 8; ++i) {
        a_[8 * h + i] = wide(words_[16 * h + i]) + (0x1p31 + 1);
        b_[8 * h + i] = wide(words_[16 * h + 8 + i]) + 0x1p31;
      }
    map(ctx, NormalOfWords{}, VectorView<double>(a_, 16 * groups), VectorView<const double>(b_, 16 * groups));
    for (Index i = 0; i < n; ++i)
      u[i] = static_cast<T>(static_cast<double>(u[i]) + deviation * a_[i / 16 * 16 + i % 2 * 8 + i % 16 / 2]);
  }

 private:
  DrawArgs args_;
  DrawRun run_;
  std::uint32_t* words_;
  double *a_, *b_;
};

/// A generator's seed and how often it was drawn from: element i of block b takes draw i of stream count·blocks + b.
struct NoiseState {
  std::uint64_t seed = 0;
  Index count = 0;

  template <class F>
  void list_buffers(const std::string& prefix, F&& f) {
    list_value(f, prefix + "seed", seed);
    list_value(f, prefix + "count", count);
  }
  template <class T>
  void add(Context& ctx, double deviation, std::span<const VectorView<T>> blocks) {
    constexpr Index piece = NormalPieces::piece;
    for (std::size_t b = 0; b < blocks.size(); ++b) {
      const std::uint64_t stream = static_cast<std::uint64_t>(count) * blocks.size() + b;
      for_each_chunk(ctx, blocks[b].extent(0), 16 * piece, [&](Context& worker, Index begin, Index end) {
        Workspace::Scope scope(worker.workspace);
        NormalPieces draws(worker, scope, seed, stream);
        for (Index i = begin; i < end; i += piece)
          draws.add(worker, deviation, i, std::min(piece, end - i), blocks[b].data() + i);
      });
    }
    ++count;
  }
};

}  // namespace detail

/// u ← u + N(0, eta/(1 + t)^gamma), t = 0 at the first step.
/// A. Neelakantan et al., "Adding Gradient Noise Improves Learning for Very Deep Networks" (2015), eq. 1;
/// optax.add_noise. Element i of block b at step t takes draw i of Philox stream t·blocks + b: the same for any thread
/// count. Seed and step stand in the state. 5 ns an element with AVX-512, 41 one at a time.
struct AddNoise {
  static constexpr std::string_view name = "add_noise";
  double eta = 0.01, gamma = 0.55;
  std::uint64_t seed = 0;

  using State = detail::NoiseState;
  template <class T>
  State init(const Parameters<T>&) const {
    return {seed, 0};
  }
  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, State& state, const Parameters<T>&) const {
    const double deviation = std::sqrt(eta / std::pow(static_cast<double>(state.count + 1), gamma));
    state.add(ctx, deviation, updates);
  }
};
inline AddNoise add_noise(double eta, double gamma, std::uint64_t seed) {
  return {detail::checked_least(AddNoise::name, "eta", eta), detail::checked_least(AddNoise::name, "gamma", gamma),
          seed};
}

}  // namespace tessera::inline TESSERA_ABI::optim
