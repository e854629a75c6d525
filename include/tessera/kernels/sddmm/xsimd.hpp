/// The portable vectors.
#pragma once

#include <tessera/kernels/sddmm/args.hpp>
#include <tessera/simd/pack.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail::sddmm_xsimd {
#include <tessera/kernels/sddmm/rows.inl>
}  // namespace detail::sddmm_xsimd

template <class Arch = simd::arch>
struct SddmmXsimd {
  static constexpr std::string_view name = "sddmm:xsimd";
  static constexpr Isa isa = Isa::portable;
  template <class T, class I>
  static const char* reject(const SddmmArgs<T, I>& a) {
    return a.contiguous() ? nullptr : "columns are not contiguous";
  }
  template <class T, class I>
  static void run(const SddmmArgs<T, I>& a, RowRange rows) noexcept {
    detail::sddmm_xsimd::SddmmRows<simd::Vec<T, simd::Portable<Arch>>, I>::run(a, rows);
  }
};

}  // namespace tessera::inline TESSERA_ABI
