/// The kernels of the Walsh–Hadamard transform, best first.
#pragma once

#include <tessera/kernels/fwht/avx2.hpp>
#include <tessera/kernels/fwht/avx512.hpp>
#include <tessera/kernels/fwht/ref.hpp>
#include <tessera/kernels/fwht/xsimd.hpp>

namespace tessera::inline TESSERA_ABI {

#if TESSERA_X86
using FwhtKernels = KernelList<FwhtAvx512, FwhtAvx2, FwhtXsimd, FwhtRef>;
#else
using FwhtKernels = KernelList<FwhtXsimd, FwhtRef>;
#endif

#define TESSERA_DETAIL_SHARE(T) \
  TESSERA_SHARED(KernelEntries<FwhtKernels, FwhtArgs<T, T>> FwhtKernels::entries<FwhtArgs<T, T>>())
TESSERA_DETAIL_SHARE(float);
TESSERA_DETAIL_SHARE(double);
#undef TESSERA_DETAIL_SHARE

}  // namespace tessera::inline TESSERA_ABI
