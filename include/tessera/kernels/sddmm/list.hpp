/// The kernels of sampled dense-dense products, best first.
#pragma once

#include <tessera/kernels/sddmm/avx2.hpp>
#include <tessera/kernels/sddmm/ref.hpp>
#include <tessera/kernels/sddmm/xsimd.hpp>

namespace tessera::inline TESSERA_ABI {

#if TESSERA_X86
using SddmmKernels = KernelList<SddmmAvx2, SddmmXsimd<>, SddmmRef>;
#else
using SddmmKernels = KernelList<SddmmXsimd<>, SddmmRef>;
#endif

}  // namespace tessera::inline TESSERA_ABI
