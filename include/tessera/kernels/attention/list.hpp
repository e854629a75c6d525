/// The attention kernels, best first.
#pragma once

#include <tessera/kernels/attention/ref.hpp>
#include <tessera/kernels/kernel.hpp>

namespace tessera::inline TESSERA_ABI {

template <class T>
struct AttentionList {
  using type = KernelList<AttentionRef>;
};

template <class T>
using AttentionKernels = typename AttentionList<T>::type;

}  // namespace tessera::inline TESSERA_ABI
