/// 4-bit codes with one grid a token, channels evened out first, of which any token can drop to 2 bits.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/core/types.hpp>
#include <tessera/kv/codecs/blocks.hpp>
#include <tessera/kv/codecs/codec.hpp>
#include <tessera/kv/codecs/recent.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// x_tc = c_c (z_t + s_t code_tc): c_c = sqrt(max_t |x_tc|) over a chunk of up to `group` tokens, s and z one pair a
/// token, all f16. Each `append` of up to `group` tokens is a chunk; eviction leaves chunks shorter, and neighbours
/// that fit into one are joined and coded anew. A token of 2 bits has the grid of every fifth code, 0, 5, 10, 15: its
/// codes are those it would have had at once, so that dropping bits late costs nothing. Bytes: d/2 or d/4 and 4 a
/// token, 2 d + 4 a chunk, 12 for every 64 tokens that say which has how many bits.
template <class Storage>
class ZipRows {
 public:
  /// Throws unsupported_error for more than 16384 channels.
  ZipRows(Index d, Index group) : d_(d), group_(group) {
    if (blocks() > at_once)
      throw unsupported_error(
          tessera::detail::concat("tessera: Zip of ", d, " channels; at most ", at_once * UnpackArgs::block));
  }

  void append(const float* rows, Index count, Index stride) {
    for (Index t = 0; t < count; t += group_) {
      const Index some = std::min(group_, count - t), g = starts_.size(), lows = low_tokens();
      starts_.resize(g + 1);
      starts_[g] = static_cast<std::int32_t>(size_);
      channels_.resize((g + 1) * d_);
      codes_[0].resize(codes_[0].size() + some * row_bytes(0));
      grids_.resize((size_ + some) * 2);
      for (Index w = which_.size(); w < words(size_ + some); ++w) {
        which_.resize(w + 1);
        ranks_.resize(w + 1);
        which_[w] = 0;
        ranks_[w] = static_cast<std::int32_t>(lows);
      }
      const Index first = std::exchange(size_, size_ + some);
      encode(rows + t * stride, some, stride, first, g);
    }
  }
  const float* tile(Index begin, Index count, float* scratch, Index& stride, Unpack unpack) const noexcept {
    stride = d_;
    Index g = std::upper_bound(starts_.data(), starts_.data() + starts_.size(), static_cast<std::int32_t>(begin)) -
              starts_.data() - 1;
    for (Index t = begin; t < begin + count; ++g) {
      const Index end = std::min(end_of(g), begin + count);
      decode(t, end - t, g, scratch + (t - begin) * d_, unpack);
      t = end;
    }
    return scratch;
  }
  /// Tokens but kept[0] < kept[1] < … drop to 2 bits, for good, and give back what they held.
  void demote(std::span<const Index> kept) {
    auto next = kept.begin();
    split([&](Index t) {
      while (next != kept.end() && *next < t) ++next;
      return next == kept.end() || *next != t || is_low(t);
    });
    for (auto& codes : codes_) codes.fit();
  }
  void retain(std::span<const Index> kept, Index spare = 0) {
    std::vector<Index> left(static_cast<std::size_t>(starts_.size()), 0);  // tokens of each chunk
    std::vector<std::uint64_t> low(static_cast<std::size_t>(words(static_cast<Index>(kept.size()))), 0);
    std::vector<Index> of[2];  // kept rows of each width
    for (Index g = 0, to = 0; const Index t : kept) {
      while (t >= end_of(g)) ++g;
      ++left[static_cast<std::size_t>(g)];
      const Index before = lows_before(t);
      of[is_low(t) ? 1 : 0].push_back(is_low(t) ? before : t - before);
      if (is_low(t)) low[static_cast<std::size_t>(to / 64)] |= std::uint64_t{1} << to % 64;
      ++to;
    }
    retain_rows(codes_[0], row_bytes(0), of[0], spare);
    retain_rows(codes_[1], row_bytes(1), of[1]);
    retain_rows(grids_, 2, kept, spare);
    size_ = static_cast<Index>(kept.size());
    mark(low);
    const Index more = words(size_ + spare) - words(size_);
    which_.fit(more);
    ranks_.fit(more);
    join(left);
    const Index chunks = (spare + group_ - 1) / group_;
    starts_.fit(chunks);
    channels_.fit(chunks * d_);
  }
  void truncate(Index n) {
    const Index lows = n < size_ ? lows_before(n) : low_tokens();
    truncate_rows(codes_[0], row_bytes(0), n - lows);
    truncate_rows(codes_[1], row_bytes(1), lows);
    truncate_rows(grids_, 2, n);
    size_ = n;
    truncate_rows(which_, 1, words(n));
    truncate_rows(ranks_, 1, words(n));
    if (n % 64 != 0) which_[n / 64] &= (std::uint64_t{1} << n % 64) - 1;
    Index chunks = starts_.size();
    while (chunks > 0 && starts_[chunks - 1] >= n) --chunks;
    fit_chunks(chunks);
  }
  void reserve(Index n) {
    const Index chunks = (n + group_ - 1) / group_;
    codes_[0].reserve(std::max<Index>(n - low_tokens(), 0) * row_bytes(0));
    grids_.reserve(n * 2);
    which_.reserve(words(n));
    ranks_.reserve(words(n));
    starts_.reserve(chunks);
    channels_.reserve(chunks * d_);
  }
  Index size() const { return size_; }
  Index low_tokens() const { return codes_[1].size() / row_bytes(1); }
  std::size_t bytes() const {
    return codes_[0].bytes() + codes_[1].bytes() + grids_.bytes() + which_.bytes() + ranks_.bytes() + starts_.bytes() +
           channels_.bytes();
  }

 private:
  static constexpr Index block = UnpackArgs::block, at_once = 512;
  static constexpr int levels = 15, fold = 5;  // 15 / 3

  Index blocks() const { return (d_ + block - 1) / block; }
  Index row_bytes(int width) const { return UnpackArgs::packed_bytes(d_, width == 0 ? 4 : 2); }
  static Index words(Index tokens) { return (tokens + 63) / 64; }
  bool is_low(Index t) const { return (which_[t / 64] >> t % 64 & 1) != 0; }
  Index lows_before(Index t) const {
    return ranks_[t / 64] + std::popcount(which_[t / 64] & ((std::uint64_t{1} << t % 64) - 1));
  }
  Index end_of(Index g) const { return g + 1 < starts_.size() ? Index{starts_[g + 1]} : size_; }
  void fit_chunks(Index chunks) {
    truncate_rows(starts_, 1, chunks);
    truncate_rows(channels_, d_, chunks);
  }
  void mark(const std::vector<std::uint64_t>& low) {
    which_.resize(static_cast<Index>(low.size()));
    ranks_.resize(which_.size());
    for (Index w = 0, before = 0; w < which_.size(); ++w) {
      which_[w] = low[static_cast<std::size_t>(w)];
      ranks_[w] = static_cast<std::int32_t>(before);
      before += std::popcount(which_[w]);
    }
  }

  /// Tokens for which drops(t) are of 2 bits from now on; all that are already are among them.
  template <class F>
  void split(const F& drops) {
    std::vector<std::uint64_t> low(static_cast<std::size_t>(words(size_)), 0);
    typename Storage::template Array<std::uint8_t> lows;
    lows.reserve(low_tokens() * row_bytes(1));
    Index high = 0, was_high = 0, was_low = 0, now_low = 0;
    for (Index t = 0; t < size_; ++t) {
      const std::uint8_t* const row = codes_[0].data() + was_high * row_bytes(0);
      const bool was = is_low(t);
      if (drops(t)) {
        low[static_cast<std::size_t>(t / 64)] |= std::uint64_t{1} << t % 64;
        lows.resize(++now_low * row_bytes(1));
        std::uint8_t* const to = lows.data() + (now_low - 1) * row_bytes(1);
        if (was)
          std::copy_n(codes_[1].data() + was_low * row_bytes(1), row_bytes(1), to);
        else
          halve(row, to);
      } else {
        if (high != was_high) std::copy_n(row, row_bytes(0), codes_[0].data() + high * row_bytes(0));
        ++high;
      }
      (was ? was_low : was_high) += 1;
    }
    codes_[0].resize(high * row_bytes(0));
    codes_[1] = std::move(lows);
    mark(low);
  }
  /// A row of 4-bit codes as 2-bit ones: rounding twice is rounding once, for 5 is odd.
  void halve(const std::uint8_t* from, std::uint8_t* to) const {
    for (Index first = 0; first < d_; first += block) {
      const Index count = std::min(block, d_ - first), plane = (count + 1) / 2;
      unsigned codes[block];
      for (Index c = 0; c < count; ++c) {
        const unsigned byte = from[first / 2 + c % plane];
        codes[c] = coarse(c < plane ? byte & 15u : byte >> 4);
      }
      detail::pack_block(codes, count, 2, to + first / 4);
    }
  }
  static unsigned coarse(unsigned code) { return (code + fold / 2) / fold; }

  void encode(const float* rows, Index count, Index stride, Index at, Index g) {
    std::vector<float> scales(static_cast<std::size_t>(d_), 0.0f), row(scales.size());
    for (Index t = 0; t < count; ++t)
      for (Index c = 0; c < d_; ++c) {
        const float size = std::abs(rows[t * stride + c]);
        float& most = scales[static_cast<std::size_t>(c)];
        if (std::isfinite(size)) most = std::max(most, size);
      }
    for (Index c = 0; c < d_; ++c) {
      float& s = scales[static_cast<std::size_t>(c)];
      const f16 rounded = f16(s == 0 ? 1.0f : std::clamp(std::sqrt(s), 0x1p-14f, 65504.0f));
      channels_[g * d_ + c] = rounded;
      s = float(rounded);
    }
    for (Index t = 0; t < count; ++t) {
      for (Index c = 0; c < d_; ++c)
        row[static_cast<std::size_t>(c)] = rows[t * stride + c] / scales[static_cast<std::size_t>(c)];
      encode_row(row, at + t);
    }
  }
  void encode_row(const std::vector<float>& row, Index t) {
    const auto [low, high] = std::minmax_element(row.begin(), row.end());
    float poison = 0;
    for (const float x : row) poison += x * 0;
    f16 &scale = grids_[2 * t], &zero = grids_[2 * t + 1];
    detail::fit_grid(*low, *high, !std::isnan(poison), levels, scale, zero);
    const float inverse = detail::grid_inverse(scale), base = float(zero);
    const bool narrow = is_low(t);
    std::uint8_t* const to = codes_[narrow ? 1 : 0].data() + place(t);
    for (Index first = 0; first < d_; first += block) {
      const Index count = std::min(block, d_ - first);
      unsigned codes[block];
      for (Index c = 0; c < count; ++c) {
        const unsigned code = detail::grid_code(row[static_cast<std::size_t>(first + c)], inverse, base, levels);
        codes[c] = narrow ? coarse(code) : code;
      }
      detail::pack_block(codes, count, narrow ? 2 : 4, to + first * (narrow ? 2 : 4) / 8);
    }
  }
  /// Where token t's codes begin, among those of its width.
  Index place(Index t) const {
    const Index before = lows_before(t);
    return is_low(t) ? before * row_bytes(1) : (t - before) * row_bytes(0);
  }

  void decode(Index at, Index count, Index g, float* out, Unpack unpack) const noexcept {
    f16 scale[at_once], zero[at_once];
    UnpackArgs args;
    args.d = d_;
    args.scale = scale;
    args.zero = zero;
    args.meta_stride = blocks();
    const Index most = at_once / blocks(), last = at + count;
    for (Index t = at; t < last; t += args.rows) {
      const bool narrow = is_low(t);
      args.bits = narrow ? 2 : 4;
      args.row_bytes = row_bytes(narrow ? 1 : 0);
      args.codes = codes_[narrow ? 1 : 0].data() + place(t);
      args.out = out + (t - at) * d_;
      for (args.rows = 0; args.rows < most && t + args.rows < last && is_low(t + args.rows) == narrow; ++args.rows) {
        const f16 s = grids_[2 * (t + args.rows)];
        std::fill_n(scale + args.rows * blocks(), blocks(), narrow ? f16(fold * float(s)) : s);
        std::fill_n(zero + args.rows * blocks(), blocks(), grids_[2 * (t + args.rows) + 1]);
      }
      unpack(args, {0, args.rows, 0});
    }
    for (Index first = 0; first < d_; first += block) {
      const Index some = std::min(block, d_ - first);
      float by[block];
      for (Index c = 0; c < some; ++c) by[c] = float(channels_[g * d_ + first + c]);
      for (Index t = 0; t < count; ++t) {
        float* const x = out + t * d_ + first;
        for (Index c = 0; c < some; ++c) x[c] *= by[c];
      }
    }
  }

  /// Chunks of `left` tokens each, next to each other now: those that fit into one become one.
  void join(const std::vector<Index>& left) {
    Index to = 0, start = 0;
    std::vector<float> rows;
    const auto of = [&](Index g) { return left[static_cast<std::size_t>(g)]; };
    const auto chunks = static_cast<Index>(left.size());
    for (Index g = 0, next = 0; g < chunks; g = next) {
      Index members = 0, tokens = 0, one = g;
      for (next = g; next < chunks && tokens + of(next) <= group_; ++next) {
        if (of(next) > 0 && members++ == 0) one = next;
        tokens += of(next);
      }
      if (tokens == 0) continue;
      if (members > 1) {
        rows.resize(static_cast<std::size_t>(tokens * d_));
        for (Index from = g, row = 0; from < next; row += of(from++))
          decode(start + row, of(from), from, rows.data() + row * d_, &UnpackRef::run);
        encode(rows.data(), tokens, d_, start, to);
      } else if (one != to) {
        std::copy_n(channels_.data() + one * d_, d_, channels_.data() + to * d_);
      }
      starts_[to++] = static_cast<std::int32_t>(start);
      start += tokens;
    }
    fit_chunks(to);
  }

  Index d_, group_, size_ = 0;
  typename Storage::template Array<std::uint8_t> codes_[2];  // rows of 4 and of 2 bits, in the order of tokens
  typename Storage::template Array<f16> grids_;              // (size, 2): scale and zero point
  typename Storage::template Array<std::uint64_t> which_;    // (words): a bit a token, 1 for 2 bits
  typename Storage::template Array<std::int32_t> ranks_;     // (words): tokens of 2 bits before
  typename Storage::template Array<std::int32_t> starts_;    // (chunks): the first token of each
  typename Storage::template Array<f16> channels_;           // (chunks, d)
};

/// Y. He et al., "ZipCache: Accurate and Efficient KV Cache Quantization with Salient Token Identification" (NeurIPS
/// 2024), §4.1: channel-separable tokenwise quantization of keys and values. Tokens leave an exact window (f32) with
/// 4 bits; `score(NormalizedAttention{}) | keep(0.6) | demote()` leaves the salient ones there and takes the others to
/// 2. Deviations: a grid is a token's of one kv head, where the paper's spans all heads; channel scales are a chunk's,
/// where the paper's are the prompt's. Parameters: 2 d/group + 4 bytes a token and head.
struct Zip {
  static constexpr std::string_view name = "zip";
  Index group = 128;
  Index recent = 32;

  template <class Storage>
  auto keys(Index d) const {
    if (group < 1 || recent < 0)
      throw unsupported_error(tessera::detail::concat("tessera: Zip with groups of ", group, " tokens and a window of ",
                                                      recent, "; expected at least 1 and 0"));
    return Recent<ZipRows<Storage>, Storage>(ZipRows<Storage>(d, group), d, group, recent);
  }
  template <class Storage>
  auto values(Index d) const {
    return keys<Storage>(d);
  }
};

}  // namespace tessera::inline TESSERA_ABI::kv
