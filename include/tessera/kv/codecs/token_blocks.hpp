/// Low-bit codes with a scale and a zero point a token and run of channels, laid out as
/// kernels/attention/unpack/args.hpp says.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include <tessera/core/error.hpp>
#include <tessera/core/types.hpp>
#include <tessera/kv/codecs/codec.hpp>
#include <tessera/kv/codecs/grid.hpp>
#include <tessera/kv/codecs/row_arrays.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// One scale and zero point a token and `channels` channels: bits + 32/channels bits a number. Any multiple of 8 that
/// divides d, or 32 for any d, the last grid for fewer. Attention reads codes in registers where d and `channels` are
/// multiples of 32; others are decoded.
template <int Bits, class Storage>
requires(Bits >= 2 && Bits <= 4) class TokenBlocks
    : public detail::RowArrays<Storage, std::uint8_t, f16, f16> {  // codes, scales, zeros
 public:
  /// Throws unsupported_error unless `channels` are as above, and for more than 16384 channels of which other than 32
  /// share a grid.
  explicit TokenBlocks(Index d, Index channels = UnpackArgs::block)
      : detail::RowArrays<Storage, std::uint8_t, f16, f16>(
            {UnpackArgs::packed_bytes(d, Bits), grids(d, channels), grids(d, channels)}),
        d_(d),
        channels_(channels),
        row_bytes_(UnpackArgs::packed_bytes(d, Bits)),
        grids_(grids(d, channels)) {
    if (channels != block) detail::check_blocks("TokenBlocks", d);
  }

  void append(const float* rows, Index count, Index stride) {
    const Index at = this->grow(count);
    for (Index t = 0; t < count; ++t) encode(rows + t * stride, at + t);
  }
  const float* tile(Index begin, Index count, float* scratch, Index& stride, Unpack unpack) const noexcept {
    const auto& [codes, scales, zeros] = this->arrays();
    const f16 *const scale = scales.data() + begin * grids_, *const zero = zeros.data() + begin * grids_;
    UnpackArgs args;
    args.bits = Bits;
    args.codes = codes.data() + begin * row_bytes_;
    args.row_bytes = row_bytes_;
    args.rows = count;
    args.d = d_;
    args.out = scratch;
    stride = d_;
    if (channels_ == block) {
      args.scale = scale;
      args.zero = zero;
      args.meta_stride = grids_;
      unpack(args, {0, count, 0});
      return scratch;
    }
    const auto fill = [&](Index t, f16* scale_of, f16* zero_of) {
      for (Index b = 0; b < detail::blocks_of(d_); ++b) {
        scale_of[b] = scale[grid(t, b * block)];
        zero_of[b] = zero[grid(t, b * block)];
      }
    };
    if (channels_ % block == 0)
      detail::unpack_rows(args, fill, unpack);
    else
      unpack_parts(args, scale, zero, unpack);
    return scratch;
  }
  TokenCodes codes(Index begin) const noexcept {
    if (d_ % block != 0 || channels_ % block != 0) return {};
    const auto& [codes, scales, zeros] = this->arrays();
    return {Bits == 4   ? TokenCode::blocks4
            : Bits == 3 ? TokenCode::blocks3
                        : TokenCode::blocks2,
            codes.data() + begin * row_bytes_,
            row_bytes_,
            this->size() - begin,
            nullptr,
            scales.data() + begin * grids_,
            zeros.data() + begin * grids_,
            channels_};
  }

 private:
  static constexpr Index block = UnpackArgs::block;
  static constexpr int levels = (1 << Bits) - 1;

  static Index grids(Index d, Index channels) {
    if (channels != block && (channels < 8 || channels % 8 != 0 || d % channels != 0))
      throw unsupported_error(tessera::detail::concat("tessera: a grid for ", channels, " channels of a token of ", d,
                                                      "; expected ", block, " or a multiple of 8 that divides ", d));
    return (d + channels - 1) / channels;
  }
  Index grid(Index t, Index channel) const { return t * grids_ + channel / channels_; }

  /// Grids for parts of blocks: a row at a time as if each channel had its own.
  void unpack_parts(UnpackArgs args, const f16* scale, const f16* zero, Unpack unpack) const noexcept {
    constexpr Index most = 16 * block;
    f16 scale_of[most], zero_of[most];
    args.scale = scale_of;
    args.zero = zero_of;
    const Index rows = std::exchange(args.rows, 1);
    const std::uint8_t* const codes = args.codes;
    for (Index t = 0; t < rows; ++t)
      for (Index first = 0; first < d_; first += most) {
        args.d = std::min(most, d_ - first);
        for (Index c = 0; c < args.d; c += 8) {  // eight share a grid
          const Index g = grid(t, first + c);
          std::fill_n(scale_of + c, 8, scale[g]);
          std::fill_n(zero_of + c, 8, zero[g]);
        }
        args.codes = codes + t * row_bytes_ + first * Bits / 8;
        unpack(args, {0, 1, 0});
        args.out += args.d;
      }
  }
  void encode(const float* row, Index t) {
    auto& [codes, scales, zeros] = this->arrays();
    for (Index begin = 0; begin < d_; begin += channels_) {
      float low = row[begin], high = low, poison = 0;
      for (Index c = begin; c < std::min(begin + channels_, d_); ++c) {
        low = std::min(low, row[c]);
        high = std::max(high, row[c]);
        poison += row[c] * 0;
      }
      const Index g = grid(t, begin);
      detail::fit_grid(low, high, !std::isnan(poison), levels, scales[g], zeros[g]);
    }
    for (Index first = 0; first < d_; first += block) {
      const Index count = std::min(block, d_ - first);
      unsigned steps[block];
      for (Index c = 0; c < count;) {
        const Index g = grid(t, first + c), end = std::min(count, c + channels_ - (first + c) % channels_);
        const float inverse = detail::grid_inverse(scales[g]), base = float(zeros[g]);
        for (; c < end; ++c) steps[c] = detail::grid_code(row[first + c], inverse, base, levels);
      }
      detail::pack_block(steps, count, Bits, codes.data() + t * row_bytes_ + first * Bits / 8);
    }
  }

  Index d_, channels_, row_bytes_, grids_;
};

}  // namespace tessera::inline TESSERA_ABI::kv
