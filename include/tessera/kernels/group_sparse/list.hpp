/// The kernels of group-sparse products, best first.
#pragma once

#include <tessera/kernels/group_sparse/avx2.hpp>
#include <tessera/kernels/group_sparse/avx512.hpp>
#include <tessera/kernels/group_sparse/ref.hpp>
#include <tessera/kernels/group_sparse/xsimd.hpp>

namespace tessera::inline TESSERA_ABI {

#if TESSERA_X86
using GroupSparseKernels = KernelList<GroupSparseAvx512, GroupSparseAvx2, GroupSparseXsimd, GroupSparseRef>;
#else
using GroupSparseKernels = KernelList<GroupSparseXsimd, GroupSparseRef>;
#endif

}  // namespace tessera::inline TESSERA_ABI
