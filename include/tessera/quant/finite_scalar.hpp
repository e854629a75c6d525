/// Finite scalar quantization: each coordinate to one of a few levels, all of them together one integer token.
/// F. Mentzer et al., "Finite Scalar Quantization: VQ-VAE Made Simple" (2023); M. Nguyen et al., "PhysiX" (2025) uses
/// it for fields. Deviation: levels are uniform on [-1, 1], ends included, for even and odd counts alike, where the
/// paper shifts even ones by half a step.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>

namespace tessera::inline TESSERA_ABI {

/// d coordinates of levels[i] >= 2 levels each; tokens are in [0, Π levels), coordinate 0 the fastest digit.
class FiniteScalarQuantizer {
 public:
  /// Throws shape_error for a coordinate of fewer than 2 levels and for more than 2^63 tokens.
  explicit FiniteScalarQuantizer(std::vector<int> levels) : levels_(std::move(levels)) {
    for (std::size_t i = 0; i < levels_.size(); ++i) {
      if (levels_[i] < 2 || tokens_ > std::numeric_limits<std::int64_t>::max() / std::max(levels_[i], 1))
        throw shape_error(detail::concat("tessera: FiniteScalarQuantizer: coordinate ", i, " has ", levels_[i],
                                         " levels; expected 2 or more, and at most 2^63 tokens in all"));
      tokens_ *= levels_[i];
    }
  }

  Index dimension() const { return static_cast<Index>(levels_.size()); }
  std::int64_t tokens() const { return tokens_; }
  std::span<const int> levels() const { return levels_; }

  /// The level of a bounded coordinate in [-1, 1] (what lies outside is clamped; NaN counts as 0), and its value. The
  /// rounding error is at most half a step, 1 / (levels - 1).
  int digit(Index i, float bounded) const {
    const int top = levels_[static_cast<std::size_t>(i)] - 1;
    const float at = (bounded != bounded ? 1.0f : std::clamp(bounded, -1.0f, 1.0f) + 1.0f) * 0.5f;
    return static_cast<int>(std::lround(at * static_cast<float>(top)));
  }
  float value(Index i, int digit) const {
    const int top = levels_[static_cast<std::size_t>(i)] - 1;
    return static_cast<float>(2 * digit - top) / static_cast<float>(top);
  }

  /// Tokens of latents Z (n,d), which tanh bounds. Throws shape_error.
  void encode(Context& ctx, MatrixView<const float> Z, std::span<std::int64_t> tokens) const {
    check("encode", Z.rows(), Z.cols(), tokens.size());
    for_each_chunk(ctx, Z.rows(), 1024, [&](Context&, Index begin, Index end) {
      for (Index t = begin; t < end; ++t) {
        std::int64_t token = 0;
        for (Index i = dimension(); i-- > 0;)
          token = token * levels_[static_cast<std::size_t>(i)] + digit(i, std::tanh(Z(t, i)));
        tokens[static_cast<std::size_t>(t)] = token;
      }
    });
  }
  /// Values in [-1, 1] of tokens, to (n,d). Throws shape_error, also for a token outside [0, tokens()).
  void decode(Context& ctx, std::span<const std::int64_t> tokens, MatrixView<float> values) const {
    check("decode", values.rows(), values.cols(), tokens.size());
    for (std::size_t t = 0; t < tokens.size(); ++t)
      if (tokens[t] < 0 || tokens[t] >= tokens_)
        throw shape_error(detail::concat("tessera: FiniteScalarQuantizer::decode: token ", t, " is ", tokens[t],
                                         "; expected 0 to ", tokens_ - 1));
    for_each_chunk(ctx, values.rows(), 1024, [&](Context&, Index begin, Index end) {
      for (Index t = begin; t < end; ++t) {
        std::int64_t token = tokens[static_cast<std::size_t>(t)];
        for (Index i = 0; i < dimension(); ++i) {
          const int count = levels_[static_cast<std::size_t>(i)];
          values(t, i) = value(i, static_cast<int>(token % count));
          token /= count;
        }
      }
    });
  }
  /// Quantized values of latents, Q (n,d): what a decoder is trained on. Throws shape_error.
  void quantize(Context& ctx, MatrixView<const float> Z, MatrixView<float> Q) const {
    check("quantize", Z.rows(), Z.cols(), static_cast<std::size_t>(Q.rows()));
    check("quantize", Q.rows(), Q.cols(), static_cast<std::size_t>(Z.rows()));
    for_each_chunk(ctx, Z.rows(), 1024, [&](Context&, Index begin, Index end) {
      for (Index t = begin; t < end; ++t)
        for (Index i = 0; i < dimension(); ++i) Q(t, i) = value(i, digit(i, std::tanh(Z(t, i))));
    });
  }
  /// dZ = dQ · (1 - tanh²(Z)): rounding is passed straight through (Y. Bengio et al. 2013), tanh is not.
  void backward(Context& ctx, MatrixView<const float> Z, MatrixView<const float> dQ, MatrixView<float> dZ) const {
    check("backward", dZ.rows(), dZ.cols(), static_cast<std::size_t>(Z.rows()));
    check("backward", dQ.rows(), dQ.cols(), static_cast<std::size_t>(Z.rows()));
    check("backward", Z.rows(), Z.cols(), static_cast<std::size_t>(Z.rows()));
    for_each_chunk(ctx, Z.rows(), 1024, [&](Context&, Index begin, Index end) {
      for (Index t = begin; t < end; ++t)
        for (Index i = 0; i < dimension(); ++i) {
          const float bounded = std::tanh(Z(t, i));
          dZ(t, i) = dQ(t, i) * (1 - bounded * bounded);
        }
    });
  }

 private:
  void check(const char* what, Index rows, Index cols, std::size_t tokens) const {
    if (cols != dimension() || static_cast<std::size_t>(rows) != tokens)
      throw shape_error(detail::concat("tessera: FiniteScalarQuantizer::", what, " of (",
                                       detail::shape_text(rows, cols), ") with ", tokens, " tokens: expected (",
                                       detail::shape_text(static_cast<Index>(tokens), dimension()), ")"));
  }

  std::vector<int> levels_;
  std::int64_t tokens_ = 1;
};

}  // namespace tessera::inline TESSERA_ABI
