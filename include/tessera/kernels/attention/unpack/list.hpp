/// The unpacking kernels, best first.
#pragma once

#include <tessera/kernels/attention/unpack/avx2.hpp>
#include <tessera/kernels/attention/unpack/avx512.hpp>
#include <tessera/kernels/attention/unpack/ref.hpp>

namespace tessera::inline TESSERA_ABI {

#if TESSERA_X86
using UnpackKernels = KernelList<UnpackAvx512, UnpackAvx2, UnpackRef>;
#else
using UnpackKernels = KernelList<UnpackRef>;
#endif

TESSERA_SHARED(KernelEntries<UnpackKernels, UnpackArgs> UnpackKernels::entries<UnpackArgs>());

}  // namespace tessera::inline TESSERA_ABI
