/// AVX2 and FMA, whatever the unit's flags.
#pragma once

#include <tessera/kernels/map/args.hpp>
#include <tessera/simd/pack_avx2.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace tessera::inline TESSERA_ABI {

struct MapAvx2 {
  static constexpr std::string_view name = "map:avx2";
  static constexpr Isa isa = Isa::avx2;
  template <class F, class... E>
  static const char* reject(const MapArgs<F, E...>&) {
    return nullptr;
  }
  template <class F, class... E>
  TESSERA_FLATTEN static void run(const MapArgs<F, E...>& a, RowRange range) noexcept {
    detail::map_run<simd::Vec<typename MapArgs<F, E...>::value_type, simd::Avx2>>(a, range);
  }
};

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END

#endif
