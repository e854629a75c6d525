/// One block after another.
#pragma once

#include <tessera/kernels/attention/draws/args.hpp>

namespace tessera::inline TESSERA_ABI {

struct DrawRef {
  static constexpr std::string_view name = "draws:ref";
  static constexpr Isa isa = Isa::portable;
  static const char* reject(const DrawArgs&) { return nullptr; }
  static void run(const DrawArgs& a, RowRange groups) noexcept {
    for (Index g = groups.begin; g < groups.end; ++g)
      for (std::uint32_t lane = 0; lane < 8; ++lane) {
        const auto words = philox4x32({a.block(g, lane), a.c1, a.c2, a.c3}, {a.key0, a.key1});
        for (std::size_t w = 0; w < 4; ++w) a.words[static_cast<std::size_t>(g) * 32 + w * 8 + lane] = words[w];
      }
  }
};

}  // namespace tessera::inline TESSERA_ABI
