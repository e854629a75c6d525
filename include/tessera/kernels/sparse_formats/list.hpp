/// The kernels of products with blocks, tiles, slices and N:M groups, best first.
#pragma once

#include <tessera/kernels/sparse_formats/avx2.hpp>
#include <tessera/kernels/sparse_formats/ref.hpp>
#include <tessera/kernels/sparse_formats/xsimd.hpp>

namespace tessera::inline TESSERA_ABI {

#if TESSERA_X86
using BsrKernels = KernelList<BsrAvx2, BsrXsimd, BsrRef>;
using CslKernels = KernelList<CslAvx2, CslXsimd, CslRef>;
using SellKernels = KernelList<SellAvx2, SellXsimd, SellRef>;
using NmKernels = KernelList<NmAvx2, NmRef>;
#else
using BsrKernels = KernelList<BsrXsimd, BsrRef>;
using CslKernels = KernelList<CslXsimd, CslRef>;
using SellKernels = KernelList<SellXsimd, SellRef>;
using NmKernels = KernelList<NmRef>;
#endif

}  // namespace tessera::inline TESSERA_ABI
