/// The portable vectors.
#pragma once

#include <algorithm>

#include <tessera/kernels/norm_backward/args.hpp>
#include <tessera/simd/pack.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail::norm_backward_xsimd {
#include <tessera/kernels/norm_backward/rows.inl>
}  // namespace detail::norm_backward_xsimd

template <class Arch = simd::arch>
struct NormBackwardXsimd {
  static constexpr std::string_view name = "norm_backward:xsimd";
  static constexpr Isa isa = Isa::portable;
  template <class T>
  static const char* reject(const NormBackwardArgs<T>& a) {
    return a.contiguous() ? nullptr : "columns are not contiguous";
  }
  template <class T>
  static void run(const NormBackwardArgs<T>& a, RowRange pieces) noexcept {
    detail::norm_backward_xsimd::NormBackwardRows<simd::Vec<T, simd::Portable<Arch>>>::run(a, pieces);
  }
};

}  // namespace tessera::inline TESSERA_ABI
