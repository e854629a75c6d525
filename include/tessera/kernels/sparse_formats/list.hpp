/// The kernels of products with blocks, tiles, slices, N:M groups and bitmaps, best first.
#pragma once

#include <tessera/kernels/sparse_formats/amx.hpp>
#include <tessera/kernels/sparse_formats/avx2.hpp>
#include <tessera/kernels/sparse_formats/avx2_bitmap.hpp>
#include <tessera/kernels/sparse_formats/avx512.hpp>
#include <tessera/kernels/sparse_formats/avx512_bitmap.hpp>
#include <tessera/kernels/sparse_formats/avx512_nm.hpp>
#include <tessera/kernels/sparse_formats/ref.hpp>
#include <tessera/kernels/sparse_formats/xsimd.hpp>

namespace tessera::inline TESSERA_ABI {

#if TESSERA_X86
using BsrKernels = KernelList<BsrAvx512, BsrAvx2, BsrXsimd, BsrRef>;
using CslKernels = KernelList<CslAmxBf16, CslAvx512, CslAvx2, CslXsimd, CslRef>;
using SellKernels = KernelList<SellAvx2, SellXsimd, SellRef>;
using NmKernels = KernelList<NmAvx512, NmAvx2, NmRef>;
using BitmapKernels = KernelList<BitmapAvx512, BitmapAvx2, BitmapRef>;
#else
using BsrKernels = KernelList<BsrXsimd, BsrRef>;
using CslKernels = KernelList<CslXsimd, CslRef>;
using SellKernels = KernelList<SellXsimd, SellRef>;
using NmKernels = KernelList<NmRef>;
using BitmapKernels = KernelList<BitmapRef>;
#endif

}  // namespace tessera::inline TESSERA_ABI
