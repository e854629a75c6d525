/// Element-wise links whose state is kept in fewer bits: in_bf16(link), in_dynamic8(link). The chain stays one pass:
/// state is decoded, used and coded again in registers where one link has all of it (coded_map.hpp), else a piece at a
/// time in the cache.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <utility>

#include <tessera/core/buffer.hpp>
#include <tessera/optim/codes_avx2.hpp>
#include <tessera/optim/codes_avx512.hpp>
#include <tessera/optim/transform.hpp>
#include <tessera/simd/isa.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail::codes {
/// The coders of one lane.
struct Lane {
  decltype(&portable::bf16_decode) bf16_decode;
  decltype(&portable::bf16_encode) bf16_encode;
  decltype(&portable::dynamic8_decode) dynamic8_decode;
  decltype(&portable::dynamic8_encode) dynamic8_encode;
};
inline constexpr Lane portable_lane{portable::bf16_decode, portable::bf16_encode, portable::dynamic8_decode,
                                    portable::dynamic8_encode};
#if TESSERA_X86
inline constexpr Lane avx2_lane{avx2::bf16_decode, avx2::bf16_encode, avx2::dynamic8_decode, avx2::dynamic8_encode};
inline constexpr Lane avx512_lane{avx512::bf16_decode, avx512::bf16_encode, avx512::dynamic8_decode,
                                  avx512::dynamic8_encode};
#endif
inline const Lane& lane() {
#if TESSERA_X86
  if (active_isa().has(Isa::avx512_vbmi)) return avx512_lane;
  if (active_isa().has(Isa::avx2)) return avx2_lane;
#endif
  return portable_lane;
}

/// `f(element of the slot, elements, floats in place)` for each block of [from, from + n); T's values go in and out
/// through floats.
template <class T, class F>
void for_each_block(Index from, Index n, T* values, bool out, F&& f) {
  float padded[block];
  for (Index at = 0; at < n; at += block) {
    const Index some = std::min(block, n - at);
    if constexpr (std::is_same_v<T, float>)
      if (some == block) {
        f(from + at, values + at);
        continue;
      }
    for (Index j = 0; j < block; ++j) padded[j] = !out && j < some ? static_cast<float>(values[at + j]) : 0;
    f(from + at, padded);
    if (out)
      for (Index j = 0; j < some; ++j) values[at + j] = static_cast<T>(padded[j]);
  }
}
inline Index padded_size(Index n) {
  return n > std::numeric_limits<Index>::max() - block ? n : (n + block - 1) / block * block;
}
}  // namespace detail::codes

/// bf16, rounded up or down at random so that the mean is right: then small changes are not lost (P. Zamirai et al.,
/// "Revisiting BFloat16 Training", 2020, §3). 2 bytes a number.
class Bf16Slot {
 public:
  Bf16Slot() = default;
  explicit Bf16Slot(Index n) : codes_(detail::codes::padded_size(n)) {}

  /// out ← elements [from, from + n); `from` is a multiple of 128.
  template <class T>
  void decode(Index from, Index n, T* out) const {
    const auto code = detail::codes::lane().bf16_decode;
    detail::codes::for_each_block(from, n, out, true, [&](Index i, float* x) { code(codes_.data() + i, x); });
  }
  /// The reverse; `key` decides the rounding, of elements counted from `at` on, a multiple of 64.
  template <class T>
  void encode(Index from, Index n, T* in, detail::codes::Key key, Index at = 0) {
    const auto code = detail::codes::lane().bf16_encode;
    detail::codes::for_each_block(from, n, in, false, [&](Index i, const float* x) {
      code(x, codes_.data() + i, key, static_cast<std::uint32_t>(at + i - from));
    });
  }
  std::uint16_t* codes(Index from) { return codes_.data() + from; }
  float* scales(Index) { return nullptr; }
  template <class F>
  void list(const std::string& name, F& f) {
    f(name, std::span<std::uint16_t>(codes_));
  }

 private:
  Buffer<std::uint16_t> codes_;
};

/// Eight bits a number and a float for each block of 128: sign, and |x|/largest + 2^-15 as a float of 4 bits of
/// exponent and 3 of mantissa, so that steps are a sixteenth to an eighth of a number down to 2^-18 of the largest,
/// rounded at random so that the mean is right. After T. Dettmers et al., "8-bit Optimizers via Block-wise
/// Quantization" (ICLR 2022), whose tree of exponents needs a search. A block with NaN or infinity becomes NaN; one
/// under 2^-126, zero. Averages of squares have no code of 0, for their roots are divided by: below 2^-18 the mean is
/// too large and steps are too short.
class Dynamic8Slot {
 public:
  Dynamic8Slot() = default;
  explicit Dynamic8Slot(Index n, bool squares = false)
      : squares_(squares), codes_(detail::codes::padded_size(n)), scales_(codes_.size() / detail::codes::block) {}

  template <class T>
  void decode(Index from, Index n, T* out) const {
    const auto code = detail::codes::lane().dynamic8_decode;
    detail::codes::for_each_block(
        from, n, out, true, [&](Index i, float* x) { code(codes_.data() + i, scales_[i / detail::codes::block], x); });
  }
  template <class T>
  void encode(Index from, Index n, T* in, detail::codes::Key key, Index at = 0) {
    const auto code = detail::codes::lane().dynamic8_encode;
    detail::codes::for_each_block(from, n, in, false, [&](Index i, const float* x) {
      scales_[i / detail::codes::block] =
          code(x, squares_, codes_.data() + i, key, static_cast<std::uint32_t>(at + i - from));
    });
  }
  std::uint8_t* codes(Index from) { return codes_.data() + from; }
  float* scales(Index from) { return scales_.data() + from / detail::codes::block; }
  template <class F>
  void list(const std::string& name, F& f) {
    f(name + ".codes", std::span<std::uint8_t>(codes_));
    f(name + ".scales", std::span<float>(scales_));
  }

 private:
  bool squares_ = false;
  Buffer<std::uint8_t> codes_;
  Buffer<float> scales_;
};

template <class Codec, ElementwiseTransform Link>
struct Stored : Link {
  using storage = Codec;
  std::uint64_t seed = 0;
};

/// The link with its state in bf16, or in 8 bits. Draws depend on the seed, the step, the link's place, block, slot and
/// element: the same for any thread count, and after a round trip of the state.
template <ElementwiseTransform Link>
Stored<Bf16Slot, Link> in_bf16(Link link, std::uint64_t seed = 0) {
  return {std::move(link), seed};
}
template <ElementwiseTransform Link>
Stored<Dynamic8Slot, Link> in_dynamic8(Link link, std::uint64_t seed = 0) {
  return {std::move(link), seed};
}

}  // namespace tessera::inline TESSERA_ABI::optim
