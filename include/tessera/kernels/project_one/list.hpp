/// The kernels of a product with one vector that also takes the norm, best first.
#pragma once

#include <tessera/kernels/project_one/avx2.hpp>
#include <tessera/kernels/project_one/avx512.hpp>
#include <tessera/kernels/project_one/ref.hpp>
#include <tessera/kernels/project_one/xsimd.hpp>

namespace tessera::inline TESSERA_ABI {

#if TESSERA_X86
using ProjectOneKernels = KernelList<ProjectOneAvx512, ProjectOneAvx2, ProjectOneXsimd<>, ProjectOneRef>;
#else
using ProjectOneKernels = KernelList<ProjectOneXsimd<>, ProjectOneRef>;
#endif

}  // namespace tessera::inline TESSERA_ABI
