/// Block floating point: small integers that share a power of two with their neighbours; channels sorted so that large
/// ones are neighbours.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/core/order.hpp>
#include <tessera/core/types.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kv/codecs/grid.hpp>
#include <tessera/kv/codecs/latent.hpp>
#include <tessera/kv/codecs/row_arrays.hpp>
#include <tessera/matrix/permutation.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// Bits a mantissa, sign included, and an 8-bit exponent a token and 32 channels: number = (code - 2^(Bits-1)) · 2^e, e
/// the least that takes the block's largest number, in -21 … 12. A NaN or an infinity makes its block NaN.
template <int Bits, class Storage>
requires(Bits == 2 || Bits == 4) class BlockFloatingRows
    : public detail::RowArrays<Storage, std::uint8_t, std::int8_t> {  // codes, exponents
 public:
  /// Throws unsupported_error for more than 16384 channels.
  explicit BlockFloatingRows(Index d)
      : detail::RowArrays<Storage, std::uint8_t, std::int8_t>(
            {UnpackArgs::packed_bytes(d, Bits), detail::blocks_of(d)}),
        d_(d) {
    detail::check_blocks("BlockFloating", d);
  }

  void append(const float* rows, Index count, Index stride) {
    const Index at = this->grow(count);
    for (Index t = 0; t < count; ++t)
      for (Index b = 0; b < detail::blocks_of(d_); ++b) encode(rows + t * stride, at + t, b);
  }
  const float* tile(Index begin, Index count, float* scratch, Index& stride, Unpack unpack) const noexcept {
    const auto& [codes, exponents] = this->arrays();
    const std::int8_t* const first = exponents.data() + begin * detail::blocks_of(d_);
    UnpackArgs args;
    args.bits = Bits;
    args.row_bytes = UnpackArgs::packed_bytes(d_, Bits);
    args.codes = codes.data() + begin * args.row_bytes;
    args.rows = count;
    args.d = d_;
    args.out = scratch;
    const auto fill = [&](Index t, f16* scale, f16* zero) {
      for (Index b = 0; b < detail::blocks_of(d_); ++b) {
        const std::int8_t e = first[t * detail::blocks_of(d_) + b];
        scale[b] = power(e);
        zero[b] = negative(power(e == not_finite ? e : e + Bits - 1));
      }
    };
    detail::unpack_rows(args, fill, unpack);
    stride = d_;
    return scratch;
  }

 private:
  static constexpr Index block = UnpackArgs::block;
  static constexpr int most = (1 << (Bits - 1)) - 1, least_exponent = -21, largest_exponent = 12;
  static constexpr std::int8_t not_finite = 127;

  static f16 negative(f16 x) { return f16::from_bits(x.bits ^ 0x8000u); }
  static f16 power(int e) {  // of two, exact down to 2^-24
    if (e == not_finite) return std::numeric_limits<f16>::quiet_NaN();
    return f16::from_bits(e >= -14 ? static_cast<std::uint32_t>(e + 15) << 10 : 1u << (e + 24));
  }

  void encode(const float* row, Index t, Index b) {
    auto& [codes, exponents] = this->arrays();
    const Index first = b * block, count = std::min(block, d_ - first);
    float top = 0, poison = 0;
    for (Index c = first; c < first + count; ++c) {
      top = std::max(top, std::abs(row[c]));
      poison += row[c] * 0;
    }
    int e = least_exponent;
    if (top > 0 && !std::isnan(poison)) {
      std::frexp(top / most, &e);  // top / most < 2^e
      if (std::ldexp(static_cast<float>(most) + 0.5f, e - 1) > top) --e;
      e = std::clamp(e, least_exponent, largest_exponent);
    }
    exponents[t * detail::blocks_of(d_) + b] = std::isnan(poison) ? not_finite : static_cast<std::int8_t>(e);
    const float inverse = std::isnan(poison) ? 0 : std::ldexp(1.0f, -e);
    unsigned mantissas[block];
    for (Index c = 0; c < count; ++c)
      mantissas[c] = static_cast<unsigned>(
          most + 1 +
          (inverse == 0 ? 0
                        : detail::nearest_integer(std::clamp(row[first + c] * inverse, -static_cast<float>(most),
                                                             static_cast<float>(most)))));
    detail::pack_block(mantissas, count, Bits,
                       codes.data() + t * UnpackArgs::packed_bytes(d_, Bits) + b * (block * Bits / 8));
  }

  Index d_;
};

/// Which channels of a head rotary embeddings turn together: 2i and 2i + 1, as nn::rope does; i and i + d/2, as the
/// models do that rotate halves; or none, where keys are sorted after they were turned.
enum class RopePairs { none, interleaved, halves };

/// Channels by falling norm of their columns in `keys`, (n, d): calibration keys, or Wᵀ of the weights that make them.
/// Those of a pair stay neighbours in that order, whose norm turning does not change: weights may be permuted instead
/// of keys and queries, and neighbours c, c + 1 of the result turn by the frequency that pair had. Throws shape_error
/// for pairs of an odd d. O(n · d).
inline std::vector<Index> k_sort(MatrixView<const float> keys, RopePairs pairs = RopePairs::none) {
  const Index d = keys.cols(), width = pairs == RopePairs::none ? 1 : 2, count = d / width;
  if (d % width != 0)
    throw shape_error(tessera::detail::concat("tessera: k_sort: pairs of ", d, " channels; expected an even number"));
  const Index step = pairs == RopePairs::halves ? 1 : width, other = pairs == RopePairs::halves ? count : 1;
  std::vector<double> squares(static_cast<std::size_t>(count));
  for (Index i = 0; i < keys.rows(); ++i)
    for (Index p = 0; p < count; ++p)
      for (Index w = 0; w < width; ++w)
        squares[static_cast<std::size_t>(p)] += std::pow(static_cast<double>(keys(i, p * step + w * other)), 2);
  std::vector<Index> by_norm(squares.size()), order;
  std::iota(by_norm.begin(), by_norm.end(), Index{0});
  const double* const by = squares.data();
  std::sort(by_norm.begin(), by_norm.end(), tessera::detail::FallingScores{by});
  order.reserve(static_cast<std::size_t>(d));
  for (const Index p : by_norm)
    for (Index w = 0; w < width; ++w) order.push_back(p * step + w * other);
  return order;
}

/// N. Trukhanov, I. Soloveychik, "Accurate Block Quantization in LLMs with Outliers" (2024): block floating point of
/// keys and values, key channels of a head in the order of k_sort, for large channels to share their exponents with
/// each other; queries are permuted once, so that QKᵀ is what it was. Each number is within 2^(e-1). Bits + 1/4 bits a
/// number where d is a multiple of 32; up to 7 · 2^12 in magnitude, beyond which numbers are clamped.
template <int Bits = 4>
struct BlockFloating {
  static constexpr std::string_view name = Bits == 2 ? "bfp2" : "bfp4";
  std::vector<std::vector<Index>> order;  // of each kv head, or one for all; none: as they are

  /// Throws shape_error unless orders are as many as heads, one or none.
  void check(Index kv_heads) const {
    if (!order.empty()) detail::check_maps(order.size(), kv_heads, "channels");
  }
  /// Throws shape_error unless orders are permutations of d channels.
  template <class Storage>
  auto keys(Index d, Index kv_head) const {
    std::vector<Index> own(static_cast<std::size_t>(d));
    std::iota(own.begin(), own.end(), Index{0});
    if (!order.empty()) own = detail::map_of_head(order, kv_head, "channels");
    return LatentRows(OrthogonalMap(Permutation<float>(std::move(own))), BlockFloatingRows<Bits, Storage>(d), d);
  }
  template <class Storage>
  auto values(Index d) const {
    return BlockFloatingRows<Bits, Storage>(d);
  }
};

}  // namespace tessera::inline TESSERA_ABI::kv
