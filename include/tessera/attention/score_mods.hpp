/// Score-mods: ALiBi, soft caps, relative biases; and dropout of weights.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <vector>

#include <tessera/attention/score_mod.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kernels/attention/draws/ref.hpp>

namespace tessera::inline TESSERA_ABI {

/// score - slope(head) · |position - key|.
/// O. Press et al., "Train Short, Test Long: Attention with Linear Biases" (2022), §3.
class Alibi {
 public:
  static constexpr bool adds = true;

  /// The paper's slopes: the geometric sequence 2^(-8/h), 2^(-16/h), ... for a power of two; else those of the next
  /// smaller one, and every other one of the next larger. Throws shape_error unless heads > 0.
  explicit Alibi(Index heads) {
    if (heads <= 0) throw shape_error(detail::concat("tessera: Alibi of ", heads, " heads: expected at least 1"));
    Index whole = 1;
    while (whole <= heads / 2) whole *= 2;
    for (Index h = 0; h < heads; ++h)
      slopes_.push_back(std::exp2(h < whole
                                      ? -8.0 * static_cast<double>(h + 1) / static_cast<double>(whole)
                                      : -4.0 * static_cast<double>(2 * (h - whole) + 1) / static_cast<double>(whole)));
  }
  explicit Alibi(std::vector<double> slopes) : slopes_(std::move(slopes)) {}

  const std::vector<double>& slopes() const { return slopes_; }
  Index heads() const { return static_cast<Index>(slopes_.size()); }
  double row(Index head) const {
    return head < static_cast<Index>(slopes_.size()) ? slopes_[static_cast<std::size_t>(head)] : 0;
  }
  template <class V>
  TESSERA_FLAT V lanes(const V& score, const V& slope, const V& distance) const {
    return fnma(slope, abs(distance), score);
  }
  template <class T>
  T operator()(T score, const ScorePosition& at) const {
    const auto h = static_cast<std::size_t>(at.head);
    const double slope = h < slopes_.size() ? slopes_[h] : 0;
    return score -
           static_cast<T>(slope) * static_cast<T>(at.position > at.key ? at.position - at.key : at.key - at.position);
  }

 private:
  std::vector<double> slopes_;
};

/// cap · tanh(score / cap). Gemma Team, "Gemma 2" (2024), §2.
struct SoftCap {
  double cap = 50;
  double row(Index) const { return 0; }
  template <class V>
  TESSERA_FLAT V lanes(const V& score, const V&, const V&) const {
    using T = typename V::value_type;
    return V(static_cast<T>(cap)) * tanh(score * V(static_cast<T>(1 / cap)));
  }
  template <class T>
  T operator()(T score, const ScorePosition&) const {
    return static_cast<T>(cap) * std::tanh(score / static_cast<T>(cap));
  }
  template <class T>
  T derivative(T score, const ScorePosition&) const {
    const T t = std::tanh(score / static_cast<T>(cap));
    return 1 - t * t;
  }
};

/// Throws shape_error unless 2^-120 <= cap <= 2^120: it and its inverse are numbers of f32.
inline SoftCap soft_cap(double cap) {
  if (!(cap >= 0x1p-120 && cap <= 0x1p120))
    throw shape_error(detail::concat("tessera: soft_cap(", cap, "): expected a positive number, 2^-120 to 2^120"));
  return {cap};
}

/// score + table(head, distance), distance = key - position from -reach to reach, clamped, at column distance + reach.
/// P. Shaw et al., "Self-Attention with Relative Position Representations" (2018), eq. 4, as a bias.
template <class B>
class RelativeBias {
 public:
  static constexpr bool adds = true;

  /// table (heads, 2·reach + 1); must outlive this. Throws shape_error unless the number of columns is odd.
  explicit RelativeBias(MatrixView<const B> table) : table_(table), reach_(table.cols() / 2) {
    if (table.cols() % 2 != 1)
      throw shape_error(detail::concat("tessera: RelativeBias of ", detail::shape_text(table.rows(), table.cols()),
                                       ": expected (heads, 2*reach + 1)"));
  }
  Index heads() const { return table_.rows(); }
  double row(Index head) const { return static_cast<double>(head); }
  template <class V>
  TESSERA_FLAT V lanes(const V& score, const V& head, const V& distance) const {
    using T = typename V::value_type;
    constexpr Index W = V::width;
    T of[static_cast<std::size_t>(W)], bias[static_cast<std::size_t>(W)];
    head.store(of);
    distance.store(bias);
    const T reach = static_cast<T>(reach_), first = bias[0], last = bias[W - 1];
    const auto h = static_cast<Index>(of[0]);
    // One head's neighbouring distances, one way or the other, need no look-up each.
    const T step = last - first;
    const bool run = of[0] == of[W - 1] && (step == static_cast<T>(W - 1) || step == static_cast<T>(1 - W));
    if (run && std::max(first, last) <= -reach) return score + V(static_cast<T>(table_(h, 0)));
    if (run && std::min(first, last) >= reach) return score + V(static_cast<T>(table_(h, 2 * reach_)));
    if (run && std::max(first, last) <= reach && std::min(first, last) >= -reach) {
      const Index at = static_cast<Index>(first) + reach_, by = step < 0 ? -1 : 1;
      for (Index l = 0; l < W; ++l) bias[l] = static_cast<T>(table_(h, at + by * l));
    } else {
      for (Index l = 0; l < W; ++l)
        bias[l] = static_cast<T>(
            table_(static_cast<Index>(of[l]), static_cast<Index>(std::clamp(bias[l], -reach, reach)) + reach_));
    }
    return score + V::load(bias);
  }
  template <class T>
  T operator()(T score, const ScorePosition& at) const {
    return score + static_cast<T>(table_(at.head, column(at)));
  }

 protected:
  Index column(const ScorePosition& at) const { return std::clamp(at.key - at.position, -reach_, reach_) + reach_; }

 private:
  MatrixView<const B> table_;
  Index reach_;
};

/// RelativeBias whose table is trained: attention_backward adds the gradient of sequence b's loss to dtable[b], which
/// it does not clear. Sequences have one each, so that threads neither meet nor change the bits; their sum is the
/// table's.
template <std::floating_point B>
class LearnedRelativeBias : public RelativeBias<B> {
 public:
  /// dtable (batch, heads, 2·reach + 1); both must outlive this. Throws shape_error.
  LearnedRelativeBias(MatrixView<const B> table, View<B, 3> dtable) : RelativeBias<B>(table), dtable_(dtable) {
    if (dtable.extent(1) != table.rows() || dtable.extent(2) != table.cols())
      throw shape_error(detail::concat(
          "tessera: LearnedRelativeBias of ", detail::shape_text(table.rows(), table.cols()), " with a gradient of (",
          dtable.extent(0), ", ", dtable.extent(1), ", ", dtable.extent(2), "): expected (batch, heads, 2*reach + 1)"));
  }
  /// Sequences that dtable has no room for add nothing.
  template <class T>
  void add_gradient(T gradient, const ScorePosition& at) const {
    if (at.batch < dtable_.extent(0)) dtable_(at.batch, at.head, this->column(at)) += static_cast<B>(gradient);
  }

 private:
  View<B, 3> dtable_;
};

/// Weights are left out with probability p and divided by 1 - p otherwise. Which ones is a function of (seed, batch,
/// head, query, key) alone, so that a backward pass and any number of threads see the same.
class Dropout {
 public:
  /// Throws shape_error unless 0 <= p < 1.
  Dropout(double p, std::uint64_t seed) : scale_(1 / (1 - p)), seed_(seed) {
    if (!(p >= 0 && p < 1)) throw shape_error(detail::concat("tessera: Dropout(", p, "): expected 0 <= p < 1"));
    bar_ = static_cast<std::uint64_t>(p * 0x1p32);
  }
  bool keeps(Index head, Index query, Index key, Index batch = 0) const {
    DrawArgs args = draws(head, query, batch);
    args.first = static_cast<std::uint32_t>(key / DrawArgs::group);
    std::array<std::uint32_t, DrawArgs::group> words;
    args.words = words.data();
    DrawRef::run(args, {0, 1, 0});
    return words[static_cast<std::size_t>(key % DrawArgs::group)] >= bar_;
  }
  template <class T>
  T weight(T w, const ScorePosition& at) const {
    return keeps(at.head, at.query, at.key, at.batch) ? w * static_cast<T>(scale_) : T(0);
  }
  template <class T, class KeyOf>
  void weigh_row(T* w, Index stride, Index count, const ScorePosition& at, const KeyOf& key, DrawRun draw) const {
    constexpr Index group = DrawArgs::group, most = 4;  // groups at a time
    std::array<std::uint32_t, most * group> words;
    DrawArgs args = draws(at.head, at.query, at.batch);
    args.words = words.data();
    const T kept = static_cast<T>(scale_);
    for (Index j = 0; j < count;) {
      const Index first = key(j) / group, last = key(std::min(count, j + most * group) - 1) / group;
      const Index groups = std::min(most, last - first + 1), begin = first * group, end = begin + groups * group;
      args.first = static_cast<std::uint32_t>(first);
      draw(args, {0, groups, 0});
      for (Index k; j < count && (k = key(j)) < end; ++j)
        w[j * stride] = words[static_cast<std::size_t>(k - begin)] >= bar_ ? w[j * stride] * kept : T(0);
    }
  }

 private:
  DrawArgs draws(Index head, Index query, Index batch) const {
    DrawArgs args;
    args.c1 = static_cast<std::uint32_t>(query);
    args.c2 = static_cast<std::uint32_t>(head);
    args.c3 = static_cast<std::uint32_t>(batch);
    args.key0 = static_cast<std::uint32_t>(seed_);
    args.key1 = static_cast<std::uint32_t>(seed_ >> 32);
    return args;
  }

  std::uint64_t bar_ = 0;
  double scale_;
  std::uint64_t seed_;
};

}  // namespace tessera::inline TESSERA_ABI
