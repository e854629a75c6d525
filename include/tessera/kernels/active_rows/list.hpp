/// The kernels of sums of some rows, best first.
#pragma once

#include <tessera/kernels/active_rows/avx2.hpp>
#include <tessera/kernels/active_rows/ref.hpp>
#include <tessera/kernels/active_rows/xsimd.hpp>

namespace tessera::inline TESSERA_ABI {

#if TESSERA_X86
using ActiveRowsKernels = KernelList<ActiveRowsAvx2, ActiveRowsXsimd<>, ActiveRowsRef>;
#else
using ActiveRowsKernels = KernelList<ActiveRowsXsimd<>, ActiveRowsRef>;
#endif

}  // namespace tessera::inline TESSERA_ABI
