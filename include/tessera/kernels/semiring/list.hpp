/// The kernels of products over semirings, best first.
#pragma once

#include <tessera/kernels/semiring/avx2.hpp>
#include <tessera/kernels/semiring/avx512.hpp>
#include <tessera/kernels/semiring/ref.hpp>
#include <tessera/kernels/semiring/xsimd.hpp>

namespace tessera::inline TESSERA_ABI {

#if TESSERA_X86
using SemiringKernels = KernelList<SemiringAvx512, SemiringAvx2, SemiringXsimd, SemiringRef>;
#else
using SemiringKernels = KernelList<SemiringXsimd, SemiringRef>;
#endif

}  // namespace tessera::inline TESSERA_ABI
