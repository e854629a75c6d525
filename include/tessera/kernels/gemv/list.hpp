/// The gemv kernels of each type, best first.
#pragma once

#include <tessera/core/types.hpp>
#include <tessera/kernels/gemv/ref.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {
template <class TA, class T>
struct GemvList {
  using type = KernelList<GemvRef>;
};
}  // namespace detail

/// Kernels for A of TA times x of T.
template <class TA, class T>
using GemvKernels = typename detail::GemvList<TA, T>::type;

}  // namespace tessera::inline TESSERA_ABI
