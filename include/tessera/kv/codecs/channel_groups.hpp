/// Low-bit codes with a scale and a zero point a channel and group of tokens, laid out as
/// kernels/attention/unpack/args.hpp says.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include <tessera/core/types.hpp>
#include <tessera/kv/codecs/codec.hpp>
#include <tessera/kv/codecs/grid.hpp>
#include <tessera/kv/codecs/group_starts.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// One scale and zero point a channel and group of tokens; each `append` of up to `group` tokens is a group. Eviction
/// leaves codes as they are and groups shorter; neighbours that fit into one group are joined and quantized anew (their
/// numbers move by up to half a step once more), so that two neighbours always hold more than `group` tokens.
/// bits + 32/group bits a number for full groups.
template <int Bits, class Storage>
requires(Bits >= 2 && Bits <= 4) class ChannelGroups {
 public:
  /// Throws unsupported_error unless group >= 1.
  ChannelGroups(Index d, Index group)
      : d_(d),
        group_(detail::checked_tokens("ChannelGroups", "group", group)),
        row_bytes_(UnpackArgs::packed_bytes(d, Bits)) {}

  void append(const float* rows, Index count, Index stride) {
    for (Index t = 0; t < count; t += group_) {
      const Index some = std::min(group_, count - t);
      const Index g = starts_.groups();
      codes_.resize((size_ + some) * row_bytes_);
      scales_.resize((g + 1) * d_);
      zeros_.resize((g + 1) * d_);
      starts_.add(size_);  // the last that may throw
      encode(rows + t * stride, some, stride, size_, g);
      size_ += some;
    }
  }
  const float* tile(Index begin, Index count, float* scratch, Index& stride, Unpack unpack) const noexcept {
    stride = d_;
    Index g = starts_.of(begin);
    for (Index t = begin; t < begin + count; ++g) {
      const Index end = std::min(starts_.end(g, size_), begin + count);
      decode(t, end - t, g, scratch + (t - begin) * d_, unpack);
      t = end;
    }
    return scratch;
  }
  TokenCodes codes(Index begin) const noexcept {
    if (d_ % block != 0 || begin >= size_) return {};
    const Index g = starts_.of(begin);
    return {Bits == 4   ? TokenCode::channels4
            : Bits == 3 ? TokenCode::channels3
                        : TokenCode::channels2,
            codes_.data() + begin * row_bytes_,
            row_bytes_,
            starts_.end(g, size_) - begin,
            nullptr,
            scales_.data() + g * d_,
            zeros_.data() + g * d_};
  }
  void retain(std::span<const Index> kept, Index spare = 0) {
    const std::vector<Index> left = starts_.counts(kept, size_);
    std::vector<float> rows;
    rows.reserve(static_cast<std::size_t>(std::min(group_, size_) * d_));
    retain_rows(codes_, row_bytes_, kept, spare);  // from here on nothing throws
    size_ = static_cast<Index>(kept.size());
    const auto join = [&](Index start, Index first, Index last, Index to) {
      Index row = 0;
      rows.resize(static_cast<std::size_t>(std::accumulate(left.begin() + first, left.begin() + last, Index{0}) * d_));
      for (Index g = first; g < last; row += left[static_cast<std::size_t>(g++)])
        decode(start + row, left[static_cast<std::size_t>(g)], g, rows.data() + row * d_, &UnpackRef::run);
      encode(rows.data(), row, d_, start, to);
    };
    const auto move = [&](Index from, Index to) {
      std::copy_n(scales_.data() + from * d_, d_, scales_.data() + to * d_);
      std::copy_n(zeros_.data() + from * d_, d_, zeros_.data() + to * d_);
    };
    fit_groups(starts_.regroup(left, group_, join, move));
    const Index more = (spare + group_ - 1) / group_;
    starts_.fit(more);
    scales_.fit(more * d_);
    zeros_.fit(more * d_);
  }
  void truncate(Index n) {
    truncate_rows(codes_, row_bytes_, n);
    size_ = n;
    fit_groups(starts_.before(n));
  }
  void reserve(Index n) {
    codes_.reserve(n * row_bytes_);
    const Index groups = (n + group_ - 1) / group_;
    starts_.reserve(groups);
    scales_.reserve(groups * d_);
    zeros_.reserve(groups * d_);
  }
  Index size() const { return size_; }
  std::size_t bytes() const { return codes_.bytes() + starts_.bytes() + scales_.bytes() + zeros_.bytes(); }

 private:
  static constexpr Index block = UnpackArgs::block;
  static constexpr int levels = (1 << Bits) - 1;

  void fit_groups(Index groups) {
    starts_.truncate(groups);
    truncate_rows(scales_, d_, groups);
    truncate_rows(zeros_, d_, groups);
  }

  void encode(const float* rows, Index count, Index stride, Index at, Index g) {
    for (Index first = 0; first < d_; first += block) {
      const Index channels = std::min(block, d_ - first);
      float low[block], high[block], poison[block] = {}, inverse[block], base[block];
      std::copy_n(rows + first, channels, low);
      std::copy_n(rows + first, channels, high);
      for (Index t = 0; t < count; ++t)
        for (Index c = 0; c < channels; ++c) {
          const float x = rows[t * stride + first + c];
          low[c] = std::min(low[c], x);
          high[c] = std::max(high[c], x);
          poison[c] += x * 0;
        }
      for (Index c = 0; c < channels; ++c) {
        f16& scale = scales_[g * d_ + first + c];
        f16& zero = zeros_[g * d_ + first + c];
        detail::fit_grid(low[c], high[c], !std::isnan(poison[c]), levels, scale, zero);
        inverse[c] = detail::grid_inverse(scale);
        base[c] = float(zero);
      }
      unsigned codes[block];
      for (Index t = 0; t < count; ++t) {
        for (Index c = 0; c < channels; ++c)
          codes[c] = detail::grid_code(rows[t * stride + first + c], inverse[c], base[c], levels);
        detail::pack_block(codes, channels, Bits, codes_.data() + (at + t) * row_bytes_ + first * Bits / 8);
      }
    }
  }
  void decode(Index at, Index count, Index g, float* out, Unpack unpack) const noexcept {
    UnpackArgs args;
    args.bits = Bits;
    args.codes = codes_.data() + at * row_bytes_;
    args.row_bytes = row_bytes_;
    args.rows = count;
    args.d = d_;
    args.scale = scales_.data() + g * d_;
    args.zero = zeros_.data() + g * d_;
    args.out = out;
    unpack(args, {0, count, 0});
  }

  Index d_, group_, row_bytes_, size_ = 0;
  typename Storage::template Array<std::uint8_t> codes_;  // (size, row_bytes)
  detail::GroupStarts<Storage> starts_;
  typename Storage::template Array<f16> scales_, zeros_;  // (groups, d)
};

}  // namespace tessera::inline TESSERA_ABI::kv
