/// The kernels of the row operations, best first.
#pragma once

#include <tessera/kernels/rows/avx2.hpp>
#include <tessera/kernels/rows/avx512.hpp>
#include <tessera/kernels/rows/ref.hpp>
#include <tessera/kernels/rows/xsimd.hpp>

namespace tessera::inline TESSERA_ABI {

#if TESSERA_X86
using SoftmaxKernels = KernelList<SoftmaxAvx512, SoftmaxAvx2, SoftmaxXsimd, SoftmaxRef>;
using LogSumExpKernels = KernelList<LogSumExpAvx512, LogSumExpAvx2, LogSumExpXsimd, LogSumExpRef>;
using RowNormsKernels = KernelList<RowNormsAvx512, RowNormsAvx2, RowNormsXsimd, RowNormsRef>;
using RmsnormKernels = KernelList<RmsnormAvx512, RmsnormAvx2, RmsnormXsimd, RmsnormRef>;
using LayernormKernels = KernelList<LayernormAvx512, LayernormAvx2, LayernormXsimd, LayernormRef>;
#else
using SoftmaxKernels = KernelList<SoftmaxXsimd, SoftmaxRef>;
using LogSumExpKernels = KernelList<LogSumExpXsimd, LogSumExpRef>;
using RowNormsKernels = KernelList<RowNormsXsimd, RowNormsRef>;
using RmsnormKernels = KernelList<RmsnormXsimd, RmsnormRef>;
using LayernormKernels = KernelList<LayernormXsimd, LayernormRef>;
#endif

}  // namespace tessera::inline TESSERA_ABI
