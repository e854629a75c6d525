#pragma once

#include <algorithm>
#include <cmath>
#include <tessera/kv/cachegen_caches.hpp>

#include "target.hpp"

namespace tessera::fuzz {

/// All chunks of a stream; what is read is finite, of the size that was said and written by an encoder in no more
/// than some bytes a number.
inline void cachegen(std::span<const std::uint8_t> input) {
  Context ctx;
  constexpr Index most = 1 << 16;
  accepts([&] {
    auto stream = input;
    while (!stream.empty()) {
      const std::size_t before = stream.size();
      const auto chunk = kv::cachegen_decode(ctx, stream, "(fuzz)", most);
      TESSERA_FUZZ_LAW(stream.size() < before);
      TESSERA_FUZZ_LAW(chunk.tokens > 0 && chunk.begin >= 0 && chunk.text.size() < before);
      const Index numbers = 2 * chunk.layers * chunk.kv_heads * chunk.tokens * chunk.head_dim;
      TESSERA_FUZZ_LAW(static_cast<Index>(chunk.numbers.size()) == numbers && numbers <= most);
      TESSERA_FUZZ_LAW(chunk.is_text == (numbers == 0));
      TESSERA_FUZZ_LAW(
          std::all_of(chunk.numbers.begin(), chunk.numbers.end(), [](float x) { return std::isfinite(x); }));
    }
  });
}

}  // namespace tessera::fuzz
