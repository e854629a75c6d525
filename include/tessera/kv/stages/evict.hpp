/// Drops what was not selected and gives its memory back.
#pragma once

#include <cstdint>
#include <limits>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/kv/cache_base.hpp>
#include <tessera/kv/stage.hpp>

namespace tessera::inline TESSERA_ABI::kv {

namespace detail {
inline void check_room(const char* what, Index room) {
  constexpr Index most = std::numeric_limits<std::int32_t>::max();
  if (room < 0 || room > most)
    throw unsupported_error(
        tessera::detail::concat("tessera: ", what, '(', room, "): expected room for 0 to ", most, " tokens"));
}
}  // namespace detail

/// `room`: tokens that a head may take before its memory grows; held, and counted, until then.
struct Evict : EffectStage {
  Index room = 0;

  void check() const { detail::check_room("evict", room); }
  void check(const StageContext&) const { check(); }
  void operator()(const StageContext& context) const {
    context.for_each_head([&](Context&, Index h) {
      HeadDraft& draft = context.heads[static_cast<std::size_t>(h)];
      context.cache.retain(h, draft.kept, room);
      draft.reset(context.cache.size(h));
    });
  }
};

/// `every(64, score(…) | keep_at_most(8192) | evict(64))`: with room for what comes until the next time nothing is
/// allocated, and what stays is moved once. Throws unsupported_error unless room >= 0.
inline Evict evict(Index room = 0) { return detail::checked(Evict{{}, room}); }

}  // namespace tessera::inline TESSERA_ABI::kv
