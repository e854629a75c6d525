/// One element after another, functions from <cmath>.
#pragma once

#include <tessera/kernels/map/args.hpp>
#include <tessera/simd/math.hpp>

namespace tessera::inline TESSERA_ABI {

struct MapRef {
  static constexpr std::string_view name = "map:ref";
  static constexpr Isa isa = Isa::portable;
  template <class F, class... E>
  static const char* reject(const MapArgs<F, E...>&) {
    return nullptr;
  }
  template <class F, class... E>
  static void run(const MapArgs<F, E...>& a, RowRange range) noexcept {
    detail::map_run<simd::Vec<typename MapArgs<F, E...>::value_type, simd::Scalar>>(a, range);
  }
};

}  // namespace tessera::inline TESSERA_ABI
