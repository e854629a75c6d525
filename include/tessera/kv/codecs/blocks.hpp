/// Low-bit codes with a scale and a zero point: one pair a channel and group of tokens, or one a token and block of 32
/// channels. The codes are laid out as kernels/attention/unpack/args.hpp says.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include <tessera/core/types.hpp>
#include <tessera/kv/codecs/codec.hpp>
#include <tessera/kv/codecs/int8.hpp>

namespace tessera::inline TESSERA_ABI::kv {

namespace detail {

/// zero + code * scale for code in 0 … levels covers [low, high]: zero is rounded down, scale up, so that no number is
/// clamped and each is within scale / 2. What f16 cannot hold is taken as ±65504; what is not finite makes scale NaN.
inline void fit_grid(float low, float high, bool finite, int levels, f16& scale, f16& zero) {
  if (!finite) {
    scale = zero = std::numeric_limits<f16>::quiet_NaN();
    return;
  }
  zero = saturate_cast<f16>(low);
  if (float(zero) > low && low > -65504.0f)
    zero = f16::from_bits(zero.bits == 0 ? 0x8001u : zero.bits < 0x8000u ? zero.bits - 1u : zero.bits + 1u);
  const float step = (std::min(high, 65504.0f) - float(zero)) / static_cast<float>(levels);
  scale = saturate_cast<f16>(std::max(step, 0.0f));
  if (float(scale) < step && scale.bits < 0x7bffu) scale = f16::from_bits(scale.bits + 1u);
}

inline unsigned grid_code(float x, float inverse, float zero, int levels) {
  const float at = (x - zero) * inverse;
  return static_cast<unsigned>(nearest_integer(at > 0 ? std::min(at, static_cast<float>(levels)) : 0.0f));
}
inline float grid_inverse(f16 scale) { return float(scale) > 0 ? 1 / float(scale) : 0; }

/// `count` codes, a block, into planes.
inline void pack_block(const unsigned* codes, Index count, int bits, std::uint8_t* bytes) {
  const Index plane = (count * bits + 7) / 8;
  std::fill_n(bytes, plane, std::uint8_t{0});
  for (Index c = 0, shift = 0; c < count; shift += bits)
    for (Index i = 0; i < plane && c < count; ++i, ++c)
      bytes[i] = static_cast<std::uint8_t>(bytes[i] | codes[c] << shift);
}

}  // namespace detail

/// One scale and zero point a token and block of 32 channels. bits + 1 bits a number where d is a multiple of 32.
template <int Bits, class Storage>
requires(Bits == 2 || Bits == 4) class TokenBlocks {
 public:
  TokenBlocks(Index d, Index)
      : d_(d), row_bytes_(UnpackArgs::packed_bytes(d, Bits)), blocks_((d + block - 1) / block) {}

  void append(const float* rows, Index count, Index stride) {
    codes_.resize((size_ + count) * row_bytes_);
    scales_.resize((size_ + count) * blocks_);
    zeros_.resize((size_ + count) * blocks_);
    for (Index t = 0; t < count; ++t)
      for (Index b = 0; b < blocks_; ++b) encode(rows + t * stride, size_ + t, b);
    size_ += count;
  }
  const float* tile(Index begin, Index count, float* scratch, Index& stride, Unpack unpack) const noexcept {
    UnpackArgs args;
    args.bits = Bits;
    args.codes = codes_.data() + begin * row_bytes_;
    args.row_bytes = row_bytes_;
    args.rows = count;
    args.d = d_;
    args.scale = scales_.data() + begin * blocks_;
    args.zero = zeros_.data() + begin * blocks_;
    args.meta_stride = blocks_;
    args.out = scratch;
    unpack(args, {0, count, 0});
    stride = d_;
    return scratch;
  }
  TokenCodes codes(Index begin) const noexcept {
    if (d_ % block != 0) return {};
    return {Bits == 4 ? TokenCode::blocks4 : TokenCode::blocks2,
            codes_.data() + begin * row_bytes_,
            row_bytes_,
            size_ - begin,
            nullptr,
            scales_.data() + begin * blocks_,
            zeros_.data() + begin * blocks_};
  }
  void retain(std::span<const Index> kept, Index spare = 0) {
    retain_rows(codes_, row_bytes_, kept, spare);
    retain_rows(scales_, blocks_, kept, spare);
    retain_rows(zeros_, blocks_, kept, spare);
    size_ = static_cast<Index>(kept.size());
  }
  void truncate(Index n) {
    truncate_rows(codes_, row_bytes_, n);
    truncate_rows(scales_, blocks_, n);
    truncate_rows(zeros_, blocks_, n);
    size_ = n;
  }
  void take(const TokenBlocks& from, Index begin, Index count) {
    append_rows(codes_, from.codes_, row_bytes_, begin, count);
    append_rows(scales_, from.scales_, blocks_, begin, count);
    append_rows(zeros_, from.zeros_, blocks_, begin, count);
    size_ += count;
  }
  void reserve(Index n) {
    codes_.reserve(n * row_bytes_);
    scales_.reserve(n * blocks_);
    zeros_.reserve(n * blocks_);
  }
  Index size() const { return size_; }
  std::size_t bytes() const { return codes_.bytes() + scales_.bytes() + zeros_.bytes(); }

 private:
  static constexpr Index block = UnpackArgs::block;
  static constexpr int levels = (1 << Bits) - 1;

  void encode(const float* row, Index t, Index b) {
    const Index first = b * block, count = std::min(block, d_ - first);
    float low = row[first], high = low, poison = 0;
    for (Index c = first; c < first + count; ++c) {
      low = std::min(low, row[c]);
      high = std::max(high, row[c]);
      poison += row[c] * 0;
    }
    f16& scale = scales_[t * blocks_ + b];
    f16& zero = zeros_[t * blocks_ + b];
    detail::fit_grid(low, high, !std::isnan(poison), levels, scale, zero);
    const float inverse = detail::grid_inverse(scale), base = float(zero);
    unsigned codes[block];
    for (Index c = 0; c < count; ++c) codes[c] = detail::grid_code(row[first + c], inverse, base, levels);
    detail::pack_block(codes, count, Bits, codes_.data() + t * row_bytes_ + b * (block * Bits / 8));
  }

  Index d_, row_bytes_, blocks_, size_ = 0;
  typename Storage::template Array<std::uint8_t> codes_;  // (size, row_bytes)
  typename Storage::template Array<f16> scales_, zeros_;  // (size, blocks)
};

/// One scale and zero point a channel and group of tokens; each `append` of up to `group` tokens is a group. Eviction
/// leaves codes as they are and groups shorter; neighbours that fit into one group are joined and quantized anew (their
/// numbers move by up to half a step once more), so that two neighbours always hold more than `group` tokens.
/// bits + 32/group bits a number for full groups.
template <int Bits, class Storage>
requires(Bits == 2 || Bits == 4) class ChannelGroups {
 public:
  ChannelGroups(Index d, Index group) : d_(d), group_(group), row_bytes_(UnpackArgs::packed_bytes(d, Bits)) {}

  void append(const float* rows, Index count, Index stride) {
    for (Index t = 0; t < count; t += group_) {
      const Index some = std::min(group_, count - t);
      const Index g = starts_.size();
      codes_.resize((size_ + some) * row_bytes_);
      scales_.resize((g + 1) * d_);
      zeros_.resize((g + 1) * d_);
      starts_.resize(g + 1);  // the last that may throw
      starts_[g] = static_cast<std::int32_t>(size_);
      encode(rows + t * stride, some, stride, size_, g);
      size_ += some;
    }
  }
  const float* tile(Index begin, Index count, float* scratch, Index& stride, Unpack unpack) const noexcept {
    stride = d_;
    Index g = group_of(begin);
    for (Index t = begin; t < begin + count; ++g) {
      const Index end = std::min(end_of(g), begin + count);
      UnpackArgs args;
      args.bits = Bits;
      args.codes = codes_.data() + t * row_bytes_;
      args.row_bytes = row_bytes_;
      args.rows = end - t;
      args.d = d_;
      args.scale = scales_.data() + g * d_;
      args.zero = zeros_.data() + g * d_;
      args.out = scratch + (t - begin) * d_;
      unpack(args, {0, args.rows, 0});
      t = end;
    }
    return scratch;
  }
  TokenCodes codes(Index begin) const noexcept {
    if (d_ % block != 0 || begin >= size_) return {};
    const Index g = group_of(begin);
    return {Bits == 4 ? TokenCode::channels4 : TokenCode::channels2,
            codes_.data() + begin * row_bytes_,
            row_bytes_,
            end_of(g) - begin,
            nullptr,
            scales_.data() + g * d_,
            zeros_.data() + g * d_};
  }
  void retain(std::span<const Index> kept, Index spare = 0) {
    std::vector<Index> left(static_cast<std::size_t>(starts_.size()), 0);  // tokens of each group
    Index g = 0;
    for (const Index t : kept) {
      while (t >= end_of(g)) ++g;
      ++left[static_cast<std::size_t>(g)];
    }
    std::vector<float> rows;
    rows.reserve(static_cast<std::size_t>(std::min(group_, size_) * d_));
    retain_rows(codes_, row_bytes_, kept, spare);  // from here on nothing throws
    size_ = static_cast<Index>(kept.size());
    Index to = 0, start = 0;
    const auto groups = static_cast<Index>(left.size());
    for (g = 0; g < groups;) {
      Index members = 0, tokens = 0, last = g;
      for (; last < groups && tokens + left[static_cast<std::size_t>(last)] <= group_; ++last) {
        tokens += left[static_cast<std::size_t>(last)];
        members += left[static_cast<std::size_t>(last)] > 0 ? 1 : 0;
      }
      if (members > 1) {
        rows.resize(static_cast<std::size_t>(tokens * d_));
        Index row = 0;
        for (Index from = g; from < last; ++from) {
          decode(start + row, left[static_cast<std::size_t>(from)], from, rows.data() + row * d_);
          row += left[static_cast<std::size_t>(from)];
        }
        encode(rows.data(), tokens, d_, start, to);
      } else if (members == 1) {
        Index from = g;
        while (left[static_cast<std::size_t>(from)] == 0) ++from;
        std::copy_n(scales_.data() + from * d_, from == to ? 0 : d_, scales_.data() + to * d_);
        std::copy_n(zeros_.data() + from * d_, from == to ? 0 : d_, zeros_.data() + to * d_);
      }
      if (tokens > 0) {
        starts_[to++] = static_cast<std::int32_t>(start);
        start += tokens;
      }
      g = last;
    }
    fit_groups(to);
    const Index more = (spare + group_ - 1) / group_;
    starts_.fit(more);
    scales_.fit(more * d_);
    zeros_.fit(more * d_);
  }
  void truncate(Index n) {
    truncate_rows(codes_, row_bytes_, n);
    size_ = n;
    Index groups = starts_.size();
    while (groups > 0 && starts_[groups - 1] >= n) --groups;
    fit_groups(groups);
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

  Index group_of(Index token) const {
    const std::int32_t* const first = starts_.data();
    return std::upper_bound(first, first + starts_.size(), static_cast<std::int32_t>(token)) - first - 1;
  }
  Index end_of(Index g) const { return g + 1 < starts_.size() ? Index{starts_[g + 1]} : size_; }

  void fit_groups(Index groups) {
    truncate_rows(starts_, 1, groups);
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
  void decode(Index at, Index count, Index g, float* out) const {
    UnpackArgs args;
    args.bits = Bits;
    args.codes = codes_.data() + at * row_bytes_;
    args.row_bytes = row_bytes_;
    args.rows = count;
    args.d = d_;
    args.scale = scales_.data() + g * d_;
    args.zero = zeros_.data() + g * d_;
    args.out = out;
    UnpackRef::run(args, {0, count, 0});
  }

  Index d_, group_, row_bytes_, size_ = 0;
  typename Storage::template Array<std::uint8_t> codes_;   // (size, row_bytes)
  typename Storage::template Array<std::int32_t> starts_;  // (groups): the first token of each
  typename Storage::template Array<f16> scales_, zeros_;   // (groups, d)
};

}  // namespace tessera::inline TESSERA_ABI::kv
