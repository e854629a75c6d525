/// The kernels of the sum of squares, best first.
#pragma once

#include <tessera/kernels/sum_squares/avx2.hpp>
#include <tessera/kernels/sum_squares/avx512.hpp>
#include <tessera/kernels/sum_squares/ref.hpp>
#include <tessera/kernels/sum_squares/xsimd.hpp>

namespace tessera::inline TESSERA_ABI {

#if TESSERA_X86
using SumSquaresKernels = KernelList<SumSquaresAvx512, SumSquaresAvx2, SumSquaresXsimd<>, SumSquaresRef>;
#else
using SumSquaresKernels = KernelList<SumSquaresXsimd<>, SumSquaresRef>;
#endif

}  // namespace tessera::inline TESSERA_ABI
