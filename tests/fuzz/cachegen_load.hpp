#pragma once

#include <algorithm>
#include <tessera/kv/cache.hpp>
#include <tessera/kv/cachegen_caches.hpp>
#include <vector>

#include "target.hpp"

namespace tessera::fuzz {

/// Caches of the shape that the stream's first chunk says: what is loaded is as many tokens in each layer, whatever the
/// stream is refused for, and the same where the load was broken off between.
inline void cachegen_load(std::span<const std::uint8_t> input) {
  Context ctx;
  accepts([&] {
    auto stream = input;
    const auto first = kv::cachegen_decode(ctx, stream, "(fuzz)", 1 << 12);
    if (first.is_text) return;
    std::vector<kv::KvCache<kv::F32>> caches(static_cast<std::size_t>(2 * first.layers),
                                             {first.kv_heads, first.head_dim});
    std::vector<kv::KvCacheBase*> whole, parts;
    for (std::size_t l = 0; l < caches.size(); ++l) (l % 2 == 0 ? whole : parts).push_back(&caches[l]);
    const auto load = [&](std::span<const std::uint8_t> bytes, const std::vector<kv::KvCacheBase*>& to) {
      std::size_t read = 0;
      try {
        accepts([&] { read = kv::cachegen_load(ctx, bytes, to, "(fuzz)"); });
      } catch (const shape_error&) {  // later chunks may have other shapes
      }
      TESSERA_FUZZ_LAW(read <= bytes.size());
      for (const auto* one : to) TESSERA_FUZZ_LAW(one->next_position() == to[0]->next_position());
    };
    load(input, whole);
    for (const auto cut : {input.size() / 2, input.size() - stream.size(), input.size(), input.size()})
      load(input.first(cut), parts);
    for (std::size_t l = 0; l < whole.size(); ++l) {
      const kv::KvCacheBase &a = *whole[l], &b = *parts[l];
      TESSERA_FUZZ_LAW(a.next_position() == b.next_position() && a.tokens() == b.tokens());
      for (Index h = 0; h < a.kv_heads(); ++h)
        for (const auto part : {kv::KvPart::keys, kv::KvPart::values}) {
          if (a.size(h) == 0) continue;
          Index stride = 0;
          const float* const x = a.tile(part, h, 0, a.size(h), nullptr, stride, nullptr);
          TESSERA_FUZZ_LAW(
              std::equal(x, x + a.size(h) * stride, b.tile(part, h, 0, a.size(h), nullptr, stride, nullptr)));
        }
    }
  });
}

}  // namespace tessera::fuzz
