/// Sizes of this processor's caches, to cut loops by.
#pragma once

#include <cstdlib>
#include <initializer_list>

#include <tessera/core/config.hpp>

#if TESSERA_X86
#include <cpuid.h>
#endif

namespace tessera::inline TESSERA_ABI {

/// Bytes of data cache that one core reaches: of its own at the first and second level, shared at the third.
struct CacheSizes {
  Index l1 = Index{32} << 10, l2 = Index{512} << 10, l3 = Index{8} << 20;  // where nothing else is known
};

namespace detail {

#if TESSERA_X86
inline CacheSizes detect_caches() {
  CacheSizes sizes;
  // Intel's leaf and AMD's have the same layout; each vendor leaves the other's empty.
  for (const unsigned leaf : {4u, 0x8000001du})
    for (unsigned i = 0; i < 16; ++i) {
      unsigned a = 0, b = 0, c = 0, d = 0;
      if (__get_cpuid_count(leaf, i, &a, &b, &c, &d) == 0 || (a & 31u) == 0) break;
      if ((a & 31u) == 2) continue;  // instructions
      const Index ways = static_cast<Index>(b >> 22) + 1, parts = static_cast<Index>((b >> 12) & 1023u) + 1;
      const Index bytes = ways * parts * (static_cast<Index>(b & 4095u) + 1) * (static_cast<Index>(c) + 1);
      const unsigned level = (a >> 5) & 7u;
      if (level == 1) sizes.l1 = bytes;
      if (level == 2) sizes.l2 = bytes;
      if (level == 3) sizes.l3 = bytes;
    }
  return sizes;
}
#else
inline CacheSizes detect_caches() { return {}; }
#endif

/// "48,1024,32768": KiB of the three levels. What is missing or not from 1 to 2^30 stays.
inline CacheSizes parse_caches(const char* text, CacheSizes sizes) {
  for (Index* level : {&sizes.l1, &sizes.l2, &sizes.l3}) {
    char* end = nullptr;
    const long kib = std::strtol(text, &end, 10);
    if (end == text) break;
    if (kib >= 1 && kib <= (1L << 30)) *level = static_cast<Index>(kib) << 10;
    if (*end != ',') break;
    text = end + 1;
  }
  return sizes;
}

}  // namespace detail

/// What CPUID says, or TESSERA_CACHES in the environment ("48,1024,32768": KiB of L1, L2, L3). Read once a process.
inline const CacheSizes& cache_sizes() {
  static const CacheSizes sizes = [] {
    const char* given = std::getenv("TESSERA_CACHES");
    const CacheSizes found = detail::detect_caches();
    return given == nullptr ? found : detail::parse_caches(given, found);
  }();
  return sizes;
}

}  // namespace tessera::inline TESSERA_ABI
