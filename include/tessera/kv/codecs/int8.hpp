/// One signed byte a number, one scale a token and head.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>

#include <tessera/kv/codecs/codec.hpp>
#include <tessera/kv/codecs/row_arrays.hpp>

namespace tessera::inline TESSERA_ABI::kv {

namespace detail {
/// x to the nearest integer, ties to even, for |x| < 2^22; a plain loop of it vectorises.
inline std::int32_t nearest_integer(float x) {
  return std::bit_cast<std::int32_t>(x + 0x1.8p23f) - std::bit_cast<std::int32_t>(0x1.8p23f);
}
}  // namespace detail

template <class Storage>
class Int8Rows : public detail::RowArrays<Storage, std::int8_t, float> {  // codes, a scale each
 public:
  explicit Int8Rows(Index d) : detail::RowArrays<Storage, std::int8_t, float>({d, 1}), d_(d) {}

  void append(const float* rows, Index count, Index stride) {
    const Index at = this->grow(count);
    auto& [codes, scales] = this->arrays();
    for (Index t = 0; t < count; ++t) encode(rows + t * stride, codes.data() + (at + t) * d_, scales[at + t]);
  }
  const float* tile(Index begin, Index count, float* scratch, Index& stride, Unpack unpack) const noexcept {
    const auto& [codes, scales] = this->arrays();
    UnpackArgs args;
    args.bits = 8;
    args.codes = reinterpret_cast<const std::uint8_t*>(codes.data() + begin * d_);
    args.row_bytes = d_;
    args.rows = count;
    args.d = d_;
    args.row_scale = scales.data() + begin;
    args.out = scratch;
    unpack(args, {0, count, 0});
    stride = d_;
    return scratch;
  }
  TokenCodes codes(Index begin) const noexcept {
    const auto& [codes, scales] = this->arrays();
    return {TokenCode::int8, codes.data() + begin * d_, d_, this->size() - begin, scales.data() + begin};
  }

 private:
  void encode(const float* row, std::int8_t* to, float& scale) const {
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
      to[c] =
          static_cast<std::int8_t>(inverse == 0 ? 0 : std::clamp(detail::nearest_integer(row[c] * inverse), -127, 127));
  }

  Index d_;
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
