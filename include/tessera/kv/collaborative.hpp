/// Images scale by scale, the coarse ones by a large model, the fine ones by a small one.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>
#include <vector>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// A next-scale model with a cache of its own. Scales come in order, from 0.
///   read(ctx, scale, input)          caches the tokens of a scale, input (side², channels); gives no codes
///   read(ctx, scale, input, codes)   the same, and the codes (side²) it would continue with
template <class M>
concept ScaleModel = requires(M& model, Context& ctx, Index scale, MatrixView<const float> input,
                              std::span<Index> codes) {
  model.read(ctx, scale, input);
  model.read(ctx, scale, input, codes);
};

/// The image so far, (channels, side, side): the sum of what every scale adds.
class ScaleCanvas {
 public:
  /// Throws shape_error unless both are positive.
  ScaleCanvas(Index channels, Index side) : channels_(channels), side_(side) {
    if (channels < 1 || side < 1)
      throw shape_error(tessera::detail::concat("tessera: ScaleCanvas of ", channels, " channels and side ", side,
                                                "; expected at least one of each"));
    values_.resize(static_cast<std::size_t>(channels * side * side), 0.0f);
  }
  Index channels() const { return channels_; }
  Index side() const { return side_; }
  View<const float, 3> values() const { return {values_.data(), {channels_, side_, side_}}; }

  /// Adds rows codebook[codes] (V, channels) of a map of `side`², enlarged bilinearly (corners not aligned). Throws
  /// shape_error unless they fit. O(channels · side()²).
  void add(Index side, std::span<const Index> codes, MatrixView<const float> codebook) {
    check_side(side);
    if (static_cast<Index>(codes.size()) != side * side || codebook.cols() != channels_)
      throw shape_error(tessera::detail::concat(
          "tessera: ScaleCanvas: ", static_cast<Index>(codes.size()), " codes of a map of side ", side,
          " and a codebook of ", codebook.cols(), " channels; expected ", side * side, " and ", channels_));
    for (const Index code : codes)
      if (code < 0 || code >= codebook.rows())
        throw shape_error(tessera::detail::concat("tessera: ScaleCanvas: code ", code, " of a codebook of ",
                                                  codebook.rows(), " rows"));
    const std::vector<Tap> taps = enlarging(side);
    const auto at = [&](Index y, Index x, Index c) {
      return codebook(codes[static_cast<std::size_t>(y * side + x)], c);
    };
    for (Index c = 0; c < channels_; ++c)
      for (Index y = 0; y < side_; ++y)
        for (Index x = 0; x < side_; ++x) {
          const Tap& v = taps[static_cast<std::size_t>(y)];
          const Tap& h = taps[static_cast<std::size_t>(x)];
          const float above = at(v.low, h.low, c) * (1 - h.share) + at(v.low, h.high, c) * h.share;
          const float below = at(v.high, h.low, c) * (1 - h.share) + at(v.high, h.high, c) * h.share;
          values_[static_cast<std::size_t>((c * side_ + y) * side_ + x)] += above * (1 - v.share) + below * v.share;
        }
  }

  /// The canvas as a map of `side`², means over the areas: (side², channels). Throws shape_error.
  void reduce(Index side, MatrixView<float> out) const {
    check_side(side);
    if (out.rows() != side * side || out.cols() != channels_)
      throw shape_error(tessera::detail::concat("tessera: ScaleCanvas reduced to side ", side, " into ",
                                                tessera::detail::shape_text(out.rows(), out.cols()), "; expected ",
                                                tessera::detail::shape_text(side * side, channels_)));
    const auto first = [&](Index i) { return i * side_ / side; };
    const auto last = [&](Index i) { return ((i + 1) * side_ + side - 1) / side; };
    for (Index y = 0; y < side; ++y)
      for (Index x = 0; x < side; ++x)
        for (Index c = 0; c < channels_; ++c) {
          double sum = 0;
          for (Index v = first(y); v < last(y); ++v)
            for (Index h = first(x); h < last(x); ++h)
              sum += static_cast<double>(values_[static_cast<std::size_t>((c * side_ + v) * side_ + h)]);
          out(y * side + x, c) =
              static_cast<float>(sum / static_cast<double>((last(y) - first(y)) * (last(x) - first(x))));
        }
  }

 private:
  struct Tap {
    Index low, high;
    float share;  // of high
  };
  void check_side(Index side) const {
    if (side < 1 || side > side_)
      throw shape_error(tessera::detail::concat("tessera: a map of side ", side, " for a canvas of side ", side_,
                                                "; expected 1 to that"));
  }
  std::vector<Tap> enlarging(Index side) const {
    std::vector<Tap> taps;
    for (Index i = 0; i < side_; ++i) {
      const double at =
          std::clamp((static_cast<double>(i) + 0.5) * static_cast<double>(side) / static_cast<double>(side_) - 0.5, 0.0,
                     static_cast<double>(side - 1));
      const auto low = static_cast<Index>(at);
      taps.push_back({low, std::min(low + 1, side - 1), static_cast<float>(at - static_cast<double>(low))});
    }
    return taps;
  }

  Index channels_, side_;
  std::vector<float> values_;
};

/// The first `drafted` maps by `drafter`, the others by `refiner`, which first reads what led to them. A map's input is
/// the canvas so far, reduced to its side; its codes' rows of `codebook` are added to the canvas. `drafted` 0 is the
/// refiner alone, `sides.size()` the drafter alone. The drafter's cache is idle after its last map: clear it in
/// `after_draft()`. Throws shape_error unless sides are 1 to the canvas's, drafted fits, and codes are the codebook's.
/// Z. Chen et al., "Collaborative Decoding Makes Visual Auto-Regressive Modeling Efficient" (CVPR 2025), §3.
template <ScaleModel Drafter, ScaleModel Refiner, class AfterDraft>
void collaborative_decode(Context& ctx, Drafter& drafter, Refiner& refiner, Index drafted, std::span<const Index> sides,
                          MatrixView<const float> codebook,  // (V, channels)
                          ScaleCanvas& canvas, const AfterDraft& after_draft) {
  const auto scales = static_cast<Index>(sides.size());
  if (drafted < 0 || drafted > scales)
    throw shape_error(tessera::detail::concat("tessera: collaborative_decode: ", drafted, " drafted maps of ", scales,
                                              "; expected 0 to all of them"));
  std::vector<float> inputs;        // (tokens so far, channels)
  std::vector<std::size_t> firsts;  // of each scale
  std::vector<Index> codes;
  const Index channels = canvas.channels();
  const auto input_of = [&](Index scale) {
    const Index side = sides[static_cast<std::size_t>(scale)];
    return MatrixView<float>(inputs.data() + firsts[static_cast<std::size_t>(scale)], side * side, channels);
  };
  for (Index scale = 0; scale < scales; ++scale) {
    const Index side = sides[static_cast<std::size_t>(scale)];
    if (side < 1 || side > canvas.side())
      throw shape_error(tessera::detail::concat("tessera: collaborative_decode: map ", scale, " of side ", side,
                                                " on a canvas of ", canvas.side()));
    if (scale == drafted && scale > 0) {
      after_draft();
      for (Index past = 0; past < scale; ++past) refiner.read(ctx, past, MatrixView<const float>(input_of(past)));
    }
    firsts.push_back(inputs.size());
    inputs.resize(inputs.size() + static_cast<std::size_t>(side * side * channels));
    canvas.reduce(side, input_of(scale));
    codes.assign(static_cast<std::size_t>(side * side), 0);
    const MatrixView<const float> input = input_of(scale);
    if (scale < drafted)
      drafter.read(ctx, scale, input, std::span<Index>(codes));
    else
      refiner.read(ctx, scale, input, std::span<Index>(codes));
    canvas.add(side, codes, codebook);
  }
}

template <ScaleModel Drafter, ScaleModel Refiner>
void collaborative_decode(Context& ctx, Drafter& drafter, Refiner& refiner, Index drafted, std::span<const Index> sides,
                          MatrixView<const float> codebook, ScaleCanvas& canvas) {
  collaborative_decode(ctx, drafter, refiner, drafted, sides, codebook, canvas, [] {});
}

}  // namespace tessera::inline TESSERA_ABI::kv
