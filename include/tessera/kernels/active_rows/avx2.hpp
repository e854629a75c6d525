/// 256-bit vectors.
#pragma once

#include <tessera/kernels/active_rows/args.hpp>
#include <tessera/simd/pack_avx2.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)

namespace tessera::inline TESSERA_ABI {

namespace detail::active_rows_avx2 {
#include <tessera/kernels/active_rows/rows.inl>
}  // namespace detail::active_rows_avx2

struct ActiveRowsAvx2 {
  static constexpr std::string_view name = "active_rows:avx2";
  static constexpr Isa isa = Isa::avx2;
  template <class T>
  static const char* reject(const ActiveRowsArgs<T>& a) {
    return a.W.col_stride() == 1 ? nullptr : "columns are not contiguous";
  }
  template <class T>
  static void run(const ActiveRowsArgs<T>& a, RowRange blocks) noexcept {
    detail::active_rows_avx2::ActiveRowsSum<simd::Vec<T, simd::Avx2>>::run(a, blocks);
  }
};

}  // namespace tessera::inline TESSERA_ABI

TESSERA_TARGET_END

#endif
