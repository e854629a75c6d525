/// Regions compiled for one instruction set whatever the unit's flags are:
///   TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
///   struct GemmAvx512 { … };
///   TESSERA_TARGET_END
/// Inside: raw pointers, intrinsics and function objects. No lambdas (they do not inherit the target), no xsimd, no std
/// containers. Every #include stands above the region.
#pragma once

#include <tessera/core/config.hpp>

#if TESSERA_X86
#include <immintrin.h>
#endif

#define TESSERA_TARGET_AVX2 "avx2,fma,f16c,bmi,bmi2,lzcnt,popcnt"
#define TESSERA_TARGET_AVX_VNNI TESSERA_TARGET_AVX2 ",avxvnni"
#define TESSERA_TARGET_AVX512 TESSERA_TARGET_AVX2 ",avx512f,avx512cd,avx512bw,avx512dq,avx512vl"
#define TESSERA_TARGET_AVX512_VNNI TESSERA_TARGET_AVX512 ",avx512vnni"
#define TESSERA_TARGET_AVX512_BF16 TESSERA_TARGET_AVX512 ",avx512bf16"
#define TESSERA_TARGET_AVX512_FP16 TESSERA_TARGET_AVX512 ",avx512fp16"
#define TESSERA_TARGET_AVX512_VBMI TESSERA_TARGET_AVX512 ",avx512vbmi,avx512vbmi2"
#define TESSERA_TARGET_AVX512_POPCNT TESSERA_TARGET_AVX512 ",avx512vpopcntdq,avx512bitalg"
#define TESSERA_TARGET_AMX_BF16 TESSERA_TARGET_AVX512 ",amx-tile,amx-bf16"
#define TESSERA_TARGET_AMX_INT8 TESSERA_TARGET_AVX512 ",amx-tile,amx-int8"

#define TESSERA_DETAIL_PRAGMA(text) _Pragma(#text)
#if TESSERA_X86 && defined(__clang__)
#define TESSERA_TARGET_BEGIN(features) \
  TESSERA_DETAIL_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define TESSERA_TARGET_END _Pragma("clang attribute pop")
#elif TESSERA_X86 && defined(__GNUC__)
// g++'s own intrinsics start from deliberately undefined registers, which it then warns about where they are inlined.
#define TESSERA_TARGET_BEGIN(features)                                                                             \
  _Pragma("GCC push_options") _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wuninitialized\"") \
      _Pragma("GCC diagnostic ignored \"-Wmaybe-uninitialized\"") TESSERA_DETAIL_PRAGMA(GCC target(features))
#define TESSERA_TARGET_END _Pragma("GCC diagnostic pop") _Pragma("GCC pop_options")
#endif
