/// The gemv kernels of each type, best first.
#pragma once

#include <tessera/core/types.hpp>
#include <tessera/kernels/gemv/avx2.hpp>
#include <tessera/kernels/gemv/avx512.hpp>
#include <tessera/kernels/gemv/ref.hpp>
#include <tessera/kernels/gemv/strided.hpp>
#include <tessera/kernels/gemv/xsimd.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {
/// Specialise for a type with kernels of its own.
template <class TA, class T>
struct GemvList {
#if TESSERA_X86
  using type = KernelList<GemvAvx512, GemvAvx2, GemvXsimd<>, GemvStrided, GemvRef>;
#else
  using type = KernelList<GemvXsimd<>, GemvStrided, GemvRef>;
#endif
};
}  // namespace detail

/// Kernels for A of TA times x of T.
template <class TA, class T>
using GemvKernels = typename detail::GemvList<TA, T>::type;

#define TESSERA_DETAIL_SHARE(TA, T) \
  TESSERA_SHARED(KernelEntries<GemvKernels<TA, T>, GemvArgs<TA, T>> GemvKernels<TA, T>::entries<GemvArgs<TA, T>>())
TESSERA_DETAIL_SHARE(float, float);
TESSERA_DETAIL_SHARE(double, double);
TESSERA_DETAIL_SHARE(bf16, float);
TESSERA_DETAIL_SHARE(f16, float);
#undef TESSERA_DETAIL_SHARE

}  // namespace tessera::inline TESSERA_ABI
