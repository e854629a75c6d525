/// The kernels of the row operations, best first.
#pragma once

#include <tessera/kernels/rows/ref.hpp>

namespace tessera::inline TESSERA_ABI {

using SoftmaxKernels = KernelList<SoftmaxRef>;
using LogSumExpKernels = KernelList<LogSumExpRef>;
using RowNormsKernels = KernelList<RowNormsRef>;
using RmsnormKernels = KernelList<RmsnormRef>;
using LayernormKernels = KernelList<LayernormRef>;

}  // namespace tessera::inline TESSERA_ABI
