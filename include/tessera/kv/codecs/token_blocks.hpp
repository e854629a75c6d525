/// Low-bit codes with a scale and a zero point a token and run of channels, laid out as
/// kernels/attention/unpack/args.hpp says.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include <tessera/core/error.hpp>
#include <tessera/core/types.hpp>
#include <tessera/kv/codecs/codec.hpp>
#include <tessera/kv/codecs/grid.hpp>
#include <tessera/kv/codecs/row_arrays.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// One scale and zero point a token and `channels` channels, a multiple of 32. bits + 32/channels bits a number where d
/// is a multiple of these. Attention reads codes with a grid for every 32 channels in registers; others are decoded.
template <int Bits, class Storage>
requires(Bits == 2 || Bits == 4) class TokenBlocks
    : public detail::RowArrays<Storage, std::uint8_t, f16, f16> {  // codes, scales, zeros
 public:
  /// Throws unsupported_error unless `channels` are as above, and for more than 16384 channels of which more than 32
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
    for (Index t = 0; t < count; ++t)
      for (Index g = 0; g < grids_; ++g) encode(rows + t * stride, at + t, g);
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
        scale_of[b] = scale[t * grids_ + b * block / channels_];
        zero_of[b] = zero[t * grids_ + b * block / channels_];
      }
    };
    detail::unpack_rows(args, fill, unpack);
    return scratch;
  }
  TokenCodes codes(Index begin) const noexcept {
    if (d_ % block != 0 || channels_ != block) return {};
    const auto& [codes, scales, zeros] = this->arrays();
    return {Bits == 4 ? TokenCode::blocks4 : TokenCode::blocks2,
            codes.data() + begin * row_bytes_,
            row_bytes_,
            this->size() - begin,
            nullptr,
            scales.data() + begin * grids_,
            zeros.data() + begin * grids_};
  }

 private:
  static constexpr Index block = UnpackArgs::block;
  static constexpr int levels = (1 << Bits) - 1;

  static Index grids(Index d, Index channels) {
    if (channels < block || channels % block != 0)
      throw unsupported_error(tessera::detail::concat("tessera: a grid for ", channels,
                                                      " channels of a token; expected a multiple of ", block));
    return (d + channels - 1) / channels;
  }
  void encode(const float* row, Index t, Index g) {
    auto& [codes, scales, zeros] = this->arrays();
    const Index begin = g * channels_, end = std::min(begin + channels_, d_);
    float low = row[begin], high = low, poison = 0;
    for (Index c = begin; c < end; ++c) {
      low = std::min(low, row[c]);
      high = std::max(high, row[c]);
      poison += row[c] * 0;
    }
    f16& scale = scales[t * grids_ + g];
    f16& zero = zeros[t * grids_ + g];
    detail::fit_grid(low, high, !std::isnan(poison), levels, scale, zero);
    const float inverse = detail::grid_inverse(scale), base = float(zero);
    for (Index first = begin; first < end; first += block) {
      const Index count = std::min(block, end - first);
      unsigned steps[block];
      for (Index c = 0; c < count; ++c) steps[c] = detail::grid_code(row[first + c], inverse, base, levels);
      detail::pack_block(steps, count, Bits, codes.data() + t * row_bytes_ + first * Bits / 8);
    }
  }

  Index d_, channels_, row_bytes_, grids_;
};

}  // namespace tessera::inline TESSERA_ABI::kv
