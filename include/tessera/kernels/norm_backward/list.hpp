/// The kernels of the backward pass of row normalisations, best first.
#pragma once

#include <tessera/kernels/norm_backward/avx2.hpp>
#include <tessera/kernels/norm_backward/avx512.hpp>
#include <tessera/kernels/norm_backward/ref.hpp>
#include <tessera/kernels/norm_backward/xsimd.hpp>

namespace tessera::inline TESSERA_ABI {

#if TESSERA_X86
using NormBackwardKernels = KernelList<NormBackwardAvx512, NormBackwardAvx2, NormBackwardXsimd<>, NormBackwardRef>;
#else
using NormBackwardKernels = KernelList<NormBackwardXsimd<>, NormBackwardRef>;
#endif

}  // namespace tessera::inline TESSERA_ABI
