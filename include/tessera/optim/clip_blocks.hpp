/// Clipping by value and block by block; normalising; signs. Names and formulas are optax's.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include <tessera/optim/clip.hpp>
#include <tessera/optim/moments.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
template <class T>
struct ClampStep {
  T limit;
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V&) const {
    u = clamp(u, V(limit));
  }
};

struct SignStep {
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V&) const {
    u = sign(u);
  }
};

struct ZeroStep {
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V&) const {
    u = V(0);
  }
};

/// One factor a block.
template <class T, class Link>
struct BlockScales {
  const Link* link;
  std::span<const VectorView<const T>> updates;
  const std::vector<double>* norms;
  ScaleStep<T> block(std::size_t b) const { return {static_cast<T>(link->factor((*norms)[b], updates[b].extent(0)))}; }
};

/// Base of links that scale each block by its own norm; the norms last seen are their state.
template <class Link>
struct ScaleByBlockNorm {
  struct State {
    std::vector<double> norms;
  };
  template <class T>
  State init(const Parameters<T>& params) const {
    return {std::vector<double>(params.size())};
  }
  template <class T>
  BlockScales<T, Link> reduce(Context& ctx, std::span<const VectorView<const T>> updates, State& state) const {
    for (std::size_t b = 0; b < updates.size(); ++b) state.norms[b] = std::sqrt(sum_squares(ctx, updates[b]));
    return {static_cast<const Link*>(this), updates, &state.norms};
  }
};
}  // namespace detail

/// u ← u kept in [-limit, limit]; NaN stays NaN (optax.clip).
struct Clip {
  static constexpr std::string_view name = "clip";
  static constexpr std::array<std::string_view, 0> slots{};
  double limit = 1;
  template <class T>
  detail::ClampStep<T> step(Index, const Parameter<T>&) const {
    return {static_cast<T>(limit)};
  }
};
inline Clip clip(double limit) { return {detail::checked_least(Clip::name, "limit", limit)}; }

/// u ← 1, -1, or 0 where it is; NaN stays NaN (optax.scale_by_sign).
struct ScaleBySign {
  static constexpr std::string_view name = "scale_by_sign";
  static constexpr std::array<std::string_view, 0> slots{};
  template <class T>
  detail::SignStep step(Index, const Parameter<T>&) const {
    return {};
  }
};
inline ScaleBySign scale_by_sign() { return {}; }

/// u ← 0, NaN too (optax.set_to_zero); `freeze()` of partition.hpp does not even read.
struct SetToZero {
  static constexpr std::string_view name = "set_to_zero";
  static constexpr std::array<std::string_view, 0> slots{};
  template <class T>
  detail::ZeroStep step(Index, const Parameter<T>&) const {
    return {};
  }
};
inline SetToZero set_to_zero() { return {}; }

/// Each block whose root mean square is over `threshold` is scaled down to it: N. Shazeer, M. Stern, "Adafactor"
/// (2018), §6. A NaN makes its block NaN.
struct ClipByBlockRms : detail::ScaleByBlockNorm<ClipByBlockRms> {
  static constexpr std::string_view name = "clip_by_block_rms";
  double threshold = 1;
  explicit ClipByBlockRms(double limit) : threshold(limit) {}
  double factor(double norm, Index size) const {
    const double rms = norm / std::sqrt(static_cast<double>(size));
    return rms <= threshold ? 1 : threshold / rms;
  }
};
inline ClipByBlockRms clip_by_block_rms(double threshold) {
  return ClipByBlockRms(detail::checked_least(ClipByBlockRms::name, "threshold", threshold));
}

/// The same with the 2-norm of each block.
struct ClipByBlockNorm : detail::ScaleByBlockNorm<ClipByBlockNorm> {
  static constexpr std::string_view name = "clip_by_block_norm";
  double max_norm = 1;
  explicit ClipByBlockNorm(double limit) : max_norm(limit) {}
  double factor(double norm, Index) const { return norm <= max_norm ? 1 : max_norm / norm; }
};
inline ClipByBlockNorm clip_by_block_norm(double max_norm) {
  return ClipByBlockNorm(detail::checked_least(ClipByBlockNorm::name, "max_norm", max_norm));
}

/// u ← u·factor/(‖all updates‖ + eps).
struct NormalizeByUpdateNorm : detail::ScaleByGlobalNorm<NormalizeByUpdateNorm> {
  static constexpr std::string_view name = "normalize_by_update_norm";
  double scale, eps;
  explicit NormalizeByUpdateNorm(double by = 1, double least = 1e-6) : scale(by), eps(least) {}
  double factor(double norm) const { return scale / (norm + eps); }
};
inline NormalizeByUpdateNorm normalize_by_update_norm(double factor = 1, double eps = 1e-6) {
  return NormalizeByUpdateNorm(factor, detail::checked_least(NormalizeByUpdateNorm::name, "eps", eps));
}

}  // namespace tessera::inline TESSERA_ABI::optim
