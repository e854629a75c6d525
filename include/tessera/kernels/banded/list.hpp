/// The kernels of banded products, best first.
#pragma once

#include <tessera/kernels/banded/avx2.hpp>
#include <tessera/kernels/banded/ref.hpp>
#include <tessera/kernels/banded/xsimd.hpp>

namespace tessera::inline TESSERA_ABI {

#if TESSERA_X86
using BandedKernels = KernelList<BandedAvx2, BandedXsimd, BandedRef>;
#else
using BandedKernels = KernelList<BandedXsimd, BandedRef>;
#endif

}  // namespace tessera::inline TESSERA_ABI
