/// Masks and score-mods as an attention kernel calls them.
#pragma once

#include <array>
#include <cstddef>
#include <limits>

#include <tessera/attention/score_mod.hpp>
#include <tessera/core/context.hpp>
#include <tessera/kernels/attention/draws/list.hpp>
#include <tessera/kernels/map/list.hpp>

namespace tessera::inline TESSERA_ABI {

/// Where tokens stand if not at their index: of(state, kv_head, token), ascending in token; `first` is query 0's place.
struct TokenPositions {
  const void* state = nullptr;
  Index (*of)(const void* state, Index kv_head, Index token) noexcept = nullptr;
  Index first = 0;
};

namespace detail {

/// A run of scores; distance = shift + sign · place.
template <class M, class T>
struct LanePass {
  const M* mod;
  T sign, shift;
  template <class V>
  TESSERA_INLINE void operator()(V& score, const V& row, const V& place) const {
    score = mod->lanes(score, row, fma(V(sign), place, V(shift)));
  }
};

/// Mods as a kernel calls them. Lives while the kernel runs.
template <class T, class Mods>
class ScoreHookState {
 public:
  explicit ScoreHookState(const Mods& mods, TokenPositions tokens = {}, Index batch = 0)
      : mods_(&mods), tokens_(tokens), batch_(batch) {}

  ScoreHook<T> hook(const Context& ctx) {
    ScoreHook<T> made;
    made.state = this;
    made.always = Mods::template modifies<T>;
    if constexpr (Mods::masks)
      made.meets = [](const void* self, const ScoreTile<T>& tile) noexcept { return of(self).meets(tile); };
    if constexpr (Mods::template in_lanes<T>) {
      ctx_ = &ctx;
      mods_->for_each([&]<class M>(const M&) {  // what it throws is thrown here, not in a kernel
        if constexpr (ScoreMod<M, T>) MapKernels::select(ctx, LaneArgs<M>{});
      });
      made.change = [](const void* self, const ScoreTile<T>& tile) noexcept {
        if constexpr (Mods::template modifies<T>) of(self).in_lanes(tile);
        if constexpr (Mods::masks) {
          if (tile.seen == Seen::some)
            of(self).each(tile, [](const Mods& all, T x, const ScorePosition& at) {
              return all.sees(at) ? x : -std::numeric_limits<T>::infinity();
            });
        }
      };
    } else {
      made.change = [](const void* self, const ScoreTile<T>& tile) noexcept {
        of(self).each(tile, [](const Mods& all, T x, const ScorePosition& at) { return all(x, at); });
      };
    }
    if constexpr (Mods::template weighs<T>) {
      draw_ = DrawKernels::select(ctx, DrawArgs{}).run;
      made.weigh = [](const void* self, const ScoreTile<T>& tile) noexcept { of(self).weigh(tile); };
    }
    return made;
  }

 private:
  template <class M>
  using LaneArgs = MapArgs<LanePass<M, T>, T, const T, const T>;
  static constexpr auto most = static_cast<std::size_t>(AttentionArgs<T>::block_rows);
  static_assert(AttentionArgs<T>::block_rows >= AttentionArgs<T>::tile_tokens);

  static const ScoreHookState& of(const void* self) { return *static_cast<const ScoreHookState*>(self); }
  Index place(Index kv_head, Index token) const {
    return tokens_.of == nullptr ? token : tokens_.of(tokens_.state, kv_head, token);
  }
  Index first(const ScoreTile<T>& tile) const { return tokens_.of == nullptr ? tile.offset : tokens_.first; }

  Seen meets(const ScoreTile<T>& tile) const {
    ScoreBlock b;
    const Index last = tile.row + tile.rows - 1;
    b.query = tile.row / tile.group;
    b.query_end = last / tile.group + 1;
    const bool whole = b.query_end - b.query > 1;  // then every head of the group may be among the rows
    b.head = tile.kv_head * tile.group + (whole ? 0 : tile.row % tile.group);
    b.head_end = tile.kv_head * tile.group + (whole ? tile.group : last % tile.group + 1);
    b.key = place(tile.kv_head, tile.begin);
    b.key_end = place(tile.kv_head, tile.begin + tile.count - 1) + 1;
    b.position = first(tile) + b.query;
    b.batch = batch_;
    return mods_->block(b);
  }

  ScorePosition row_of(const ScoreTile<T>& tile, Index r) const {
    const Index query = (tile.row + r) / tile.group;
    return {tile.kv_head * tile.group + (tile.row + r) % tile.group, query, 0, first(tile) + query, batch_};
  }

  void weigh(const ScoreTile<T>& tile) const {
    const auto key = [&](Index j) { return place(tile.kv_head, tile.begin + j); };
    for (Index r = 0; r < tile.rows; ++r)
      mods_->weigh_row(tile.scores + r * tile.row_stride, tile.token_stride, tile.count, row_of(tile, r), key, draw_);
  }

  template <class F>
  void each(const ScoreTile<T>& tile, const F& f) const {
    std::array<ScorePosition, most> at;
    for (Index r = 0; r < tile.rows; ++r) at[static_cast<std::size_t>(r)] = row_of(tile, r);
    for (Index j = 0; j < tile.count; ++j) {
      const Index key = place(tile.kv_head, tile.begin + j);
      T* const score = tile.scores + j * tile.token_stride;
      for (Index r = 0; r < tile.rows; ++r) {
        ScorePosition& where = at[static_cast<std::size_t>(r)];
        where.key = key;
        score[r * tile.row_stride] = f(*mods_, score[r * tile.row_stride], where);
      }
    }
  }

  /// Runs of scores next to each other, of one key or of one row, through map's kernels. Places count from `origin`, so
  /// that small distances are exact where places are not.
  void in_lanes(const ScoreTile<T>& tile) const {
    std::array<ScorePosition, most> at;
    std::array<T, most> row, place_of_other;
    const bool along_rows = tile.row_stride == 1;
    const Index runs = along_rows ? tile.count : tile.rows, length = along_rows ? tile.rows : tile.count;
    for (std::size_t r = 0; r < static_cast<std::size_t>(tile.rows); ++r) at[r] = row_of(tile, static_cast<Index>(r));
    const Index origin = at[0].position;
    for (std::size_t x = 0; x < static_cast<std::size_t>(length); ++x)
      place_of_other[x] = static_cast<T>(
          (along_rows ? at[x].position : place(tile.kv_head, tile.begin + static_cast<Index>(x))) - origin);
    mods_->for_each([&]<class M>(const M& mod) {
      if constexpr (ScoreMod<M, T>) {
        LanePass<M, T> pass{&mod, along_rows ? T(-1) : T(1), 0};
        LaneArgs<M> args{{}, &pass, {tile.scores, row.data(), place_of_other.data()}, {1, 1, 1}};
        const auto run = MapKernels::select(*ctx_, args).run;
        for (Index i = 0; i < runs; ++i) {
          const auto fixed = static_cast<std::size_t>(i);
          if (!along_rows || i == 0)
            for (std::size_t x = 0; x < static_cast<std::size_t>(length); ++x)
              row[x] = static_cast<T>(mod.row(at[along_rows ? x : fixed].head));
          pass.shift =
              static_cast<T>(along_rows ? place(tile.kv_head, tile.begin + i) - origin : origin - at[fixed].position);
          args.data[0] = tile.scores + i * (along_rows ? tile.token_stride : tile.row_stride);
          run(args, {0, length, 0});
        }
      }
    });
  }

  const Mods* mods_;
  TokenPositions tokens_;
  Index batch_;
  const Context* ctx_ = nullptr;
  DrawRun draw_ = nullptr;
};

}  // namespace detail

}  // namespace tessera::inline TESSERA_ABI
