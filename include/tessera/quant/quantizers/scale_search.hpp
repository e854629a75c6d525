/// Rounding to nearest with the scale that loses least.
#pragma once

#include <array>
#include <cmath>
#include <span>

#include <tessera/quant/format.hpp>
#include <tessera/quant/quantizers/round_to_nearest.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

/// It encodes with a scale (and a minimum) given, which are f16 members of its block.
template <class F>
concept ScaledBlockFormat = BlockFormat<F> && requires(std::span<const float> x, typename F::Block& block) {
  requires !F::two_level;
  requires F::has_minimum || requires { F::encode(x, block.d, block); };
  requires !F::has_minimum || requires { F::encode(x, block.d, block.m, block); };
};

}  // namespace detail

/// Starts from F::encode and tries 2 * `candidates` other scales within ±`spread` of it, each followed by one step of
/// alternation: codes for the scale, then the least-squares scale (and minimum) for the codes, then codes again. Keeps
/// the block of least squared error, so it is never worse than rounding to nearest. Formats that quantize their scales,
/// or hold powers of two, search by themselves: for them it is F::encode.
/// The alternation is S. Lloyd, "Least Squares Quantization in PCM" (IEEE Trans. Inf. Theory 1982), on a uniform grid.
struct ScaleSearch {
  int candidates = 12;
  float spread = 0.3f;

  template <BlockFormat F>
  void encode(std::span<const float> x, typename F::Block& block) const {
    F::encode(x, block);
    if constexpr (detail::ScaledBlockFormat<F>) search<F>(x, block);
  }

 private:
  template <class F>
  void search(std::span<const float> x, typename F::Block& block) const {
    double least = squared_error<F>(x, block);
    if (!(least > 0) || !std::isfinite(least)) return;  // exact already, or not finite
    const typename F::Block start = block;
    const auto attempt = [&](const typename F::Block& candidate) {
      const double error = squared_error<F>(x, candidate);
      if (error < least) {
        least = error;
        block = candidate;
      }
    };
    for (int i = -candidates; i <= candidates; ++i) {
      typename F::Block trial = start;
      const float factor = 1.0f + spread * static_cast<float>(i) / static_cast<float>(candidates);
      if constexpr (F::has_minimum)
        F::encode(x, f16(float(start.d) * factor), start.m, trial);
      else
        F::encode(x, f16(float(start.d) * factor), trial);
      attempt(trial);
      refit<F>(x, trial);
      attempt(trial);
    }
  }

  template <class F>
  static double squared_error(std::span<const float> x, const typename F::Block& block) {
    std::array<float, F::block_size> decoded;
    F::decode(block, decoded);
    double error = 0;
    for (std::size_t i = 0; i < decoded.size(); ++i) {
      const double e = static_cast<double>(x[i]) - static_cast<double>(decoded[i]);
      error += e * e;
    }
    return error;
  }

  /// The least-squares scale (and minimum) for the codes of `block`, and the codes for those.
  template <class F>
  static void refit(std::span<const float> x, typename F::Block& block) {
    typename F::Block unit = block;
    unit.d = f16(1.0f);
    if constexpr (F::has_minimum) unit.m = f16();
    std::array<float, F::block_size> q;
    F::decode(unit, q);
    double qq = 0, qx = 0, q1 = 0, x1 = 0;
    for (std::size_t i = 0; i < q.size(); ++i) {
      const double code = static_cast<double>(q[i]), value = static_cast<double>(x[i]);
      qq += code * code;
      qx += code * value;
      q1 += code;
      x1 += value;
    }
    if constexpr (F::has_minimum) {
      const double n = static_cast<double>(q.size()), determinant = n * qq - q1 * q1;
      if (determinant <= 0) return;
      const double d = (n * qx - q1 * x1) / determinant;
      F::encode(x, f16(d), f16((x1 - d * q1) / n), block);
    } else {
      if (qq <= 0) return;
      F::encode(x, f16(qx / qq), block);
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI
