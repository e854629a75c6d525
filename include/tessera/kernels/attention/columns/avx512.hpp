/// Column sums in AVX512's registers.
#pragma once

#include <algorithm>
#include <string_view>
#include <type_traits>

#include <tessera/kernels/attention/columns/args.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86
#include <tessera/simd/pack_avx512.hpp>

namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace detail::attention_columns_avx512 {
#include <tessera/kernels/attention/columns/tile.inl>
}  // namespace detail::attention_columns_avx512

struct AttentionColumnsAvx512 {
  static constexpr std::string_view name = "attention_columns:avx512";
  static constexpr Isa isa = Isa::avx512;
  static const char* reject(const AttentionColumnsArgs<float>& args) {
    return args.along_tokens() || args.along_rows() ? nullptr : "neither rows nor tokens are next to each other";
  }
  static void run(const AttentionColumnsArgs<float>& args, RowRange tokens) noexcept {
    detail::attention_columns_avx512::ColumnsTile<simd::Vec<float, simd::Avx512>>::run(args, tokens);
  }
};
TESSERA_TARGET_END

}  // namespace tessera::inline TESSERA_ABI
#endif
