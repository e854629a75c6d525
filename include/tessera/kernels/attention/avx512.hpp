/// f32 attention in AVX512's registers.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string_view>
#include <type_traits>

#include <tessera/kernels/attention/args.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86
#include <tessera/simd/pack_avx512.hpp>

namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace detail::attention_avx512 {
using TokenLoads = NoTokenCodes;
#include <tessera/kernels/attention/tiles.inl>
}  // namespace detail::attention_avx512

struct AttentionAvx512 {
  static constexpr std::string_view name = "attention:avx512";
  static constexpr Isa isa = Isa::avx512;
  using Tiles = detail::attention_avx512::AttentionTiles<simd::Vec<float, simd::Avx512>>;
  static const char* reject(const AttentionArgs<float>&) { return nullptr; }
  static std::size_t scratch(const AttentionArgs<float>& args) { return Tiles::scratch(args); }
  static void run(const AttentionArgs<float>& args, RowRange pieces) noexcept { Tiles::run(args, pieces); }
};
TESSERA_TARGET_END

}  // namespace tessera::inline TESSERA_ABI
#endif
