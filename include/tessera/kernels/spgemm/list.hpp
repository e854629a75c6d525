/// The kernels of sparse times sparse, best first.
#pragma once

#include <tessera/kernels/spgemm/avx2.hpp>
#include <tessera/kernels/spgemm/portable.hpp>
#include <tessera/kernels/spgemm/ref.hpp>

namespace tessera::inline TESSERA_ABI {

#if TESSERA_X86
using SpgemmKernels = KernelList<SpgemmAvx2, SpgemmPortable, SpgemmRef>;
#else
using SpgemmKernels = KernelList<SpgemmPortable, SpgemmRef>;
#endif

}  // namespace tessera::inline TESSERA_ABI
