/// What was not selected stays with fewer bits.
#pragma once

#include <tessera/core/context.hpp>
#include <tessera/kv/cache_base.hpp>
#include <tessera/kv/stage.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// In the place of evict(): tokens that were not selected drop to their codec's fewer bits (Zip: 2 instead of 4). Those
/// in an exact window stay as they are until they leave it. What codes tokens anew (a merge, rerotate) gives all of
/// them the codec's more bits again. Throws unsupported_error where a codec has one width.
struct Demote : EffectStage {
  void check(const StageContext& context) const { context.cache.check_demotes(); }
  void operator()(const StageContext& context) const {
    context.for_each_head([&](Context&, Index h) {
      HeadDraft& draft = context.heads[static_cast<std::size_t>(h)];
      context.cache.demote(h, draft.kept);
      draft.reset(context.cache.size(h));
    });
  }
};

/// `score(NormalizedAttention{}) | keep(0.6) | demote()`.
inline Demote demote() { return {}; }

}  // namespace tessera::inline TESSERA_ABI::kv
