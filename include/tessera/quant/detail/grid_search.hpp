/// The vector of a grid nearest to eight values.
#pragma once

#include <cstdint>
#include <limits>

#include <tessera/core/config.hpp>
#include <tessera/quant/detail/grid_points.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// What the signs of eight values may be.
enum class GridSigns {
  free,    // any
  even,    // an even number of them is set
  equal,   // all or none: the codebook's halves are two shifts of the levels
  shared,  // the same for a whole group
};

struct GridFound {
  float error;
  int entry;
  bool flip_low = false;  // in which half a sign is to be wrong
};

/// Squared errors of every half of a vector, for values x >= 0 (or any, where signs are shifts) and a scale. They add
/// up to those of the entries, so that all entries with the same high half are passed over at once if that and the best
/// low half are no better than what was found, and so are all that share its last quarter. `flipped`: with one value of
/// the half, the one where it costs least, of the wrong sign.
template <const auto& Points>
class GridSearch {
  static constexpr int base = Points.base, half = Points.half, quarters = Points.quarters, stride = Points.stride;

 public:
  template <bool Flips>
  void prepare(const float* x, const float (&level)[base]) {
    for (int h = 0; h < 2; ++h) {
      Quarter quarter[2];
      for (int i = 0; i < 2; ++i) quarter[i].template prepare<Flips>(x + h * half + i * half / 2, level);
      const auto& [first, last] = quarter;
      Half& to = half_[h];
      for (int j = 0; j < quarters; ++j) {
        to.last[j] = last.error[j] + first.least;
        for (int k = 0; k < stride; ++k) to.error[j * stride + k] = last.error[j] + first.error[k];
        if constexpr (Flips)
          for (int k = 0; k < stride; ++k) {
            const float cost = first.flip[k] < last.flip[j] ? first.flip[k] : last.flip[j];
            to.flipped[j * stride + k] = to.error[j * stride + k] + cost;
          }
      }
      to.least = last.least + first.least;
      to.likely = last.likely * quarters + first.likely;
    }
  }

  GridFound nearest() const { return search(half_[0].error, half_[1].error, {infinity, 0}); }
  /// With one wrong sign.
  GridFound nearest_flipped() const {
    GridFound found = search(half_[0].error, half_[1].flipped, {infinity, 0});
    const GridFound low = search(half_[0].flipped, half_[1].error, found);
    if (low.error < found.error) {
      found = low;
      found.flip_low = true;
    }
    return found;
  }

 private:
  static constexpr float infinity = std::numeric_limits<float>::infinity();

  struct Quarter {
    float error[stride], flip[stride], least;
    int likely;

    template <bool Flips>
    void prepare(const float* x, const float (&level)[base]) {
      for (int k = quarters; k < stride; ++k) error[k] = flip[k] = 0;
      if constexpr (half == 2) {
        for (int a = 0; a < base; ++a) error[a] = squared(x[0] - level[a]);
        if constexpr (Flips)
          for (int a = 0; a < base; ++a) flip[a] = 4 * x[0] * level[a];
      } else {
        for (int b = 0; b < base; ++b) {
          const float other = squared(x[1] - level[b]), turned = 4 * x[1] * level[b];
          for (int a = 0; a < base; ++a) {
            error[b * base + a] = squared(x[0] - level[a]) + other;
            const float cost = 4 * x[0] * level[a];
            if constexpr (Flips) flip[b * base + a] = cost < turned ? cost : turned;
          }
        }
      }
      likely = 0;
      for (int k = 1; k < quarters; ++k) likely = error[k] < error[likely] ? k : likely;
      least = error[likely];
    }
    static float squared(float v) { return v * v; }
  };
  struct Half {
    float error[Points.halves], flipped[Points.halves];
    float last[quarters], least;  // of all with the same last quarter, of all
    int likely;
  };

  GridFound search(const float (&low)[Points.halves], const float (&high)[Points.halves], GridFound found) const {
    const float least = half_[0].least;
    const auto visit = [&](int j, int k) {
      const float above = high[j * stride + k];
      if (!(above + least < found.error)) return;
      const int h = j * quarters + k;
      for (int e = Points.first[h]; e < Points.first[h + 1]; ++e)
        if (const float error = above + low[Points.low[e]]; error < found.error) found = {error, e};
    };
    visit(half_[1].likely / quarters, half_[1].likely % quarters);
    for (int j = 0; j < quarters; ++j) {
      if (!(half_[1].last[j] + least < found.error)) continue;
      for (int k = 0; k < quarters; ++k) visit(j, k);
    }
    return found;
  }

  Half half_[2];
};

}  // namespace tessera::inline TESSERA_ABI::detail
