/// The kernels of products with compressed sparse rows, best first.
#pragma once

#include <tessera/kernels/spmm/avx2.hpp>
#include <tessera/kernels/spmm/avx512.hpp>
#include <tessera/kernels/spmm/ref.hpp>
#include <tessera/kernels/spmm/xsimd.hpp>

namespace tessera::inline TESSERA_ABI {

#if TESSERA_X86
using SpmmKernels = KernelList<SpmmAvx512, SpmmAvx2, SpmmXsimd, SpmmRef>;
#else
using SpmmKernels = KernelList<SpmmXsimd, SpmmRef>;
#endif

}  // namespace tessera::inline TESSERA_ABI
