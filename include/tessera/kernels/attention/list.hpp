/// The attention kernels, best first.
#pragma once

#include <tessera/kernels/attention/amx_bf16.hpp>
#include <tessera/kernels/attention/amx_int8.hpp>
#include <tessera/kernels/attention/avx2.hpp>
#include <tessera/kernels/attention/avx512.hpp>
#include <tessera/kernels/attention/avx512_bf16.hpp>
#include <tessera/kernels/attention/avx512_vnni.hpp>
#include <tessera/kernels/attention/ref.hpp>
#include <tessera/kernels/attention/xsimd.hpp>
#include <tessera/kernels/kernel.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {
template <class T>
struct AttentionList {
  using type = KernelList<AttentionXsimd<>, AttentionRef>;
};
#if TESSERA_X86
template <>
struct AttentionList<float> {
  using type = KernelList<AttentionAmxBf16, AttentionAvx512Bf16, AttentionAmxInt8, AttentionAvx512Vnni, AttentionAvx512,
                          AttentionAvx2, AttentionXsimd<>, AttentionRef>;
};
#endif
}  // namespace detail

template <class T>
using AttentionKernels = typename detail::AttentionList<T>::type;

#define TESSERA_DETAIL_SHARE(T) \
  TESSERA_SHARED(KernelEntries<AttentionKernels<T>, AttentionArgs<T>> AttentionKernels<T>::entries<AttentionArgs<T>>())
TESSERA_DETAIL_SHARE(float);
TESSERA_DETAIL_SHARE(double);
#undef TESSERA_DETAIL_SHARE

}  // namespace tessera::inline TESSERA_ABI
