/// The kernels of fixed-point products, best first.
#pragma once

#include <tessera/kernels/fixed_gemm/avx2.hpp>
#include <tessera/kernels/fixed_gemm/avx512.hpp>
#include <tessera/kernels/fixed_gemm/avx512_vnni.hpp>
#include <tessera/kernels/fixed_gemm/avx_vnni.hpp>
#include <tessera/kernels/fixed_gemm/ref.hpp>
#include <tessera/kernels/fixed_gemm/xsimd.hpp>

namespace tessera::inline TESSERA_ABI {

#if TESSERA_X86
using FixedGemmKernels =
    KernelList<FixedGemmAvx512Vnni, FixedGemmAvx512, FixedGemmAvxVnni, FixedGemmAvx2, FixedGemmXsimd<>, FixedGemmRef>;
#else
using FixedGemmKernels = KernelList<FixedGemmXsimd<>, FixedGemmRef>;
#endif

}  // namespace tessera::inline TESSERA_ABI
