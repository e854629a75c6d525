/// Attention over keys that are rotated as they are read: the rotary embedding fused into the tiles.
#pragma once

#include <algorithm>
#include <cstring>

#include <tessera/attention/attention.hpp>
#include <tessera/nn/elementwise.hpp>
#include <tessera/nn/rope.hpp>

namespace tessera::inline TESSERA_ABI {

/// Keys at positions first, first + 1, ..., turned by a table's angles a tile at a time; memory holds them unturned.
template <class T>
class RotatedTokens {
 public:
  /// Both must outlive this. Throws shape_error unless the table has the keys' channels and positions.
  RotatedTokens(Context& ctx, View<const T, 3> keys,  // (kv_heads, m, d)
                const nn::RopeTable<T>& table, Index first = 0)
      : keys_(keys), table_(&table), first_(first) {
    detail::check_contiguous("keys", keys);
    if (table.d() != keys.extent(2) || first < 0 || keys.extent(1) > table.positions() - first)
      throw shape_error(detail::concat("tessera: keys (", keys.extent(0), ", ", keys.extent(1), ", ", keys.extent(2),
                                       ") rotated from position ", first, " by a table of ", table.positions(),
                                       " positions and ", table.d(), " channels"));
    run_ = RopeKernels::select(ctx, args(nullptr, 0, 0)).run;
  }
  std::array<Index, 3> extents() const { return keys_.extents(); }
  TileSource<T> source() const { return {this, &tile}; }

 private:
  RopeArgs<T> args(T* rows, Index count, Index begin) const {
    RopeArgs<T> turn;
    turn.X = MatrixView<T>(rows, count, table_->d());
    turn.heads = 1;
    turn.d = table_->d();
    turn.cos = table_->cos();
    turn.sin = table_->sin();
    turn.offset = first_ + begin;
    turn.period = std::max<Index>(count, 1);
    return turn;
  }
  static const T* tile(const void* state, Index head, Index begin, Index count, T* scratch, Index& stride) noexcept {
    const auto& self = *static_cast<const RotatedTokens*>(state);
    const T* const from = self.keys_.data() + head * self.keys_.stride(0) + begin * self.keys_.stride(1);
    stride = self.table_->d();
    for (Index j = 0; j < count; ++j)
      std::memcpy(scratch + j * stride, from + j * self.keys_.stride(1), static_cast<std::size_t>(stride) * sizeof(T));
    self.run_(self.args(scratch, count, begin), {0, count, 0});
    return scratch;
  }

  View<const T, 3> keys_;
  const nn::RopeTable<T>* table_;
  Index first_;
  void (*run_)(const RopeArgs<T>&, RowRange) noexcept = nullptr;
};

/// Attention with rotary embeddings of queries and keys, the last query at the last key's position; keys stay as they
/// are in memory and are turned as often as blocks of 64 queries meet them. With score_mods(Alibi(heads)) both position
/// schemes act together (F. Li, "The Nature of Mathematical Modeling and Probabilistic Optimization Engineering in
/// Generative AI" (2024), §4). Throws shape_error. O(heads·n·d) workspace.
template <class T, class Values, class... Mods>
void rope_attention(Context& ctx, View<const std::type_identity_t<T>, 3> Q,               // (heads, n, d)
                    View<const std::type_identity_t<T>, 3> K,                             // (kv_heads, m, d)
                    const Values& V,                                                      // (kv_heads, m, dv)
                    const nn::RopeTable<std::type_identity_t<T>>& table, View<T, 3> out,  // (heads, n, dv)
                    const ScoreMods<Mods...>& mods, AttentionOptions options = {},
                    AttentionStatistics<std::type_identity_t<T>> also = {}, Index first = 0) {
  const RotatedTokens<T> keys(ctx, K, table, first);
  const Index heads = Q.extent(0), n = Q.extent(1), d = Q.extent(2), position = first + K.extent(1) - n;
  if (position < 0 || d != table.d())
    throw shape_error(detail::concat("tessera: rope_attention of queries (", heads, ", ", n, ", ", d, ") over ",
                                     K.extent(1), " keys from position ", first, " with a table of ", table.d(),
                                     " channels: expected its channels and no query before position 0"));
  Workspace::Scope scope(ctx.workspace);
  const View<T, 3> turned(scope.take<T>(heads * n * d), {heads, n, d});
  for (Index h = 0; h < heads; ++h) nn::copy<T>(ctx, Q[h], turned[h]);
  nn::rope<T>(ctx, table, MatrixView<T>(turned.data(), heads * n, d), position, n);
  attention<T>(ctx, turned, keys, V, out, mods, options, also);
}

}  // namespace tessera::inline TESSERA_ABI
