/// The unit's own flags.
#pragma once

#include <tessera/kernels/semiring/args.hpp>
#include <tessera/kernels/spmm/args.hpp>
#include <tessera/simd/pack.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail::semiring_xsimd {
#include <tessera/kernels/semiring/rows.inl>
}  // namespace detail::semiring_xsimd

struct SemiringXsimd {
  static constexpr std::string_view name = "semiring:xsimd";
  static constexpr Isa isa = Isa::portable;
  template <class T, class I, class S>
  static const char* reject(const SemiringArgs<T, I, S>& a) {
    return a.reject_vectors();
  }
  template <class T, class I, class S>
  static void run(const SemiringArgs<T, I, S>& a, RowRange rows) noexcept {
    if constexpr (SemiringArgs<T, I, S>::known)
      detail::semiring_xsimd::SemiringRows<simd::Vec<T, simd::Portable<>>>::run(a, rows);
  }
};

}  // namespace tessera::inline TESSERA_ABI
