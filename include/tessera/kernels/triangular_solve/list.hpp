/// The kernels of solving with a sparse triangle, best first.
#pragma once

#include <tessera/kernels/triangular_solve/avx2.hpp>
#include <tessera/kernels/triangular_solve/avx512.hpp>
#include <tessera/kernels/triangular_solve/ref.hpp>
#include <tessera/kernels/triangular_solve/xsimd.hpp>

namespace tessera::inline TESSERA_ABI {

#if TESSERA_X86
using TriangularSolveKernels =
    KernelList<TriangularSolveAvx512, TriangularSolveAvx2, TriangularSolveXsimd, TriangularSolveRef>;
using TriangularSlicesKernels = KernelList<TriangularSlicesAvx512, TriangularSlicesRef>;
#else
using TriangularSolveKernels = KernelList<TriangularSolveXsimd, TriangularSolveRef>;
using TriangularSlicesKernels = KernelList<TriangularSlicesRef>;
#endif

}  // namespace tessera::inline TESSERA_ABI
