/// Version, and the key of the inline namespace that holds the whole library.
#pragma once

#include <cstddef>

#define TESSERA_VERSION_MAJOR 0
#define TESSERA_VERSION_MINOR 1
#define TESSERA_VERSION_PATCH 0

#if __cplusplus < 202002L
#error "tessera needs C++20: compile with -std=c++20 or later"
#endif

// The portable lane, Eigen's alignment and every inline function depend on the -m flags of the unit. Two units with
// different flags must share neither functions nor types, so the flags are part of the namespace's name.
#if defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define TESSERA_DETAIL_BASELINE avx512bw
#elif defined(__AVX512F__)
#define TESSERA_DETAIL_BASELINE avx512f
#elif defined(__AVX2__)
#define TESSERA_DETAIL_BASELINE avx2
#elif defined(__AVX__)
#define TESSERA_DETAIL_BASELINE avx
#elif defined(__SSE4_2__)
#define TESSERA_DETAIL_BASELINE sse4_2
#elif defined(__SSE4_1__)
#define TESSERA_DETAIL_BASELINE sse4_1
#elif defined(__SSSE3__)
#define TESSERA_DETAIL_BASELINE ssse3
#elif defined(__SSE3__)
#define TESSERA_DETAIL_BASELINE sse3
#elif defined(__SSE2__)
#define TESSERA_DETAIL_BASELINE sse2
#elif defined(__ARM_FEATURE_SVE)
#define TESSERA_DETAIL_BASELINE sve
#elif defined(__ARM_NEON)
#define TESSERA_DETAIL_BASELINE neon
#else
#define TESSERA_DETAIL_BASELINE scalar
#endif

#if defined(__FMA__) && defined(__F16C__)
#define TESSERA_DETAIL_FMA fma_f16c
#elif defined(__FMA__)
#define TESSERA_DETAIL_FMA fma
#elif defined(__F16C__)
#define TESSERA_DETAIL_FMA f16c
#else
#define TESSERA_DETAIL_FMA nofma
#endif

#if defined(__FAST_MATH__)
#define TESSERA_DETAIL_MATH fastmath
#else
#define TESSERA_DETAIL_MATH ieee
#endif

// -DTESSERA_ISA_LIMIT=avx2 leaves out the kernels of features beyond that one (see compiled_isa in simd/isa.hpp).
#if defined(TESSERA_ISA_LIMIT)
#define TESSERA_DETAIL_LIMIT TESSERA_ISA_LIMIT
#else
#define TESSERA_DETAIL_LIMIT all
#endif

#define TESSERA_DETAIL_JOIN2(major, minor, base, fma, math, limit) \
  v##major##_##minor##_##base##_##fma##_##math##_##limit
#define TESSERA_DETAIL_JOIN(major, minor, base, fma, math, limit) \
  TESSERA_DETAIL_JOIN2(major, minor, base, fma, math, limit)

/// `namespace tessera::inline TESSERA_ABI { … }` opens the library.
#define TESSERA_ABI                                                                                              \
  TESSERA_DETAIL_JOIN(TESSERA_VERSION_MAJOR, TESSERA_VERSION_MINOR, TESSERA_DETAIL_BASELINE, TESSERA_DETAIL_FMA, \
                      TESSERA_DETAIL_MATH, TESSERA_DETAIL_LIMIT)

#if defined(__x86_64__) || defined(_M_X64)
#define TESSERA_X86 1
#else
#define TESSERA_X86 0
#endif

#if defined(__GNUC__)
#define TESSERA_RESTRICT __restrict__
#define TESSERA_INLINE inline __attribute__((always_inline))
#define TESSERA_NOINLINE __attribute__((noinline))
#define TESSERA_FLATTEN __attribute__((flatten))
#else
#define TESSERA_RESTRICT
#define TESSERA_INLINE inline
#define TESSERA_NOINLINE
#define TESSERA_FLATTEN
#endif

// A function that takes simd::Vec and is to end up inside a TESSERA_FLATTEN kernel; simd/README.md says why.
#if defined(__clang__)
#define TESSERA_FLAT TESSERA_INLINE
#else
#define TESSERA_FLAT inline
#endif

// What takes long to compile: with TESSERA_EXTERN_TEMPLATES units declare it only, and one source defines it by
// including <tessera/instantiate.hpp> first of all. TESSERA_SHARED(declaration); follows each such template.
#if defined(TESSERA_INSTANTIATE)
#define TESSERA_SHARED(...) template __VA_ARGS__
#elif defined(TESSERA_EXTERN_TEMPLATES)
#define TESSERA_SHARED(...) extern template __VA_ARGS__
#else
#define TESSERA_SHARED(...) static_assert(true)
#endif

namespace tessera::inline TESSERA_ABI {

using Index = std::ptrdiff_t;

inline constexpr std::size_t cache_line = 64;

}  // namespace tessera::inline TESSERA_ABI
