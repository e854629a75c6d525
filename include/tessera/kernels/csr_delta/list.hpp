/// The kernels of products of units with a vector, best first.
#pragma once

#include <tessera/kernels/csr_delta/avx2.hpp>
#include <tessera/kernels/csr_delta/avx512.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail::csr_delta_ref {
#include <tessera/kernels/csr_delta/loop.inl>
}  // namespace detail::csr_delta_ref

/// The unit's own flags.
struct CsrDeltaRef : detail::csr_delta_ref::CsrDeltaLoop {
  static constexpr std::string_view name = "csr_delta:ref";
  static constexpr Isa isa = Isa::portable;
};

#if TESSERA_X86
using CsrDeltaKernels = KernelList<CsrDeltaAvx512, CsrDeltaAvx2, CsrDeltaRef>;
#else
using CsrDeltaKernels = KernelList<CsrDeltaRef>;
#endif

}  // namespace tessera::inline TESSERA_ABI
