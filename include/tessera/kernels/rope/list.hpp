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

TESSERA_SHARED(KernelEntries<RopeKernels, RopeArgs<float>> RopeKernels::entries<RopeArgs<float>>());

}  // namespace tessera::inline TESSERA_ABI
