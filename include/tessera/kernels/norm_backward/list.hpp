/// The kernels of the backward pass of row normalisations, best first.
#pragma once

#include <tessera/kernels/norm_backward/ref.hpp>
#include <tessera/kernels/norm_backward/xsimd.hpp>

namespace tessera::inline TESSERA_ABI {

using NormBackwardKernels = KernelList<NormBackwardXsimd<>, NormBackwardRef>;

}  // namespace tessera::inline TESSERA_ABI
