/// Standard normal numbers by index, many at a time, for what replays its draws instead of keeping them: f32 only, and
/// not the numbers of Philox::normal.
#pragma once

#include <bit>
#include <cstdint>

#include <tessera/kernels/attention/draws/list.hpp>
#include <tessera/kernels/map/map.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
/// Box–Muller of two numbers in [1, 2): a ← r·cos φ, b ← r·sin φ with r² = -2·log(2 - a), φ = 2π·b. Series of the
/// quarter turn's sine and cosine to 2e-8.
struct BoxMuller {
  template <class V>
  TESSERA_INLINE void operator()(V& a, V& b) const {
    const V r = sqrt(V(-2.0f) * log(V(2.0f) - a));
    const V quarter = nearest(V(4.0f) * b), f = V(4.0f) * b - quarter, w = f * f;  // quarter is 4 to 8
    const V s =
        f * fma(w, fma(w, fma(w, fma(w, V(0.000160441185f), V(-0.00468175414f)), V(0.0796926262f)), V(-0.645964098f)),
                V(1.57079633f));
    const V c = fma(w, fma(w, fma(w, fma(w, V(0.000919260274f), V(-0.0208634807f)), V(0.253669508f)), V(-1.23370055f)),
                    V(1.0f));
    const auto odd = (quarter == V(5.0f)) | (quarter == V(7.0f));
    const V cosine = select(odd, s, c), sine = select(odd, c, s);
    a = r * select((quarter == V(5.0f)) | (quarter == V(6.0f)), -cosine, cosine);
    b = r * select((quarter == V(6.0f)) | (quarter == V(7.0f)), -sine, sine);
  }
};
}  // namespace detail

/// N(0, 1) in f32, as a function of (seed, stream, substream, index) alone: the same bits for any thread and order.
/// Words of Philox4x32-10 (J. Salmon et al. 2011), 23 bits of each, then Box–Muller: |z| <= 5.65. 1.3 ns a number with
/// AVX2, 32 times less than Philox::normal.
class NormalDraws {
 public:
  static constexpr Index group = 256;  // numbers made together: the first half of cosines, the second of sines

  NormalDraws(const Context& ctx, std::uint64_t seed, std::uint64_t stream, std::uint32_t substream = 0) {
    args_.c1 = substream;
    args_.c2 = static_cast<std::uint32_t>(stream);
    args_.c3 = static_cast<std::uint32_t>(stream >> 32);
    args_.key0 = static_cast<std::uint32_t>(seed);
    args_.key1 = static_cast<std::uint32_t>(seed >> 32);
    run_ = DrawKernels::select(ctx, args_).run;
  }

  /// Numbers [group·g, group·(g + 1)) into z (group); g < 2^26.
  void operator()(Context& ctx, Index g, float* z) const {
    constexpr Index half = group / 2, draws = group / DrawArgs::group;
    alignas(cache_line) std::uint32_t words[group];
    DrawArgs args = args_;
    args.first = static_cast<std::uint32_t>(g * draws);
    args.words = words;
    run_(args, {0, draws, 0});
    for (Index i = 0; i < group; ++i) z[i] = std::bit_cast<float>((words[i] >> 9) | 0x3F800000u);  // [1, 2)
    map(ctx, detail::BoxMuller{}, VectorView<float>(z, half), VectorView<float>(z + half, half));
  }

 private:
  DrawArgs args_;
  DrawRun run_;
};

}  // namespace tessera::inline TESSERA_ABI::optim
