/// Keys and values as they are (f32), or rounded to bf16 or f16.
#pragma once

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <tuple>

#include <tessera/core/types.hpp>
#include <tessera/kv/codecs/codec.hpp>
#include <tessera/kv/codecs/row_arrays.hpp>

namespace tessera::inline TESSERA_ABI::kv {

namespace detail {
/// bf16(x) without branches: to nearest even, NaN to the quiet NaN of its sign.
inline bf16 round_to_bf16(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16, nan = (bits >> 31 << 15) | 0x7fc0u;
  return bf16::from_bits((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}
}  // namespace detail

template <class T, class Storage>
class PlainRows : public detail::RowArrays<Storage, T> {
 public:
  explicit PlainRows(Index d) : detail::RowArrays<Storage, T>({d}), d_(d) {}

  void append(const float* rows, Index count, Index stride) {
    T* to = row(this->grow(count));
    for (Index t = 0; t < count; ++t, to += d_) {
      const float* const from = rows + t * stride;
      if constexpr (std::same_as<T, float>)
        std::copy_n(from, d_, to);
      else if constexpr (std::same_as<T, f16>)
        for (Index c = 0; c < d_; ++c) to[c] = f16(from[c]);
      else
        for (Index c = 0; c < d_; ++c) to[c] = detail::round_to_bf16(from[c]);
    }
  }
  const float* tile(Index begin, Index count, float* scratch, Index& stride, Unpack unpack) const noexcept {
    stride = d_;
    if constexpr (std::same_as<T, float>) {
      return row(begin);
    } else {
      static_assert(std::same_as<T, bf16> || std::same_as<T, f16>);
      UnpackArgs args;
      args.bits = 16;
      args.half = std::same_as<T, f16>;
      args.codes = reinterpret_cast<const std::uint8_t*>(row(begin));
      args.row_bytes = 2 * d_;
      args.rows = count;
      args.d = d_;
      args.out = scratch;
      unpack(args, {0, count, 0});
      return scratch;
    }
  }
  TokenCodes codes(Index begin) const noexcept requires(!std::same_as<T, float>) {
    return {std::same_as<T, f16> ? TokenCode::float16 : TokenCode::bfloat16, row(begin), 2 * d_, this->size() - begin};
  }

 private:
  T* row(Index t) { return std::get<0>(this->arrays()).data() + t * d_; }
  const T* row(Index t) const { return std::get<0>(this->arrays()).data() + t * d_; }

  Index d_;
};

/// Keys and values as T.
template <class T>
struct PlainCodec {
  template <class Storage>
  auto keys(Index d) const {
    return PlainRows<T, Storage>(d);
  }
  template <class Storage>
  auto values(Index d) const {
    return PlainRows<T, Storage>(d);
  }
};

/// Exact; read in place. 4 bytes a number.
struct F32 : PlainCodec<float> {
  static constexpr std::string_view name = "f32";
};

/// Each number within 2^-8 of itself, to nearest even. 2 bytes a number.
struct Bf16 : PlainCodec<bf16> {
  static constexpr std::string_view name = "bf16";
};

/// Each number within 2^-11 of itself, to nearest even; 65520 and more are infinite, less than 2^-14 lose digits. 2
/// bytes a number.
struct F16 : PlainCodec<f16> {
  static constexpr std::string_view name = "f16";
};

}  // namespace tessera::inline TESSERA_ABI::kv
