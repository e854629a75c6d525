/// The kernels of products of sparse int8 with bytes, best first.
#pragma once

#include <tessera/kernels/sparse_int8/amx.hpp>
#include <tessera/kernels/sparse_int8/avx2.hpp>
#include <tessera/kernels/sparse_int8/avx2_nm.hpp>
#include <tessera/kernels/sparse_int8/avx512_nm.hpp>
#include <tessera/kernels/sparse_int8/avx512_vnni.hpp>
#include <tessera/kernels/sparse_int8/bytes.hpp>
#include <tessera/kernels/sparse_int8/panels.hpp>
#include <tessera/kernels/sparse_int8/portable.hpp>
#include <tessera/kernels/sparse_int8/ref.hpp>

namespace tessera::inline TESSERA_ABI {

#if TESSERA_X86
using BsrInt8Kernels = KernelList<BsrInt8Amx, BsrInt8Avx512Vnni, BsrInt8Avx2, BsrInt8Portable, BsrInt8Ref>;
using NmInt8Kernels = KernelList<NmInt8Avx512Vbmi, NmInt8Avx512Vnni, NmInt8Avx2, NmInt8Portable, NmInt8Ref>;
template <class T>
using Int8PanelKernels = KernelList<Int8PanelsAvx2, Int8PanelsRef>;
template <class T>
using Int8BytesKernels = KernelList<Int8BytesAvx512, Int8BytesRef>;
#else
using BsrInt8Kernels = KernelList<BsrInt8Portable, BsrInt8Ref>;
using NmInt8Kernels = KernelList<NmInt8Portable, NmInt8Ref>;
template <class T>
using Int8PanelKernels = KernelList<Int8PanelsRef>;
template <class T>
using Int8BytesKernels = KernelList<Int8BytesRef>;
#endif

}  // namespace tessera::inline TESSERA_ABI
