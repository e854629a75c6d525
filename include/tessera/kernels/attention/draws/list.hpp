/// The kernels that draw random bits of keys, best first.
#pragma once

#include <tessera/kernels/attention/draws/avx2.hpp>
#include <tessera/kernels/attention/draws/ref.hpp>

namespace tessera::inline TESSERA_ABI {

#if TESSERA_X86
using DrawKernels = KernelList<DrawAvx2, DrawRef>;
#else
using DrawKernels = KernelList<DrawRef>;
#endif

}  // namespace tessera::inline TESSERA_ABI
