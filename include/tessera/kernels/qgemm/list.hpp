/// The kernels of qgemm, in order of preference.
#pragma once

#include <tessera/kernels/kernel.hpp>
#include <tessera/kernels/qgemm/ref.hpp>

namespace tessera::inline TESSERA_ABI {

using QuantizeActivationsKernels = KernelList<QuantizeActivationsRef>;
template <class F>
using QgemmKernels = KernelList<QgemmRef<F>>;

}  // namespace tessera::inline TESSERA_ABI
