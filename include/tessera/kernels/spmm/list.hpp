/// The kernels of products with compressed sparse rows, best first.
#pragma once

#include <tessera/kernels/spmm/ref.hpp>

namespace tessera::inline TESSERA_ABI {

using SpmmKernels = KernelList<SpmmRef>;

}  // namespace tessera::inline TESSERA_ABI
