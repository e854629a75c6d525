/// Where products with a vector gather.
#pragma once

#include <limits>

#include <tessera/simd/cache.hpp>
#include <tessera/simd/isa.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// Bytes of entries above which 512-bit lanes gather numbers of x: what the last cache does not keep, never on
/// processors that have AVX-VNNI. Zen 4 has not; on Zen 5, which has, gathers are slower from memory too.
inline Index gathers_above() {
  return active_isa().has(Isa::avx_vnni) ? std::numeric_limits<Index>::max() : cache_sizes().l3 / 2;
}

}  // namespace tessera::inline TESSERA_ABI::detail
