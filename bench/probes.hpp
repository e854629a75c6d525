/// What this machine can do, measured in this very process: fused multiply-adds, reading and copying memory.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include <tessera/core/buffer.hpp>
#include <tessera/core/config.hpp>
#include <tessera/simd/isa.hpp>
#include <tessera/simd/target.hpp>

namespace tessera::bench {

/// Wall-clock time; with TESSERA_BENCH_CLOCK=cpu in the environment the processor time of the calling thread, which on
/// a busy machine says more about work of one thread.
inline double seconds() {
#if defined(__linux__)
  static const bool cpu = std::getenv("TESSERA_BENCH_CLOCK") != nullptr;
  if (cpu) {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
  }
#endif
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

#if TESSERA_X86
// Twelve sums hide a latency of four cycles with two units, and of six with one. The loops are inline assembly so that
// the compiler neither spills nor merges them.
#define TESSERA_BENCH_FMAS(form, a, b)                                                                                 \
  form " " a "," b ",%0\n" form " " a "," b ",%1\n" form " " a "," b ",%2\n" form " " a "," b ",%3\n" form " " a "," b \
       ",%4\n" form " " a "," b ",%5\n" form " " a "," b ",%6\n" form " " a "," b ",%7\n" form " " a "," b             \
       ",%8\n" form " " a "," b ",%9\n" form " " a "," b ",%10\n" form " " a "," b ",%11\n"
#define TESSERA_BENCH_FMA_LOOP(Reg, form, zero, x, count)                                                             \
  Reg s0 = zero, s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0, s8 = s0, s9 = s0, s10 = s0, s11 = s0; \
  const Reg a = zero, b = zero;                                                                                       \
  for (Index i = 0; i < count; ++i)                                                                                   \
    __asm__ volatile(TESSERA_BENCH_FMAS(form, "%12", "%13")                                                           \
                     : "+" x(s0), "+" x(s1), "+" x(s2), "+" x(s3), "+" x(s4), "+" x(s5), "+" x(s6), "+" x(s7),        \
                       "+" x(s8), "+" x(s9), "+" x(s10), "+" x(s11)                                                   \
                     : x(a), x(b));

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
TESSERA_NOINLINE inline void fmas_f32_avx512(Index count){
    TESSERA_BENCH_FMA_LOOP(__m512, "vfmadd231ps", _mm512_setzero_ps(), "v", count)} TESSERA_NOINLINE
    inline void fmas_f64_avx512(Index count){
        TESSERA_BENCH_FMA_LOOP(__m512d, "vfmadd231pd", _mm512_setzero_pd(), "v", count)} TESSERA_NOINLINE
    inline float read_avx512(const float* p, Index n) {
  __m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
  for (Index i = 0; i + 64 <= n; i += 64) {
    s0 = _mm512_add_ps(s0, _mm512_loadu_ps(p + i));
    s1 = _mm512_add_ps(s1, _mm512_loadu_ps(p + i + 16));
    s2 = _mm512_add_ps(s2, _mm512_loadu_ps(p + i + 32));
    s3 = _mm512_add_ps(s3, _mm512_loadu_ps(p + i + 48));
  }
  return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(s0, s1), _mm512_add_ps(s2, s3)));
}
TESSERA_TARGET_END

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
TESSERA_NOINLINE inline void fmas_f32_avx2(Index count){
    TESSERA_BENCH_FMA_LOOP(__m256, "vfmadd231ps", _mm256_setzero_ps(), "x", count)} TESSERA_NOINLINE
    inline void fmas_f64_avx2(Index count){
        TESSERA_BENCH_FMA_LOOP(__m256d, "vfmadd231pd", _mm256_setzero_pd(), "x", count)} TESSERA_NOINLINE
    inline float read_avx2(const float* p, Index n) {
  __m256 s0 = _mm256_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
  for (Index i = 0; i + 32 <= n; i += 32) {
    s0 = _mm256_add_ps(s0, _mm256_loadu_ps(p + i));
    s1 = _mm256_add_ps(s1, _mm256_loadu_ps(p + i + 8));
    s2 = _mm256_add_ps(s2, _mm256_loadu_ps(p + i + 16));
    s3 = _mm256_add_ps(s3, _mm256_loadu_ps(p + i + 24));
  }
  return _mm256_cvtss_f32(_mm256_add_ps(_mm256_add_ps(s0, s1), _mm256_add_ps(s2, s3)));
}
TESSERA_TARGET_END
#endif

/// GFLOP/s of fused multiply-adds in registers on one core, for float or double; 0 where no probe exists.
template <class T>
double fma_roof() {
#if TESSERA_X86
  constexpr Index count = 40000;
  const bool wide = active_isa().has(Isa::avx512);
  if (!active_isa().has(Isa::avx2)) return 0;
  const double start = seconds();
  if constexpr (sizeof(T) == 4)
    wide ? fmas_f32_avx512(count) : fmas_f32_avx2(count);
  else
    wide ? fmas_f64_avx512(count) : fmas_f64_avx2(count);
  const double lanes = (wide ? 64.0 : 32.0) / sizeof(T);
  return 12 * 2 * lanes * static_cast<double>(count) / (seconds() - start) * 1e-9;
#else
  return 0;
#endif
}

inline volatile float read_sink = 0;

/// GB/s of reading `memory` once by one core. Its size decides which level of memory is measured.
inline double read_roof(const Buffer<float>& memory) {
  const double start = seconds();
#if TESSERA_X86
  if (active_isa().has(Isa::avx512)) {
    read_sink = read_avx512(memory.data(), memory.size());
  } else if (active_isa().has(Isa::avx2)) {
    read_sink = read_avx2(memory.data(), memory.size());
  } else
#endif
  {
    float sum[8] = {};
    for (Index i = 0; i + 8 <= memory.size(); i += 8)
      for (Index l = 0; l < 8; ++l) sum[l] += memory[i + l];
    read_sink = sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
  }
  return static_cast<double>(memory.bytes()) / (seconds() - start) * 1e-9;
}

/// GB/s, read and written together, of copying by one core.
inline double copy_roof(const Buffer<float>& from, Buffer<float>& to) {
  const double start = seconds();
  std::memcpy(to.data(), from.data(), std::min(from.bytes(), to.bytes()));
  return 2 * static_cast<double>(std::min(from.bytes(), to.bytes())) / (seconds() - start) * 1e-9;
}

}  // namespace tessera::bench
