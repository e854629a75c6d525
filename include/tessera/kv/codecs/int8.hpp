/// One signed byte a number, one scale a token and head.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>

#include <tessera/kv/codecs/codec.hpp>

namespace tessera::inline TESSERA_ABI::kv {

namespace detail {
/// x to the nearest integer, ties to even, for |x| < 2^22; a plain loop of it vectorises.
inline std::int32_t nearest_integer(float x) {
  return std::bit_cast<std::int32_t>(x + 0x1.8p23f) - std::bit_cast<std::int32_t>(0x1.8p23f);
}
}  // namespace detail

template <class Storage>
class Int8Rows {
 public:
  explicit Int8Rows(Index d) : d_(d) {}

  void append(const float* rows, Index count, Index stride) {
    codes_.resize((size_ + count) * d_);
    scales_.resize(size_ + count);
    for (Index t = 0; t < count; ++t) encode(rows + t * stride, codes_.data() + (size_ + t) * d_, scales_[size_ + t]);
    size_ += count;
  }
  const float* tile(Index begin, Index count, float* scratch, Index& stride, Unpack unpack) const noexcept {
    UnpackArgs args;
    args.bits = 8;
    args.codes = reinterpret_cast<const std::uint8_t*>(codes_.data() + begin * d_);
    args.row_bytes = d_;
    args.rows = count;
    args.d = d_;
    args.row_scale = scales_.data() + begin;
    args.out = scratch;
    unpack(args, {0, count, 0});
    stride = d_;
    return scratch;
  }
  TokenCodes codes(Index begin) const noexcept {
    return {TokenCode::int8, codes_.data() + begin * d_, d_, size_ - begin, scales_.data() + begin};
  }
  void retain(std::span<const Index> kept, Index spare = 0) {
    retain_rows(codes_, d_, kept, spare);
    retain_rows(scales_, 1, kept, spare);
    size_ = static_cast<Index>(kept.size());
  }
  void truncate(Index n) {
    truncate_rows(codes_, d_, n);
    truncate_rows(scales_, 1, n);
    size_ = n;
  }
  void take(const Int8Rows& from, Index begin, Index count) {
    append_rows(codes_, from.codes_, d_, begin, count);
    append_rows(scales_, from.scales_, 1, begin, count);
    size_ += count;
  }
  void reserve(Index n) {
    codes_.reserve(n * d_);
    scales_.reserve(n);
  }
  Index size() const { return size_; }
  std::size_t bytes() const { return codes_.bytes() + scales_.bytes(); }

 private:
  void encode(const float* row, std::int8_t* codes, float& scale) const {
    float most = 0, poison = 0;
    for (Index c = 0; c < d_; ++c) {
      most = std::max(most, std::abs(row[c]));
      poison += row[c] * 0;  // NaN if any is NaN or infinite
    }
    const bool tiny = most < 0x1p-119f;  // its scale would be subnormal
    scale = tiny ? 0 : most / 127;
    if (std::isnan(poison)) scale = std::numeric_limits<float>::quiet_NaN();
    const float inverse = tiny || std::isnan(poison) ? 0 : 127 / most;
    for (Index c = 0; c < d_; ++c)
      codes[c] =
          static_cast<std::int8_t>(inverse == 0 ? 0 : std::clamp(detail::nearest_integer(row[c] * inverse), -127, 127));
  }

  Index d_, size_ = 0;
  typename Storage::template Array<std::int8_t> codes_;  // (size, d)
  typename Storage::template Array<float> scales_;       // (size)
};

/// Symmetric: each number within max|row| / 254. A NaN or an infinity makes its token NaN in that head.
/// 1 + 4/d bytes a number.
struct Int8 {
  static constexpr std::string_view name = "int8";
  template <class Storage>
  auto keys(Index d) const {
    return Int8Rows<Storage>(d);
  }
  template <class Storage>
  auto values(Index d) const {
    return Int8Rows<Storage>(d);
  }
};

}  // namespace tessera::inline TESSERA_ABI::kv
