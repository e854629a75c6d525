/// A window of the latest tokens in full precision before any packed store.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <utility>

#include <tessera/core/error.hpp>
#include <tessera/kv/codecs/codec.hpp>
#include <tessera/kv/row_math.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// Tokens arrive in f32 and leave for `Packed`, `group` at a time, as soon as `recent` others are younger: between
/// `recent` and recent + group - 1 of the latest are exact. What is packed when depends on how many tokens came, not on
/// how many came at once.
template <RowStore Packed, class Storage>
class Recent {
 public:
  /// Throws unsupported_error unless group >= 1 and recent >= 0.
  Recent(Packed packed, Index d, Index group, Index recent)
      : packed_(std::move(packed)),
        d_(d),
        group_(detail::checked_tokens("Recent", "group", group)),
        recent_(detail::checked_tokens("Recent", "recent", recent, 0)) {}

  void append(const float* rows, Index count, Index stride) {
    const Index leaving = std::max<Index>(tokens() + count - recent_, 0) / group_ * group_;
    if (leaving > packed_.size() / 4) packed_.reserve(packed_.size() + leaving);  // a long prompt: exact room
    while (count > 0) {
      const Index held = tokens(), some = std::min(count, recent_ + group_ - held);
      tail_.resize((held + some) * d_);
      for (Index t = 0; t < some; ++t) std::copy_n(rows + t * stride, d_, tail_.data() + (held + t) * d_);
      rows += some * stride;
      count -= some;
      if (held + some == recent_ + group_) {
        packed_.append(tail_.data(), group_, d_);
        std::copy(tail_.data() + group_ * d_, tail_.data() + tail_.size(), tail_.data());
        tail_.resize(recent_ * d_);
      }
    }
  }
  const float* tile(Index begin, Index count, float* scratch, Index& stride, Unpack unpack) const noexcept {
    stride = d_;
    const Index old = packed_.size();
    if (begin >= old) return tail_.data() + (begin - old) * d_;
    const Index some = std::min(count, old - begin);
    detail::gather_rows(packed_.tile(begin, some, scratch, stride, unpack), stride, some, d_, scratch);
    stride = d_;
    std::copy_n(tail_.data(), (count - some) * d_, scratch + some * d_);
    return scratch;
  }
  TokenCodes codes(Index begin) const noexcept {
    if constexpr (requires { packed_.codes(begin); }) {
      if (begin < packed_.size()) return packed_.codes(begin);
    }
    return {};
  }
  void retain(std::span<const Index> kept, Index spare = 0) {
    const Index old = packed_.size();
    const auto split = std::lower_bound(kept.begin(), kept.end(), old) - kept.begin();
    Index to = 0;
    for (const Index t : kept.subspan(static_cast<std::size_t>(split)))
      std::copy_n(tail_.data() + (t - old) * d_, d_, tail_.data() + d_ * to++);
    tail_.resize(to * d_);
    tail_.fit(std::min(spare, recent_ + group_ - to) * d_);
    const auto packed = kept.first(static_cast<std::size_t>(split));
    if constexpr (requires { packed_.retain(packed, spare); })
      packed_.retain(packed, std::max<Index>(to + spare - recent_, 0) / group_ * group_);
    else
      packed_.retain(packed);
  }
  void demote(std::span<const Index> kept) requires requires(Packed& packed) { packed.demote(kept); }
  {
    const auto split = std::lower_bound(kept.begin(), kept.end(), packed_.size()) - kept.begin();
    packed_.demote(kept.first(static_cast<std::size_t>(split)));
  }
  void truncate(Index n) {
    truncate_rows(tail_, d_, std::max<Index>(n - packed_.size(), 0));
    if (n < packed_.size()) packed_.truncate(n);
  }
  void reserve(Index n) {
    packed_.reserve(std::max<Index>(n - recent_, 0) / group_ * group_);
    tail_.reserve(std::min(n, recent_ + group_) * d_);
  }
  Index size() const { return packed_.size() + tokens(); }
  Index latent() const requires LatentRowStore<Packed> { return packed_.latent(); }
  Index width() const requires LatentRowStore<Packed> { return packed_.width(); }
  const float* latent_tile(Index begin, Index count, float* scratch, Index& stride,
                           Unpack unpack) const noexcept requires LatentRowStore<Packed> {
    return packed_.latent_tile(begin, count, scratch, stride, unpack);
  }
  TokenCodes latent_codes(Index begin) const noexcept requires LatentRowStore<Packed> {
    return packed_.latent_codes(begin);
  }
  void absorb(Context& ctx, MatrixView<const float> queries,
              MatrixView<float> out) const requires LatentRowStore<Packed> {
    packed_.absorb(ctx, queries, out);
  }
  void expand(Context& ctx, MatrixView<const float> results,
              MatrixView<float> out) const requires LatentRowStore<Packed> {
    packed_.expand(ctx, results, out);
  }
  std::size_t bytes() const { return packed_.bytes() + tail_.bytes(); }

 private:
  Index tokens() const { return d_ == 0 ? 0 : tail_.size() / d_; }

  Packed packed_;
  Index d_, group_, recent_;
  typename Storage::template Array<float> tail_;  // (tokens, d)
};

namespace detail {
/// Throws unsupported_error unless groups have tokens, the window is not negative, and neither is over 2^31 - 1.
template <class Storage, RowStore Packed>
Recent<Packed, Storage> windowed(std::string_view codec, Packed packed, Index d, Index group, Index recent) {
  constexpr Index most = std::numeric_limits<std::int32_t>::max();
  if (group < 1 || recent < 0 || group > most || recent > most)
    throw unsupported_error(tessera::detail::concat("tessera: ", codec, " with groups of ", group,
                                                    " tokens and a window of ", recent,
                                                    "; expected at least 1 and 0, and at most ", most));
  return {std::move(packed), d, group, recent};
}
}  // namespace detail

}  // namespace tessera::inline TESSERA_ABI::kv
