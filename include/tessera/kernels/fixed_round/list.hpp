/// The kernels that round to fixed point, best first.
#pragma once

#include <tessera/kernels/fixed_round/avx2.hpp>
#include <tessera/kernels/fixed_round/avx512.hpp>
#include <tessera/kernels/fixed_round/ref.hpp>

namespace tessera::inline TESSERA_ABI {

#if TESSERA_X86
using FixedRoundKernels = KernelList<FixedRoundAvx512, FixedRoundAvx2, FixedRoundRef>;
#else
using FixedRoundKernels = KernelList<FixedRoundRef>;
#endif

}  // namespace tessera::inline TESSERA_ABI
