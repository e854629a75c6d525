/// What this machine can do, measured in this very process: multiply-adds in registers; memory read, copied, added and
/// updated. A speed means something as a share of these. One core each, unless the caller runs one on every core.
/// Memory after J. McCalpin, "Memory Bandwidth and Machine Balance in Current High Performance Computers" (1995),
/// STREAM.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <string_view>

#include <tessera/core/buffer.hpp>
#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>
#include <tessera/simd/amx.hpp>
#include <tessera/simd/isa.hpp>
#include <tessera/simd/target.hpp>

namespace tessera::inline TESSERA_ABI::roof {

/// Wall-clock time; with TESSERA_CLOCK=cpu in the environment the processor time of the calling thread, which on a busy
/// machine says more about work of one thread.
inline double seconds() {
#if defined(__linux__)
  static const bool cpu = [] {
    const char* clock = std::getenv("TESSERA_CLOCK");
    return clock != nullptr && std::string_view(clock) == "cpu";
  }();
  if (cpu) {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
  }
#endif
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

namespace detail {

#if TESSERA_X86
// Twelve sums hide a latency of four cycles with two units, and of six with one. The loops are inline assembly so that
// the compiler neither spills nor merges them.
#define TESSERA_ROOF_STEP(form, s) form " %12,%13,%" #s "\n"
#define TESSERA_ROOF_STEPS(form) \
  TESSERA_ROOF_STEP(form, 0)     \
  TESSERA_ROOF_STEP(form, 1)     \
  TESSERA_ROOF_STEP(form, 2)     \
  TESSERA_ROOF_STEP(form, 3)     \
  TESSERA_ROOF_STEP(form, 4)     \
  TESSERA_ROOF_STEP(form, 5)     \
  TESSERA_ROOF_STEP(form, 6)     \
  TESSERA_ROOF_STEP(form, 7)     \
  TESSERA_ROOF_STEP(form, 8) TESSERA_ROOF_STEP(form, 9) TESSERA_ROOF_STEP(form, 10) TESSERA_ROOF_STEP(form, 11)
#define TESSERA_ROOF_LOOP(name, Reg, form, zero, x, ...)                                                         \
  TESSERA_NOINLINE inline void name(Index count) {                                                               \
    Reg s0 = zero, s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0, s8 = s0, s9 = s0, s10 = s0;    \
    Reg s11 = s0;                                                                                                \
    const Reg a = zero, b = zero;                                                                                \
    for (Index i = 0; i < count; ++i)                                                                            \
      __asm__ volatile(TESSERA_ROOF_STEPS(form)                                                                  \
                       : "+" x(s0), "+" x(s1), "+" x(s2), "+" x(s3), "+" x(s4), "+" x(s5), "+" x(s6), "+" x(s7), \
                         "+" x(s8), "+" x(s9), "+" x(s10), "+" x(s11)                                            \
                       : x(a), x(b)                                                                              \
                       : __VA_ARGS__);                                                                           \
  }
// The four streams, `lane` floats a register; n is a multiple of 64.
#define TESSERA_ROOF_STREAMS(Reg, lane, P)                                                                         \
  TESSERA_NOINLINE inline float read(const float* a, Index n) {                                                    \
    Reg s0 = P##setzero_ps(), s1 = s0, s2 = s0, s3 = s0;                                                           \
    for (Index i = 0; i + 4 * lane <= n; i += 4 * lane) {                                                          \
      s0 = P##add_ps(s0, P##loadu_ps(a + i));                                                                      \
      s1 = P##add_ps(s1, P##loadu_ps(a + i + lane));                                                               \
      s2 = P##add_ps(s2, P##loadu_ps(a + i + 2 * lane));                                                           \
      s3 = P##add_ps(s3, P##loadu_ps(a + i + 3 * lane));                                                           \
    }                                                                                                              \
    float sums[lane];                                                                                              \
    P##storeu_ps(sums, P##add_ps(P##add_ps(s0, s1), P##add_ps(s2, s3)));                                           \
    return sums[0];                                                                                                \
  }                                                                                                                \
  TESSERA_NOINLINE inline void copy(float* a, const float* b, Index n) {                                           \
    for (Index i = 0; i + lane <= n; i += lane) P##storeu_ps(a + i, P##loadu_ps(b + i));                           \
  }                                                                                                                \
  TESSERA_NOINLINE inline void copy_past_caches(float* a, const float* b, Index n) {                               \
    for (Index i = 0; i + lane <= n; i += lane) P##stream_ps(a + i, P##loadu_ps(b + i));                           \
    _mm_sfence();                                                                                                  \
  }                                                                                                                \
  TESSERA_NOINLINE inline void triad(float* a, const float* b, const float* c, float s, Index n) {                 \
    for (Index i = 0; i + lane <= n; i += lane)                                                                    \
      P##storeu_ps(a + i, P##fmadd_ps(P##set1_ps(s), P##loadu_ps(c + i), P##loadu_ps(b + i)));                     \
  }                                                                                                                \
  TESSERA_NOINLINE inline void update(float* a, float s, Index n) {                                                \
    for (Index i = 0; i + lane <= n; i += lane) P##storeu_ps(a + i, P##mul_ps(P##set1_ps(s), P##loadu_ps(a + i))); \
  }

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace avx512 {
TESSERA_ROOF_LOOP(fma_f32, __m512, "vfmadd231ps", _mm512_setzero_ps(), "v")
TESSERA_ROOF_LOOP(fma_f64, __m512d, "vfmadd231pd", _mm512_setzero_pd(), "v")
TESSERA_ROOF_STREAMS(__m512, 16, _mm512_)
}  // namespace avx512
TESSERA_TARGET_END
TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512_VNNI)
namespace avx512 {
TESSERA_ROOF_LOOP(dot_i8, __m512i, "vpdpbusd", _mm512_setzero_si512(), "v")
}
TESSERA_TARGET_END
TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace avx2 {
TESSERA_ROOF_LOOP(fma_f32, __m256, "vfmadd231ps", _mm256_setzero_ps(), "x")
TESSERA_ROOF_LOOP(fma_f64, __m256d, "vfmadd231pd", _mm256_setzero_pd(), "x")
TESSERA_ROOF_STREAMS(__m256, 8, _mm256_)
#pragma push_macro("TESSERA_ROOF_STEP")
#undef TESSERA_ROOF_STEP
#define TESSERA_ROOF_STEP(form, s) "vpmaddubsw %12,%13,%%ymm15\n" form ",%" #s ",%" #s "\n"
TESSERA_ROOF_LOOP(pairs_i4, __m256i, "vpaddw %%ymm15", _mm256_setzero_si256(), "x", "xmm15")
TESSERA_ROOF_LOOP(pairs_i8, __m256i, "vpmaddwd %%ymm15,%13,%%ymm15\nvpaddd %%ymm15", _mm256_setzero_si256(), "x",
                  "xmm15")
#pragma pop_macro("TESSERA_ROOF_STEP")
}  // namespace avx2
TESSERA_TARGET_END
TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX_VNNI)
namespace avx2 {
TESSERA_ROOF_LOOP(dot_i8, __m256i, "%{vex%} vpdpbusd", _mm256_setzero_si256(), "x")
}
TESSERA_TARGET_END
/// Four tiles of sums, two of A and two of B, 64 cycles a turn; `bytes` int8, else bf16.
TESSERA_NOINLINE inline void tile_dots(Index count, bool bytes) {
  static constexpr amx::TileConfig full = amx::TileConfig::full();
  const amx::Tiles tiles(full);
  for (Index i = 0; i < count; ++i)
    if (bytes) {
      amx::dot_i8<true, true, 0, 4, 6>();
      amx::dot_i8<true, true, 1, 4, 7>();
      amx::dot_i8<true, true, 2, 5, 6>();
      amx::dot_i8<true, true, 3, 5, 7>();
    } else {
      amx::dot_bf16<0, 4, 6>();
      amx::dot_bf16<1, 4, 7>();
      amx::dot_bf16<2, 5, 6>();
      amx::dot_bf16<3, 5, 7>();
    }
}
#undef TESSERA_ROOF_STREAMS
#undef TESSERA_ROOF_LOOP
#undef TESSERA_ROOF_STEPS
#undef TESSERA_ROOF_STEP
#endif

namespace portable {
inline float read(const float* a, Index n) {
  float sum[8] = {};
  for (Index i = 0; i + 8 <= n; i += 8)
    for (Index l = 0; l < 8; ++l) sum[l] += a[i + l];
  return sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
}
inline void copy(float* a, const float* b, Index n) { std::copy(b, b + n, a); }
inline void copy_past_caches(float* a, const float* b, Index n) { copy(a, b, n); }
inline void triad(float* a, const float* b, const float* c, float s, Index n) {
  for (Index i = 0; i < n; ++i) a[i] = b[i] + s * c[i];
}
inline void update(float* a, float s, Index n) {
  for (Index i = 0; i < n; ++i) a[i] *= s;
}
}  // namespace portable

inline volatile float sink = 0;

inline double rate(double work, double start) { return work / std::max(seconds() - start, 1e-9) * 1e-9; }

inline void check_sizes(const char* what, Index a, Index b) {
  if (a != b)
    throw shape_error(tessera::detail::concat("tessera: roof::", what, ": buffers of ", a, " and ", b,
                                              " elements; expected one size"));
}

}  // namespace detail

#if TESSERA_X86
#define TESSERA_ROOF_CALL(call)                         \
  (active_isa().has(Isa::avx512) ? detail::avx512::call \
   : active_isa().has(Isa::avx2) ? detail::avx2::call   \
                                 : detail::portable::call)
#else
#define TESSERA_ROOF_CALL(call) detail::portable::call
#endif

/// GFLOP/s of fused multiply-adds in registers, for float or double; 0 where no probe exists.
template <class T>
double fma() {
#if TESSERA_X86
  constexpr Index count = 40000;
  const bool wide = active_isa().has(Isa::avx512);
  if (!active_isa().has(Isa::avx2)) return 0;
  const double start = seconds();
  if constexpr (sizeof(T) == 4)
    wide ? detail::avx512::fma_f32(count) : detail::avx2::fma_f32(count);
  else
    wide ? detail::avx512::fma_f64(count) : detail::avx2::fma_f64(count);
  return detail::rate(12 * 2 * (wide ? 64.0 : 32.0) / sizeof(T) * static_cast<double>(count), start);
#else
  return 0;
#endif
}

/// GOP/s of int8 multiply-adds in registers (VPDPBUSD), a product and a sum counting two; 0 where there are none.
inline double dot_i8() {
#if TESSERA_X86
  constexpr Index count = 40000;
  const bool wide = active_isa().has(Isa::avx512_vnni);
  if (!wide && !active_isa().has(Isa::avx_vnni)) return 0;
  const double start = seconds();
  wide ? detail::avx512::dot_i8(count) : detail::avx2::dot_i8(count);
  return detail::rate(12 * 2 * (wide ? 64.0 : 32.0) * static_cast<double>(count), start);
#else
  return 0;
#endif
}

#if TESSERA_X86
#define TESSERA_ROOF_PAIRS(loop)              \
  constexpr Index count = 40000;              \
  if (!active_isa().has(Isa::avx2)) return 0; \
  const double start = seconds();             \
  detail::avx2::loop(count);                  \
  return detail::rate(12 * 2 * 32.0 * static_cast<double>(count), start);
#else
#define TESSERA_ROOF_PAIRS(loop) return 0;
#endif
/// GOP/s of the same where there is only VPMADDUBSW, VPMADDWD and a sum in 32 bits for each 32 products; 0 without
/// AVX2.
inline double dot_i8_by_pairs() { TESSERA_ROOF_PAIRS(pairs_i8) }
/// GOP/s of codes of 4 bits times int8, eight of whose products fit 16 bits: VPMADDUBSW and a sum; 0 without AVX2.
inline double dot_i4_by_pairs() { TESSERA_ROOF_PAIRS(pairs_i4) }
#undef TESSERA_ROOF_PAIRS

/// GFLOP/s of bf16 multiply-adds of tiles in registers (TDPBF16PS); 0 where there are none. Run under emulation so far,
/// not on hardware; so is amx_i8.
inline double amx_bf16() {
#if TESSERA_X86
  constexpr Index count = 1500;
  if (!active_isa().has(Isa::amx_bf16)) return 0;
  const double start = seconds();
  detail::tile_dots(count, false);
  return detail::rate(4 * 2 * 16.0 * 16 * 32 * static_cast<double>(count), start);
#else
  return 0;
#endif
}

/// GOP/s of int8 multiply-adds of tiles in registers (TDPBSSD); 0 where there are none.
inline double amx_i8() {
#if TESSERA_X86
  constexpr Index count = 1500;
  if (!active_isa().has(Isa::amx_int8)) return 0;
  const double start = seconds();
  detail::tile_dots(count, true);
  return detail::rate(4 * 2 * 16.0 * 16 * 64 * static_cast<double>(count), start);
#else
  return 0;
#endif
}

/// GB/s of reading `a`. Its size decides which level of memory is measured; small ones want many `times`, for the clock
/// takes time too.
inline double read(const Buffer<float>& a, Index times = 1) {
  const double start = seconds();
  for (Index t = 0; t < times; ++t) detail::sink = TESSERA_ROOF_CALL(read)(a.data(), a.size());
  return detail::rate(static_cast<double>(times) * static_cast<double>(a.bytes()), start);
}

/// GB/s, read and written together, of a = b. Throws shape_error for buffers of two sizes, as all below.
inline double copy(Buffer<float>& a, const Buffer<float>& b, Index times = 1) {
  detail::check_sizes("copy", a.size(), b.size());
  const double start = seconds();
  for (Index t = 0; t < times; ++t) TESSERA_ROOF_CALL(copy)(a.data(), b.data(), a.size());
  return detail::rate(2 * static_cast<double>(times) * static_cast<double>(a.bytes()), start);
}

/// The same with stores that do not read the lines they write (non-temporal).
inline double copy_past_caches(Buffer<float>& a, const Buffer<float>& b, Index times = 1) {
  detail::check_sizes("copy_past_caches", a.size(), b.size());
  const double start = seconds();
  for (Index t = 0; t < times; ++t) TESSERA_ROOF_CALL(copy_past_caches)(a.data(), b.data(), a.size());
  return detail::rate(2 * static_cast<double>(times) * static_cast<double>(a.bytes()), start);
}

/// GB/s of a = b + s*c.
inline double triad(Buffer<float>& a, const Buffer<float>& b, const Buffer<float>& c, Index times = 1) {
  detail::check_sizes("triad", a.size(), b.size());
  detail::check_sizes("triad", a.size(), c.size());
  const double start = seconds();
  for (Index t = 0; t < times; ++t) TESSERA_ROOF_CALL(triad)(a.data(), b.data(), c.data(), 0.5f, a.size());
  return detail::rate(3 * static_cast<double>(times) * static_cast<double>(a.bytes()), start);
}

/// GB/s, read and written together, of a = s*a.
inline double update(Buffer<float>& a, Index times = 1) {
  const double start = seconds();
  for (Index t = 0; t < times; ++t) TESSERA_ROOF_CALL(update)(a.data(), 0.5f, a.size());
  return detail::rate(2 * static_cast<double>(times) * static_cast<double>(a.bytes()), start);
}
#undef TESSERA_ROOF_CALL

}  // namespace tessera::inline TESSERA_ABI::roof
