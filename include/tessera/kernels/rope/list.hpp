/// The kernels of the rotation of pairs, best first.
#pragma once

#include <tessera/kernels/rope/avx2.hpp>
#include <tessera/kernels/rope/avx512.hpp>
#include <tessera/kernels/rope/ref.hpp>

namespace tessera::inline TESSERA_ABI {

#if TESSERA_X86
using RopeKernels = KernelList<RopeAvx512, RopeAvx2, RopeRef>;
#else
using RopeKernels = KernelList<RopeRef>;
#endif

}  // namespace tessera::inline TESSERA_ABI
