/// Several requests, each with a cache of its own, decoded together.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kv/any.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// The request of slot `from` is in slot `to` now.
struct SlotMove {
  Index from, to;
  bool operator==(const SlotMove&) const = default;
};

/// Frees the caches of requests that are finished and moves those at the end into the holes: slots 0 to n - 1 are then
/// in use. As many moves as there are holes below n, the fewest that do; no token is copied. Returns them, so that what
/// belongs to the requests can follow. Throws shape_error for a slot there is not.
/// J. Yao et al., "Flover: A Temporal Fusion Framework for Efficient Autoregressive Model Parallel Inference" (2023),
/// §III.
inline std::vector<SlotMove> reorder(std::vector<AnyKvCache>& caches, std::span<const Index> finished) {
  std::vector<bool> done(caches.size(), false);
  for (const Index slot : finished) {
    if (slot < 0 || slot >= static_cast<Index>(caches.size()))
      throw shape_error(
          tessera::detail::concat("tessera: reorder: slot ", slot, " is finished; there are ", caches.size()));
    done[static_cast<std::size_t>(slot)] = true;
  }
  std::vector<SlotMove> moves;
  std::size_t end = caches.size();
  for (std::size_t hole = 0;; ++hole) {
    while (end > 0 && done[end - 1]) --end;
    while (hole < end && !done[hole]) ++hole;
    if (hole >= end) break;
    caches[hole] = std::move(caches[--end]);
    done[hole] = false;
    moves.push_back({static_cast<Index>(end), static_cast<Index>(hole)});
  }
  caches.erase(caches.begin() + static_cast<std::ptrdiff_t>(end), caches.end());
  return moves;
}

/// Slot i becomes what slot order[i] was, as when beams are chosen: caches that are named several times are forked,
/// those that are not are freed. Throws shape_error for a slot there is not.
inline void gather(std::vector<AnyKvCache>& caches, std::span<const Index> order) {
  std::vector<Index> uses(caches.size(), 0);
  for (const Index slot : order) {
    if (slot < 0 || slot >= static_cast<Index>(caches.size()))
      throw shape_error(tessera::detail::concat("tessera: gather of slot ", slot, "; there are ", caches.size()));
    ++uses[static_cast<std::size_t>(slot)];
  }
  std::vector<AnyKvCache> chosen;
  chosen.reserve(order.size());
  for (const Index slot : order) {  // forks first: if one fails, all is as it was
    const auto from = static_cast<std::size_t>(slot);
    if (--uses[from] > 0) chosen.push_back(caches[from].fork());
  }
  std::vector<AnyKvCache> next;
  next.reserve(order.size());
  for (const Index slot : order) ++uses[static_cast<std::size_t>(slot)];
  for (std::size_t i = 0, forked = 0; i < order.size(); ++i) {
    const auto from = static_cast<std::size_t>(order[i]);
    next.push_back(--uses[from] > 0 ? std::move(chosen[forked++]) : std::move(caches[from]));
  }
  caches = std::move(next);
}

/// One step of decoding for requests of any lengths: to the cache of each its token is appended, and its query attends
/// over it. Has the bits of doing so one after the other. Projections of all tokens of the step are the caller's, one
/// product with each weight for the whole batch, so that weights are read once a step.
/// Throws shape_error, before anything is appended. Flover, as above.
inline void ragged_batch_decode(Context& ctx, View<const float, 3> Q,  // (batch, heads, d)
                                View<const float, 3> K,                // (batch, kv_heads, d)
                                View<const float, 3> V,                // (batch, kv_heads, d)
                                std::span<AnyKvCache> caches,          // (batch)
                                View<float, 3> out,                    // (batch, heads, d)
                                std::optional<double> scale = {}) {
  const auto text = [](const auto& view) {
    return tessera::detail::concat('(', view.extent(0), ", ", view.extent(1), ", ", view.extent(2), ')');
  };
  const auto batch = static_cast<Index>(caches.size());
  if (Q.extent(0) != batch || K.extent(0) != batch || K.extents() != V.extents() || Q.extent(2) != K.extent(2) ||
      out.extents() != Q.extents() || (K.extent(1) == 0 ? Q.extent(1) != 0 : Q.extent(1) % K.extent(1) != 0))
    throw shape_error(tessera::detail::concat(
        "tessera: ragged_batch_decode of queries ", text(Q), ", keys ", text(K), " and values ", text(V), " into ",
        text(out), " with ", batch, " caches: expected queries and result (", batch, ", heads, d), keys and values (",
        batch, ", kv_heads, d), heads a multiple of kv_heads"));
  for (Index b = 0; b < batch; ++b) {
    const AnyKvCache& cache = caches[static_cast<std::size_t>(b)];
    if (cache.kv_heads() != K.extent(1) || cache.head_dim() != K.extent(2))
      throw shape_error(tessera::detail::concat("tessera: ragged_batch_decode of keys ", text(K), ": cache ", b,
                                                " has ", cache.kv_heads(), " kv heads of ", cache.head_dim()));
  }
  tessera::detail::check_contiguous("queries, keys, values, result", Q, K, V, out);
  const auto one = [](auto view, Index b) {  // (heads, d) as (heads, 1, d)
    const auto row = view[b];
    using T = std::remove_pointer_t<decltype(row.data())>;
    return View<T, 3>(row.data(), {row.extent(0), 1, row.extent(1)}, {row.stride(0), row.extent(1), row.stride(1)});
  };
  for_each_chunk(ctx, batch, 1, [&](Context& worker, Index begin, Index end) {
    for (Index b = begin; b < end; ++b) {
      AnyKvCache& cache = caches[static_cast<std::size_t>(b)];
      cache.append(worker, one(K, b), one(V, b));
      cache.attend(worker, one(Q, b), one(out, b), {.scale = scale, .causal = true});
    }
  });
}

}  // namespace tessera::inline TESSERA_ABI::kv
