/// The kernels of a product of bit planes, best first.
#pragma once

#include <tessera/kernels/bitplane/avx2.hpp>
#include <tessera/kernels/bitplane/avx512_popcnt.hpp>
#include <tessera/kernels/bitplane/ref.hpp>

namespace tessera::inline TESSERA_ABI {

#if TESSERA_X86
using BitplaneKernels = KernelList<BitplaneAvx512Popcnt, BitplaneAvx2, BitplaneRef>;
#else
using BitplaneKernels = KernelList<BitplaneRef>;
#endif

}  // namespace tessera::inline TESSERA_ABI
