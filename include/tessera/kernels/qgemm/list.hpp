/// The kernels of qgemm, in order of preference. On Arm and on x86 without AVX2 the portable ones run.
#pragma once

#include <tessera/kernels/kernel.hpp>
#include <tessera/kernels/qgemm/amx.hpp>
#include <tessera/kernels/qgemm/avx2.hpp>
#include <tessera/kernels/qgemm/avx512.hpp>
#include <tessera/kernels/qgemm/avx512_vnni.hpp>
#include <tessera/kernels/qgemm/avx_vnni.hpp>
#include <tessera/kernels/qgemm/ref.hpp>
#include <tessera/kernels/qgemm/xsimd.hpp>

namespace tessera::inline TESSERA_ABI {

#if TESSERA_X86
using QuantizeActivationsKernels =
    KernelList<QuantizeActivationsAvx512, QuantizeActivationsAvx2, QuantizeActivationsXsimd<>, QuantizeActivationsRef>;
template <class F>
using QgemmKernels =
    KernelList<QgemmAmx<F>, QgemmAvx512Vnni<F>, QgemmAvxVnni<F>, QgemmAvx2<F>, QgemmXsimd<F>, QgemmRef<F>>;
#else
using QuantizeActivationsKernels = KernelList<QuantizeActivationsXsimd<>, QuantizeActivationsRef>;
template <class F>
using QgemmKernels = KernelList<QgemmXsimd<F>, QgemmRef<F>>;
#endif

}  // namespace tessera::inline TESSERA_ABI
