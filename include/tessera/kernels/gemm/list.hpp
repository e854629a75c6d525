/// The gemm kernels of each type, best first.
#pragma once

#include <tessera/core/types.hpp>
#include <tessera/kernels/gemm/ref.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {
template <class TA, class TB, class T>
struct GemmList {
  using type = KernelList<GemmRef>;
};
}  // namespace detail

/// Kernels for A of TA times B of TB into C of T.
template <class TA, class TB, class T>
using GemmKernels = typename detail::GemmList<TA, TB, T>::type;

}  // namespace tessera::inline TESSERA_ABI
