/// 4-bit codes with one grid a token, channels evened out first, of which any token can drop to 2 bits.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/core/types.hpp>
#include <tessera/kv/codecs/codec.hpp>
#include <tessera/kv/codecs/grid.hpp>
#include <tessera/kv/codecs/group_starts.hpp>
#include <tessera/kv/codecs/recent.hpp>
#include <tessera/kv/codecs/row_flags.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// x_tc = c_c (z_t + s_t code_tc): c_c = sqrt(max_t |x_tc|) over a chunk of up to `group` tokens, s and z one pair a
/// token, all f16. Each `append` of up to `group` tokens is a chunk; eviction leaves chunks shorter, and neighbours
/// that fit into one are joined and coded anew. A token of 2 bits has the grid of every fifth code, 0, 5, 10, 15: its
/// codes are those it would have had at once, so that dropping bits late costs nothing. Bytes: d/2 or d/4 and 4 a
/// token, 2 d + 4 a chunk, 12 for every 64 tokens that say which has how many bits.
template <class Storage>
class ZipRows {
 public:
  /// Throws unsupported_error for more than 16384 channels and unless group >= 1.
  ZipRows(Index d, Index group) : d_(d), group_(detail::checked_tokens("Zip", "group", group)) {
    detail::check_blocks("Zip", d);
  }

  void append(const float* rows, Index count, Index stride) {
    for (Index t = 0; t < count; t += group_) {
      const Index some = std::min(group_, count - t), g = starts_.groups();
      channels_.resize((g + 1) * d_);
      codes_[0].resize((size_ - low_tokens() + some) * row_bytes(0));
      grids_.resize((size_ + some) * 2);
      low_.grow(size_ + some, low_tokens());
      starts_.add(size_);  // the last that may throw, but for what encode() needs
      const Index first = std::exchange(size_, size_ + some);
      encode(rows + t * stride, some, stride, first, g);
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
  /// Tokens but kept[0] < kept[1] < … drop to 2 bits, for good, and give back what they held.
  void demote(std::span<const Index> kept) {
    auto next = kept.begin();
    split([&](Index t) {
      while (next != kept.end() && *next < t) ++next;
      return next == kept.end() || *next != t || low_[t];
    });
    for (auto& codes : codes_) codes.fit();
  }
  void retain(std::span<const Index> kept, Index spare = 0) {
    const std::vector<Index> left = starts_.counts(kept, size_);
    std::vector<bool> low;
    std::vector<Index> of[2];  // kept rows of each width
    for (const Index t : kept) {
      const Index before = low_.before(t);
      low.push_back(low_[t]);
      of[low_[t] ? 1 : 0].push_back(low_[t] ? before : t - before);
    }
    retain_rows(codes_[0], row_bytes(0), of[0], spare);
    retain_rows(codes_[1], row_bytes(1), of[1]);
    retain_rows(grids_, 2, kept, spare);
    size_ = static_cast<Index>(kept.size());
    low_.assign(low);
    low_.fit(size_, spare);
    join(left);
    const Index chunks = (spare + group_ - 1) / group_;
    starts_.fit(chunks);
    channels_.fit(chunks * d_);
  }
  void truncate(Index n) {
    const Index lows = n < size_ ? low_.before(n) : low_tokens();
    truncate_rows(codes_[0], row_bytes(0), n - lows);
    truncate_rows(codes_[1], row_bytes(1), lows);
    truncate_rows(grids_, 2, n);
    size_ = n;
    low_.truncate(n);
    fit_chunks(starts_.before(n));
  }
  void reserve(Index n) {
    const Index chunks = (n + group_ - 1) / group_;
    codes_[0].reserve(std::max<Index>(n - low_tokens(), 0) * row_bytes(0));
    grids_.reserve(n * 2);
    low_.reserve(n);
    starts_.reserve(chunks);
    channels_.reserve(chunks * d_);
  }
  Index size() const { return size_; }
  Index low_tokens() const { return codes_[1].size() / row_bytes(1); }
  std::size_t bytes() const {
    return codes_[0].bytes() + codes_[1].bytes() + grids_.bytes() + low_.bytes() + starts_.bytes() + channels_.bytes();
  }

 private:
  static constexpr Index block = UnpackArgs::block;
  static constexpr int levels = 15, fold = 5;  // 15 / 3

  Index row_bytes(int width) const { return UnpackArgs::packed_bytes(d_, width == 0 ? 4 : 2); }
  void fit_chunks(Index chunks) {
    starts_.truncate(chunks);
    truncate_rows(channels_, d_, chunks);
  }

  /// Tokens for which drops(t) are of 2 bits from now on; all that are already are among them.
  template <class F>
  void split(const F& drops) {
    std::vector<bool> low(static_cast<std::size_t>(size_), false);
    typename Storage::template Array<std::uint8_t> lows;
    lows.reserve(low_tokens() * row_bytes(1));
    Index high = 0, was_high = 0, was_low = 0, now_low = 0;
    for (Index t = 0; t < size_; ++t) {
      const std::uint8_t* const row = codes_[0].data() + was_high * row_bytes(0);
      const bool was = low_[t];
      if (drops(t)) {
        low[static_cast<std::size_t>(t)] = true;
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
    low_.assign(low);
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
    const bool narrow = low_[t];
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
    const Index before = low_.before(t);
    return low_[t] ? before * row_bytes(1) : (t - before) * row_bytes(0);
  }

  void decode(Index at, Index count, Index g, float* out, Unpack unpack) const noexcept {
    UnpackArgs args;
    args.d = d_;
    const Index last = at + count;
    for (Index t = at; t < last; t += args.rows) {
      const bool narrow = low_[t];
      args.bits = narrow ? 2 : 4;
      args.row_bytes = row_bytes(narrow ? 1 : 0);
      args.codes = codes_[narrow ? 1 : 0].data() + place(t);
      args.out = out + (t - at) * d_;
      for (args.rows = 1; t + args.rows < last && low_[t + args.rows] == narrow;) ++args.rows;
      const auto fill = [&](Index row, f16* scale, f16* zero) {
        const f16 s = grids_[2 * (t + row)];
        std::fill_n(scale, detail::blocks_of(d_), narrow ? f16(fold * float(s)) : s);
        std::fill_n(zero, detail::blocks_of(d_), grids_[2 * (t + row) + 1]);
      };
      detail::unpack_rows(args, fill, unpack);
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
    std::vector<float> rows;
    const auto of = [&](Index g) { return left[static_cast<std::size_t>(g)]; };
    const auto merge = [&](Index start, Index first, Index last, Index to) {
      rows.resize(static_cast<std::size_t>(group_ * d_));
      Index row = 0;
      for (Index g = first; g < last; row += of(g++))
        decode(start + row, of(g), g, rows.data() + row * d_, &UnpackRef::run);
      encode(rows.data(), row, d_, start, to);
    };
    const auto move = [&](Index from, Index to) {
      std::copy_n(channels_.data() + from * d_, d_, channels_.data() + to * d_);
    };
    fit_chunks(starts_.regroup(left, group_, merge, move));
  }

  Index d_, group_, size_ = 0;
  typename Storage::template Array<std::uint8_t> codes_[2];  // rows of 4 and of 2 bits, in the order of tokens
  typename Storage::template Array<f16> grids_;              // (size, 2): scale and zero point
  detail::RowFlags<Storage> low_;                            // (size): tokens of 2 bits
  detail::GroupStarts<Storage> starts_;                      // (chunks)
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
    return detail::windowed<Storage>("Zip", ZipRows<Storage>(d, group), d, group, recent);
  }
  template <class Storage>
  auto values(Index d) const {
    return keys<Storage>(d);
  }
};

}  // namespace tessera::inline TESSERA_ABI::kv
