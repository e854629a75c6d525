/// Drops what was not selected and gives its memory back.
#pragma once

#include <tessera/core/context.hpp>
#include <tessera/kv/cache_base.hpp>
#include <tessera/kv/stage.hpp>

namespace tessera::inline TESSERA_ABI::kv {

struct Evict {
  static constexpr Facts needs = Facts::selection, too_late_after = Facts::none, gives = Facts::effect,
                         ends = Facts::scores | Facts::guards | Facts::selection;
  static constexpr bool preserves_positions = true;

  void operator()(const StageContext& context) const {
    for_each_chunk(context.ctx, context.cache.kv_heads(), 1, [&](Context&, Index begin, Index end) {
      for (Index h = begin; h < end; ++h) {
        HeadDraft& draft = context.heads[static_cast<std::size_t>(h)];
        context.cache.retain(h, draft.kept);
        draft.reset(context.cache.size(h));
      }
    });
  }
};

inline Evict evict() { return {}; }

}  // namespace tessera::inline TESSERA_ABI::kv
