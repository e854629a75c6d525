/// The kernels of column sums, best first.
#pragma once

#include <tessera/kernels/attention/columns/avx2.hpp>
#include <tessera/kernels/attention/columns/avx512.hpp>
#include <tessera/kernels/attention/columns/ref.hpp>
#include <tessera/kernels/attention/columns/xsimd.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {
template <class T>
struct AttentionColumnsList {
  using type = KernelList<AttentionColumnsXsimd<>, AttentionColumnsRef>;
};
#if TESSERA_X86
template <>
struct AttentionColumnsList<float> {
  using type = KernelList<AttentionColumnsAvx512, AttentionColumnsAvx2, AttentionColumnsXsimd<>, AttentionColumnsRef>;
};
#endif
}  // namespace detail

template <class T>
using AttentionColumnsKernels = typename detail::AttentionColumnsList<T>::type;

#define TESSERA_DETAIL_SHARE(T)                                                     \
  TESSERA_SHARED(KernelEntries<AttentionColumnsKernels<T>, AttentionColumnsArgs<T>> \
                     AttentionColumnsKernels<T>::entries<AttentionColumnsArgs<T>>())
TESSERA_DETAIL_SHARE(float);
TESSERA_DETAIL_SHARE(double);
#undef TESSERA_DETAIL_SHARE

}  // namespace tessera::inline TESSERA_ABI
