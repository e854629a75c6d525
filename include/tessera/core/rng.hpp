/// Counter-based random numbers: the i-th draw of a stream is a pure function of (seed, stream, i), so any draw can be
/// replayed by its index, in any order, by any thread.
/// J. Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3" (SC 2011), Philox4x32-10.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>

#include <tessera/core/config.hpp>

namespace tessera::inline TESSERA_ABI {

/// The Philox4x32-10 bijection of `counter` under `key`.
constexpr std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                                  std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * counter[0];
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<std::uint32_t>(p1 >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(p1),
               static_cast<std::uint32_t>(p0 >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(p0)};
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return counter;
}

/// A stream of draws addressed by index.
class Philox {
 public:
  explicit constexpr Philox(std::uint64_t seed, std::uint64_t stream = 0) : seed_(seed), stream_(stream) {}

  /// The i-th 32 random bits.
  constexpr std::uint32_t bits(std::uint64_t i) const { return block(i / 4)[i % 4]; }

  /// Four 32-bit draws, indices 4*b to 4*b+3.
  constexpr std::array<std::uint32_t, 4> block(std::uint64_t b) const {
    return philox4x32({static_cast<std::uint32_t>(b), static_cast<std::uint32_t>(b >> 32),
                       static_cast<std::uint32_t>(stream_), static_cast<std::uint32_t>(stream_ >> 32)},
                      {static_cast<std::uint32_t>(seed_), static_cast<std::uint32_t>(seed_ >> 32)});
  }

  /// Uniform on [0, 1): multiples of 2^-24.
  constexpr float uniform(std::uint64_t i) const { return static_cast<float>(bits(i) >> 8) * 0x1p-24f; }

  /// Uniform on [0, n), n > 0; bias below n * 2^-64.
  constexpr std::uint64_t below(std::uint64_t i, std::uint64_t n) const {
    const auto words = block(i);
    const std::uint64_t wide = (std::uint64_t{words[0]} << 32) | words[1];
    return static_cast<std::uint64_t>((static_cast<unsigned __int128>(wide) * n) >> 64);
  }

  /// Standard normal (Box–Muller); draw i uses uniforms 2i and 2i+1.
  double normal(std::uint64_t i) const {
    const auto words = block(i / 2);
    const std::size_t at = (i % 2) * 2;
    const double u = (static_cast<double>(words[at]) + 1.0) * 0x1p-32;  // (0, 1]
    const double v = static_cast<double>(words[at + 1]) * 0x1p-32;
    return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
  }

 private:
  std::uint64_t seed_, stream_;
};

}  // namespace tessera::inline TESSERA_ABI
