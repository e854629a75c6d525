/// The portable vectors.
#pragma once

#include <tessera/kernels/active_rows/args.hpp>
#include <tessera/simd/pack.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail::active_rows_xsimd {
#include <tessera/kernels/active_rows/rows.inl>
}  // namespace detail::active_rows_xsimd

template <class Arch = simd::arch>
struct ActiveRowsXsimd {
  static constexpr std::string_view name = "active_rows:xsimd";
  static constexpr Isa isa = Isa::portable;
  template <class T>
  static const char* reject(const ActiveRowsArgs<T>& a) {
    return a.W.col_stride() == 1 ? nullptr : "columns are not contiguous";
  }
  template <class T>
  static void run(const ActiveRowsArgs<T>& a, RowRange blocks) noexcept {
    detail::active_rows_xsimd::ActiveRowsSum<simd::Vec<T, simd::Portable<Arch>>>::run(a, blocks);
  }
};

}  // namespace tessera::inline TESSERA_ABI
