/// Attention of few queries over coded keys and values in integers, by permission (AttentionPrecision).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string_view>
#include <type_traits>

#include <tessera/kernels/attention/args.hpp>
#include <tessera/kernels/attention/avx512.hpp>
#include <tessera/kernels/attention/token_runs.hpp>
#include <tessera/kernels/attention/unpack/args.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512_VNNI)
namespace detail::attention_avx512_vnni {
#include <tessera/kernels/attention/few_int8.inl>
}  // namespace detail::attention_avx512_vnni

struct AttentionAvx512Vnni {
  static constexpr std::string_view name = "attention:avx512_vnni";
  static constexpr Isa isa = Isa::avx512_vnni;
  using Tiles = AttentionAvx512::Tiles;
  static const char* reject(const AttentionArgs<float>& a) {
    if (a.precision != AttentionPrecision::int8_queries && a.precision != AttentionPrecision::int8)
      return "queries may not be rounded to int8";
    if (a.keys.codes == nullptr) return "keys are not codes";
    if (a.rows() > Tiles::few_rows) return "more than 8 queries a kv head";
    return nullptr;
  }
  static std::size_t scratch(const AttentionArgs<float>& args) { return Tiles::scratch(args); }
  static void run(const AttentionArgs<float>& args, RowRange pieces) noexcept {
    Tiles::run_few<detail::attention_avx512_vnni::IntegerDots>(args, pieces);
  }
};
TESSERA_TARGET_END

}  // namespace tessera::inline TESSERA_ABI
#endif
