/// Element-wise links whose state is kept in four bits: in_dynamic4(link).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include <tessera/optim/codes4.hpp>
#include <tessera/optim/storage.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail::codes {
/// The coders of one lane.
struct Lane4 {
  decltype(&portable::dynamic4_decode) decode;
  decltype(&portable::dynamic4_encode) encode;
};
inline Lane4 lane4() {
#if TESSERA_X86
  if (active_isa().has(Isa::avx2)) return {avx2::dynamic4_decode, avx2::dynamic4_encode};
#endif
  return {portable::dynamic4_decode, portable::dynamic4_encode};
}
}  // namespace detail::codes

/// Four bits a number and a float for each block of 128, rounded at random so that the mean is right. Averages
/// of squares have 15 sizes down to 1/382 of the largest: their roots are divided by, so none is 0
/// (below, the mean is too large and steps are too short). Others have a sign and eight sizes, 0 and 1/22 to 1 of the
/// largest. After B. Li, J. Chen, J. Zhu, "Memory Efficient Optimizers with 4-bit States" (NeurIPS 2023), §3 and 4.1,
/// which rounds to the nearest and for squares has even steps and scales by rows and columns: with even steps under one
/// scale a block, a sixteenth of the largest would be the least. A block with NaN or infinity becomes NaN.
class Dynamic4Slot {
 public:
  Dynamic4Slot() = default;
  Dynamic4Slot(Index n, bool squares)
      : squares_(squares),
        codes_(detail::codes::padded_size(n) / 2),
        scales_(detail::codes::padded_size(n) / detail::codes::block) {}

  template <class T>
  void decode(Index from, Index n, T* out) const {
    namespace c = detail::codes;
    const auto code = c::lane4().decode;
    c::for_each_block(from, n, out, true,
                      [&](Index i, float* x) { code(codes_.data() + i / 2, squares_, scales_[i / c::block], x); });
  }
  template <class T>
  void encode(Index from, Index n, T* in, detail::codes::Key key, Index at = 0) {
    namespace c = detail::codes;
    const auto code = c::lane4().encode;
    c::for_each_block(from, n, in, false, [&](Index i, const float* x) {
      scales_[i / c::block] = code(x, squares_, codes_.data() + i / 2, key, static_cast<std::uint32_t>(at + i - from));
    });
  }
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

/// See in_dynamic8.
template <ElementwiseTransform Link>
Stored<Dynamic4Slot, Link> in_dynamic4(Link link, std::uint64_t seed = 0) {
  return {std::move(link), seed};
}

}  // namespace tessera::inline TESSERA_ABI::optim
