/// Fewer bits a number the older a token is, in steps.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <numeric>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/kv/codecs/channel_groups.hpp>
#include <tessera/kv/codecs/codec.hpp>
#include <tessera/kv/codecs/int8.hpp>
#include <tessera/kv/codecs/plain.hpp>
#include <tessera/kv/codecs/token_blocks.hpp>
#include <tessera/kv/row_math.hpp>

namespace tessera::inline TESSERA_ABI::kv {

namespace detail {
/// Bits of steps of which the first takes tokens as they come: no row store that shares grids between tokens can.
constexpr bool is_staircase(std::initializer_list<int> bits) {
  int above = 32;
  for (const int b : bits) {
    if ((b != 32 && b != 16 && b != 8 && (b > 4 || b < 2)) || b > above) return false;
    above = b;
  }
  return bits.size() > 0 && *bits.begin() >= 16;
}
inline Unpack decoder_of_steps() {  // every kernel gives the same bits
  static const Unpack run = [] {
    UnpackArgs any;
    any.bits = 8;
    return UnpackKernels::select(Context(), any).run;
  }();
  return run;
}
}  // namespace detail

/// One step: tokens come to `Young`; as soon as `quota` others are younger than its oldest `segment`, these are decoded
/// and leave for `Old`, which may be a step again. What leaves when depends on how many tokens came, not on how many
/// came at once. `reserve` holds for the oldest step: a segment that leaves a step takes its room with it.
template <RowStore Young, RowStore Old, class Storage>
class Step {
 public:
  /// Throws unsupported_error unless segment >= 1 and quota >= 0.
  Step(Young young, Old old, Index d, Index segment, Index quota)
      : young_(std::move(young)),
        old_(std::move(old)),
        d_(d),
        segment_(detail::checked_tokens("Staircase", "segment", segment)),
        quota_(detail::checked_tokens("Staircase", "quota", quota, 0)) {}

  void append(const float* rows, Index count, Index stride) {
    const Index leaving = std::max<Index>(young_.size() + count - quota_, 0) / segment_ * segment_;
    if (leaving > old_.size() / 4) old_.reserve(old_.size() + leaving);  // a long prompt: exact room
    for (Index t = 0; t < count; t += segment_) {
      young_.append(rows + t * stride, std::min(segment_, count - t), stride);
      if (young_.size() >= quota_ + segment_) age();
    }
  }
  const float* tile(Index begin, Index count, float* scratch, Index& stride, Unpack unpack) const noexcept {
    const Index old = old_.size();
    if (begin >= old) return young_.tile(begin - old, count, scratch, stride, unpack);
    const Index some = std::min(count, old - begin);
    if (some == count) return old_.tile(begin, count, scratch, stride, unpack);
    float* const late = scratch + some * d_;
    detail::gather_rows(old_.tile(begin, some, scratch, stride, unpack), stride, some, d_, scratch);
    detail::gather_rows(young_.tile(0, count - some, late, stride, unpack), stride, count - some, d_, late);
    stride = d_;
    return scratch;
  }
  void retain(std::span<const Index> kept) {
    const Index old = old_.size();
    const auto split = static_cast<std::size_t>(std::lower_bound(kept.begin(), kept.end(), old) - kept.begin());
    std::vector<Index> late(kept.begin() + static_cast<std::ptrdiff_t>(split), kept.end());
    for (Index& t : late) t -= old;
    young_.retain(late);
    old_.retain(kept.first(split));
  }
  void truncate(Index n) {
    young_.truncate(std::max<Index>(n - old_.size(), 0));
    if (n < old_.size()) old_.truncate(n);
  }
  void reserve(Index n) {
    old_.reserve(std::max<Index>(n - quota_, 0));
    young_.reserve(std::min(n, quota_ + segment_));
  }
  Index size() const { return old_.size() + young_.size(); }
  std::size_t bytes() const { return old_.bytes() + young_.bytes(); }

 private:
  void age() {
    typename Storage::template Array<float> scratch;
    scratch.resize(segment_ * d_);
    Index stride = 0;
    const float* const rows = young_.tile(0, segment_, scratch.data(), stride, detail::decoder_of_steps());
    std::vector<Index> left(static_cast<std::size_t>(young_.size() - segment_));
    std::iota(left.begin(), left.end(), segment_);
    old_.append(rows, segment_, stride);
    young_.retain(left);
  }

  Young young_;
  Old old_;
  Index d_, segment_, quota_;
};

/// F. Li, "The Nature of Mathematical Modeling and Probabilistic Optimization Engineering in Generative AI" (2024),
/// staircase adaptive quantization: Staircase<16, 8, 4, 2> holds the latest tokens in f16, and a segment of `segment`
/// tokens goes down a step each time that the `quota` segments of its step are younger. Numbers go from step to step as
/// they were decoded, so that errors add up: half a grid's step for each. 32 is f32, 16 f16, 8 Int8; 4 and 2 as in
/// KIVI, keys sharing a grid a channel and segment, values a token and 32 channels. Bytes are the sum of the steps',
/// the first holding up to a segment more than its quota. A token is encoded once a step; O(quota · d) moved a token.
template <int... Bits>
requires(detail::is_staircase({Bits...})) struct Staircase {
  static constexpr std::string_view name = "staircase";
  static constexpr std::size_t steps = sizeof...(Bits);
  Index segment = 32;                             // tokens
  std::array<Index, steps - 1> quota = filled();  // segments of each step but the last, which takes the rest

  /// Both throw unsupported_error unless segments have tokens and steps fit a cache.
  template <class Storage>
  auto keys(Index d) const {
    check();
    return stairs<true, Storage, Bits...>(d);
  }
  template <class Storage>
  auto values(Index d) const {
    check();
    return stairs<false, Storage, Bits...>(d);
  }

 private:
  static constexpr std::array<Index, steps - 1> filled() {
    std::array<Index, steps - 1> four{};
    four.fill(4);
    return four;
  }
  void check() const {
    constexpr Index most = std::numeric_limits<std::int32_t>::max();
    if (segment < 1 || segment > most)
      throw unsupported_error(
          tessera::detail::concat("tessera: Staircase with segments of ", segment, " tokens; expected 1 to ", most));
    for (const Index q : quota)
      if (q < 0 || q > most / segment)
        throw unsupported_error(tessera::detail::concat("tessera: Staircase with a step of ", q, " segments of ",
                                                        segment, " tokens; expected 0 to ", most / segment));
  }
  template <bool Keys, class Storage, int First, int... Lower>
  auto stairs(Index d) const {
    auto young = rows<Keys, Storage, First>(d);
    if constexpr (sizeof...(Lower) == 0) {
      return young;
    } else {
      auto old = stairs<Keys, Storage, Lower...>(d);
      return Step<decltype(young), decltype(old), Storage>(std::move(young), std::move(old), d, segment,
                                                           segment * quota[steps - 1 - sizeof...(Lower)]);
    }
  }
  template <bool Keys, class Storage, int B>
  auto rows(Index d) const {
    if constexpr (B == 32)
      return PlainRows<float, Storage>(d);
    else if constexpr (B == 16)
      return PlainRows<f16, Storage>(d);
    else if constexpr (B == 8)
      return Int8Rows<Storage>(d);
    else if constexpr (Keys)
      return ChannelGroups<B, Storage>(d, segment);
    else
      return TokenBlocks<B, Storage>(d);
  }
};

}  // namespace tessera::inline TESSERA_ABI::kv
