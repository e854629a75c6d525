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

}  // namespace tessera::inline TESSERA_ABI
