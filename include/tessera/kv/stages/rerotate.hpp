/// Kept tokens close up: new positions, and rotary embeddings that fit them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/kv/cache_base.hpp>
#include <tessera/kv/stage.hpp>
#include <tessera/nn/rope.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// After an eviction or a merge, tokens take the places that end at the size of the longest head: of n tokens the last
/// n below it, so that a head's are contiguous and every head's last token is next to the query to come. Keys, which
/// were rotated by `table` at the positions they had, are turned back by the difference. next_position() becomes the
/// longest size; queries after that are rotated there. G. Xiao et al., "Efficient Streaming Language Models with
/// Attention Sinks" (2024), §3.2, count positions so. Keys and values of heads whose positions change are coded anew:
/// 12·d bytes a token of a head while it runs.
struct Rerotate {
  const nn::RopeTable<float>* table;  // must outlive this
  static constexpr Facts needs = Facts::effect, too_late_after = Facts::scores | Facts::guards | Facts::selection,
                         gives = Facts::effect, ends = Facts::none;
  static constexpr bool preserves_positions = false;

  /// Before the chain has run: throws shape_error if there is no table, or it has other channels than the keys, or no
  /// position but 0, or less than a 4096th of those there are.
  void check(const StageContext& context) const {
    if (table == nullptr) throw shape_error("tessera: rerotate without a table of rotations; expected one");
    const Index d = context.cache.head_dim();
    if (table->d() != d || table->positions() < 2)
      throw shape_error(tessera::detail::concat("tessera: rerotate of keys of ", d, " channels with a table of ",
                                                table->d(), " channels and ", table->positions(),
                                                " positions; expected as many channels and at least 2 positions"));
    constexpr Index most_turns = 4096;
    if (context.cache.next_position() / (table->positions() - 1) >= most_turns)
      throw shape_error(tessera::detail::concat("tessera: rerotate of keys at positions up to ",
                                                context.cache.next_position(), " with a table of ", table->positions(),
                                                " positions; expected more than a ", most_turns, "th"));
  }
  /// Reports of `compress` say how far attention moved before keys are turned. Tokens that move farther than the table
  /// goes are turned more than once.
  void operator()(const StageContext& context) const {
    check(context);
    if (context.before_moving != nullptr) (*context.before_moving)();
    KvCacheBase& cache = context.cache;
    Index end = 0;
    for (Index h = 0; h < cache.kv_heads(); ++h) end = std::max(end, cache.size(h));
    const auto unpack = KvCacheBase::unpack_kernel(context.ctx);
    context.for_each_head([&](Context& ctx, Index h) { turn(ctx, cache, unpack, h, end); });
    cache.move_end(end);
  }

 private:
  /// How far back token j goes; less than 0 where a short head's early tokens go ahead. Ascending in j.
  static Index moved(const KvCacheBase& cache, Index h, Index j, Index end) {
    return cache.position(h, j) - (end - cache.size(h) + j);
  }
  void turn(Context& ctx, KvCacheBase& cache, Unpack unpack, Index h, Index end) const {
    const Index n = cache.size(h), d = cache.head_dim();
    std::vector<Index> by, places;
    bool still = true;
    for (Index j = 0; j < n; ++j) {
      by.push_back(moved(cache, h, j, end));
      places.push_back(end - n + j);
      still = still && by.back() == 0;
    }
    if (still) return;
    Workspace::Scope scope(ctx.workspace);
    const MatrixView<float> keys(scope.take<float>(n * d), n, d), values(scope.take<float>(n * d), n, d);
    cache.copy_rows(KvPart::keys, h, 0, n, keys.data(), unpack);
    cache.copy_rows(KvPart::values, h, 0, n, values.data(), unpack);
    const Index ahead = std::lower_bound(by.begin(), by.end(), 0) - by.begin();
    for (Index j = 0; j < ahead; ++j) by[static_cast<std::size_t>(j)] *= -1;
    const Index farthest = std::max(by.front(), by.back()), most = table->positions() - 1;
    std::vector<Index> turns(by.size());
    const auto split = static_cast<std::size_t>(ahead);
    for (Index done = 0; done < farthest; done += most) {
      std::transform(by.begin(), by.end(), turns.begin(),
                     [&](Index far) { return std::clamp<Index>(far - done, 0, most); });
      const auto distances = std::span<const Index>(turns);
      nn::rope(ctx, *table, keys.slice(0, 0, ahead), distances.first(split));
      nn::rope_backward(ctx, *table, keys.slice(0, ahead, n - ahead), distances.subspan(split));
    }
    std::vector<float> counts;
    for (Index j = 0; cache.counted(h) && j < n; ++j) counts.push_back(std::exp(cache.count_bias(h, j)));
    cache.rewrite(h, keys, values, places, counts);
  }
};

/// `… | evict() | rerotate(table)`.
inline Rerotate rerotate(const nn::RopeTable<float>& table) { return {&table}; }
Rerotate rerotate(const nn::RopeTable<float>&& table) = delete;

}  // namespace tessera::inline TESSERA_ABI::kv
