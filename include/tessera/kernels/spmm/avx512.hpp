/// 512-bit vectors, whatever the unit's flags.
#pragma once

#include <concepts>
#include <cstdint>

#include <tessera/kernels/spmm/args.hpp>
#include <tessera/simd/pack_avx512.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace tessera::inline TESSERA_ABI {

namespace detail::spmm_avx512 {
#include <tessera/kernels/spmm/columns.inl>
#include <tessera/kernels/spmm/loop.inl>
/// One column of f32 and 32-bit indices in vectors.
struct SpmmVectors {
  template <class T, class I, class S>
  static S sum(const T* values, const I* columns, const S* x, Index count, bool gathers) {
    if constexpr (std::same_as<T, float> && std::same_as<I, std::int32_t>)
      if (count >= ColumnSums::fewest) return ColumnSums::sum(values, columns, x, count, gathers);
    return SpmmNumbers::sum(values, columns, x, count, gathers);
  }
};
}  // namespace detail::spmm_avx512

struct SpmmAvx512 : detail::spmm_avx512::SpmmLoop<simd::Avx512, detail::spmm_avx512::SpmmVectors> {
  static constexpr std::string_view name = "spmm:avx512";
  static constexpr Isa isa = Isa::avx512;
  template <class T, class I>
  static const char* reject(const SpmmArgs<T, I>& a) {
    constexpr bool vectors = std::same_as<T, float> && std::same_as<I, std::int32_t>;
    if (vectors && a.Y.cols() == 1 && a.op == Op::none && a.nonzeros() >= 32 * a.rows)
      return SpmmAvx512::SpmmLoop::reject(a);
    if (a.Y.cols() <= a.pad) return "columns of one register of avx2";
    return SpmmAvx512::SpmmLoop::reject(a);
  }
};

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END

#endif
