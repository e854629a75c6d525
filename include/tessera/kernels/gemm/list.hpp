/// The gemm kernels of each type, best first.
#pragma once

#include <tessera/core/types.hpp>
#include <tessera/kernels/gemm/amx.hpp>
#include <tessera/kernels/gemm/avx2.hpp>
#include <tessera/kernels/gemm/avx2_int8.hpp>
#include <tessera/kernels/gemm/avx512.hpp>
#include <tessera/kernels/gemm/avx512_bf16.hpp>
#include <tessera/kernels/gemm/avx512_dot.hpp>
#include <tessera/kernels/gemm/avx512_int8.hpp>
#include <tessera/kernels/gemm/avx512_vnni.hpp>
#include <tessera/kernels/gemm/avx_vnni.hpp>
#include <tessera/kernels/gemm/ref.hpp>
#include <tessera/kernels/gemm/xsimd.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {
/// Specialise for a type with kernels of its own.
template <class TA, class TB, class T>
struct GemmList {
#if TESSERA_X86
  using type = KernelList<GemmAvx512Few, GemmAvx512, GemmAvx2Few, GemmAvx2, GemmXsimd<>, GemmRef>;
#else
  using type = KernelList<GemmXsimd<>, GemmRef>;
#endif
};
#if TESSERA_X86
template <class TA, class TB>
struct GemmList<TA, TB, float> {
  using type = KernelList<GemmAvx512Dot, GemmAvx512Few, GemmAvx512, GemmAvx2Few, GemmAvx2, GemmXsimd<>, GemmRef>;
};
template <>
struct GemmList<bf16, bf16, float> {
  using type = KernelList<GemmAvx512Dot, GemmAmxBf16, GemmAvx512Bf16, GemmAvx512Few, GemmAvx512, GemmAvx2Few, GemmAvx2,
                          GemmXsimd<>, GemmRef>;
};
template <class TA, class TB>
struct GemmList<TA, TB, std::int32_t> {
  using type = KernelList<GemmAmxInt8, GemmAvx512Vnni, GemmAvxVnni, GemmAvx512Int8, GemmAvx2Int8, GemmXsimd<>, GemmRef>;
};
#endif
}  // namespace detail

/// Kernels for A of TA times B of TB into C of T.
template <class TA, class TB, class T>
using GemmKernels = typename detail::GemmList<TA, TB, T>::type;

#define TESSERA_DETAIL_SHARE(TA, TB, T)                                     \
  TESSERA_SHARED(KernelEntries<GemmKernels<TA, TB, T>, GemmArgs<TA, TB, T>> \
                     GemmKernels<TA, TB, T>::entries<GemmArgs<TA, TB, T>>())
TESSERA_DETAIL_SHARE(float, float, float);
TESSERA_DETAIL_SHARE(double, double, double);
TESSERA_DETAIL_SHARE(bf16, bf16, float);
TESSERA_DETAIL_SHARE(bf16, float, float);
TESSERA_DETAIL_SHARE(float, bf16, float);
TESSERA_DETAIL_SHARE(f16, f16, float);
TESSERA_DETAIL_SHARE(f16, float, float);
TESSERA_DETAIL_SHARE(float, f16, float);
#undef TESSERA_DETAIL_SHARE

}  // namespace tessera::inline TESSERA_ABI
