/// Normal draws in vectors.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numbers>

#include <tessera/core/rng.hpp>
#include <tessera/optim/block_state.hpp>

namespace tessera::inline TESSERA_ABI::optim::detail {

/// sin(2πy) for |y| <= 1/4.
template <class V>
TESSERA_FLAT V sin_turns(const V& y) {
  const V x = y * V(static_cast<typename V::value_type>(2 * std::numbers::pi)), z = x * x;
  const auto horner = [&](auto... c) {
    V sum(0);
    ((sum = fma(sum, z, V(static_cast<typename V::value_type>(c)))), ...);
    return sum;
  };
  return x * horner(-1 / 1307674368000.0, 1 / 6227020800.0, -1 / 39916800.0, 1 / 362880.0, -1 / 5040.0, 1 / 120.0,
                    -1 / 6.0, 1.0);
}

/// Box and Muller: z ← deviation·√(-2·log z)·cos(2π·angle), z in (0, 1], angle in [0, 1/2]: cosine is even.
template <class T>
struct NormalOf {
  T deviation;
  template <class V>
  TESSERA_INLINE void operator()(V& z, const V& angle) const {
    z = V(deviation) * sqrt(V(-2) * log(z)) * sin_turns(V(T(0.25)) - angle);
  }
};

/// Independent normal draws of mean 0, a function of seed and stream alone.
template <class T>
void fill_normal(Context& ctx, std::uint64_t seed, std::uint64_t stream, double deviation, VectorView<T> to) {
  constexpr Index piece = 512;
  for_each_chunk(ctx, to.extent(0), 8 * piece, [&](Context& worker, Index begin, Index end) {
    const Philox draws(seed, stream);
    T angle[piece];
    for (Index from = begin; from < end; from += piece) {
      const Index n = std::min(piece, end - from);
      for (Index i = 0; i < n; i += 2) {
        const auto words = draws.block(static_cast<std::uint64_t>(from + i) / 2);
        for (std::size_t k = 0; k < 2 && i + static_cast<Index>(k) < n; ++k) {
          to[from + i + static_cast<Index>(k)] = static_cast<T>((static_cast<double>(words[2 * k]) + 1) * 0x1p-32);
          angle[i + static_cast<Index>(k)] = static_cast<T>(static_cast<double>(words[2 * k + 1]) * 0x1p-33);
        }
      }
      map(worker, NormalOf<T>{static_cast<T>(deviation)}, part(to, from, from + n), VectorView<const T>(angle, n));
    }
  });
}

}  // namespace tessera::inline TESSERA_ABI::optim::detail
