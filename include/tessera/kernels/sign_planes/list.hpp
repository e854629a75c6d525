/// The kernels of sums of sign planes, best first.
#pragma once

#include <tessera/kernels/sign_planes/avx2.hpp>
#include <tessera/kernels/sign_planes/portable.hpp>
#include <tessera/kernels/sign_planes/ref.hpp>

namespace tessera::inline TESSERA_ABI {

#if TESSERA_X86
using SignPlanesKernels = KernelList<SignPlanesAvx2, SignPlanesPortable, SignPlanesRef>;
#else
using SignPlanesKernels = KernelList<SignPlanesPortable, SignPlanesRef>;
#endif

}  // namespace tessera::inline TESSERA_ABI
