/// The kernels of a fused map, best first.
#pragma once

#include <tessera/kernels/map/avx2.hpp>
#include <tessera/kernels/map/avx512.hpp>
#include <tessera/kernels/map/ref.hpp>
#include <tessera/kernels/map/xsimd.hpp>

namespace tessera::inline TESSERA_ABI {

#if TESSERA_X86
using MapKernels = KernelList<MapAvx512, MapAvx2, MapXsimd, MapRef>;
#else
using MapKernels = KernelList<MapXsimd, MapRef>;
#endif

}  // namespace tessera::inline TESSERA_ABI
