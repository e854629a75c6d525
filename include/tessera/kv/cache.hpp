/// A KV cache: storage × codec; policies are applied by compress().
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <tessera/kv/cache_base.hpp>
#include <tessera/kv/codecs/plain.hpp>
#include <tessera/kv/observe.hpp>

namespace tessera::inline TESSERA_ABI::kv {

namespace detail {
/// (count, have) with `stride` between rows as (count, width) in `out`, zeros after what there is. `out` may be `rows`.
inline const float* pad_rows(const float* rows, Index count, Index have, Index& stride, float* out, Index width) {
  for (Index t = count; t-- > 0;) {  // rows move up: the last first
    std::copy_backward(rows + t * stride, rows + t * stride + have, out + t * width + have);
    std::fill_n(out + t * width + have, width - have, 0.0f);
  }
  stride = width;
  return out;
}
}  // namespace detail

/// Keys and values of one layer, a length of its own a kv head, held by `C` in arrays of `Storage`. What it does is
/// KvCacheBase's; `AnyKvCache` holds one whose codec is chosen at run time.
template <Codec C = F32, class Storage = Contiguous>
class KvCache final : public KvCacheBase {
 public:
  /// Throws shape_error unless there are 1 to 2^24 heads and as many channels, and what the codec throws.
  KvCache(Index kv_heads, Index head_dim, C codec = {}) : KvCacheBase(kv_heads, head_dim) {
    detail::check_codec(codec, kv_heads);
    for (Index h = 0; h < kv_heads; ++h)
      heads_.push_back({detail::row_store<KvPart::keys, Storage>(codec, head_dim, h),
                        detail::row_store<KvPart::values, Storage>(codec, head_dim, h),
                        {},
                        {}});
  }

  std::unique_ptr<KvCacheBase> clone() const override { return std::make_unique<KvCache>(*this); }
  std::unique_ptr<KvCacheBase> fork() override {
    if constexpr (requires { typename Storage::Fork; }) {
      const typename Storage::Fork sharing;
      return clone();
    }
    return clone();
  }
  std::string_view codec() const override { return C::name; }
  Index size(Index h) const override { return head(h).keys.size(); }
  Index position(Index h, Index j) const override {
    const auto& list = head(h).positions;
    return list.size() == 0 ? j : Index{list[j]};
  }
  Index tokens_up_to(Index h, Index last) const override {
    const Head& one = head(h);
    if (one.positions.size() == 0) return std::clamp<Index>(last + 1, 0, one.keys.size());
    const std::int32_t* const list = one.positions.data();
    return std::upper_bound(list, list + one.positions.size(), last,
                            [](Index value, std::int32_t entry) { return value < entry; }) -
           list;
  }
  const float* count_biases(Index h) const noexcept override {
    return head(h).biases.size() > 0 ? head(h).biases.data() : nullptr;
  }
  std::size_t bytes() const override {
    std::size_t total = tracked_bytes();
    for (const auto& one : heads_)
      total += one.keys.bytes() + one.values.bytes() + one.positions.bytes() + one.biases.bytes();
    return total;
  }
  void check_demotes() const override {
    if constexpr (!demotable)
      throw unsupported_error(tessera::detail::concat("tessera: demote: a cache by ", C::name,
                                                      ", which holds all its tokens in one width"));
  }
  void reserve(Index n) override {
    constexpr Index most = std::numeric_limits<std::int32_t>::max();
    if (n < 0 || n > most)
      throw shape_error(tessera::detail::concat("tessera: reserve(", n, "): a kv head holds 0 to ", most, " tokens"));
    for (auto& one : heads_) {
      one.keys.reserve(n);
      one.values.reserve(n);
    }
  }
  const float* tile(KvPart part, Index h, Index begin, Index count, float* scratch, Index& stride,
                    Unpack unpack) const noexcept override {
    const float* rows = nullptr;
    of(head(h), part, [&](const auto& store) { rows = store.tile(begin, count, scratch, stride, unpack); });
    return rows;
  }
  TokenCodes codes(KvPart part, Index h, Index begin) const noexcept override {
    return of(head(h), part, [&](const auto& store) {
      if constexpr (requires { store.codes(begin); })
        return store.codes(begin);
      else
        return TokenCodes{};
    });
  }

  Index latent_tokens([[maybe_unused]] Index h) const noexcept override {
    if constexpr (latent_keys) return head(h).keys.latent();
    if constexpr (latent_values) return head(h).values.latent();
    return 0;
  }
  Index latent_width(KvPart part) const noexcept override {
    Index most = 0;
    for (const auto& one : heads_)
      of(one, part, [&](const auto& store) {
        if constexpr (LatentRowStore<std::remove_cvref_t<decltype(store)>>) most = std::max(most, store.width());
      });
    return most;
  }
  const float* latent_tile(KvPart part, Index h, Index begin, Index count, float* scratch, Index& stride, Index width,
                           Unpack unpack) const noexcept override {
    const float* rows = nullptr;
    of(head(h), part, [&](const auto& store) {
      if constexpr (LatentRowStore<std::remove_cvref_t<decltype(store)>>) {
        rows = store.latent_tile(begin, count, scratch, stride, unpack);
        if (store.width() < width) rows = detail::pad_rows(rows, count, store.width(), stride, scratch, width);
      }
    });
    return rows;
  }
  TokenCodes latent_codes(KvPart part, Index h, Index begin, Index width) const noexcept override {
    return of(head(h), part, [&](const auto& store) {
      if constexpr (LatentRowStore<std::remove_cvref_t<decltype(store)>>)
        return store.width() == width ? store.latent_codes(begin) : TokenCodes{};
      else
        return TokenCodes{};
    });
  }
  void absorb(Context& ctx, Index h, MatrixView<const float> queries, MatrixView<float> out) const override {
    if constexpr (latent_keys) head(h).keys.absorb(ctx, queries, out.slice(1, 0, head(h).keys.width()));
  }
  void expand(Context& ctx, Index h, MatrixView<const float> results, MatrixView<float> out) const override {
    if constexpr (latent_values) head(h).values.expand(ctx, results.slice(1, 0, head(h).values.width()), out);
  }

 protected:
  void append_head(Index h, MatrixView<const float> K, MatrixView<const float> V) override {
    Head& one = head(h);
    const Index before = one.keys.size(), t = K.rows();
    if (one.positions.size() > 0 || before != next_position()) {
      list_positions(one);
      one.positions.resize(before + t);
      for (Index i = 0; i < t; ++i) one.positions[before + i] = static_cast<std::int32_t>(next_position() + i);
    }
    if (one.biases.size() > 0) {
      one.biases.resize(before + t);
      for (Index i = 0; i < t; ++i) one.biases[before + i] = 0;
    }
    one.keys.append(K.data(), t, K.row_stride());
    one.values.append(V.data(), t, V.row_stride());
  }
  void retain_head(Index h, std::span<const Index> kept, Index spare) override {
    Head& one = head(h);
    const bool prefix = kept.empty() || kept.back() + 1 == static_cast<Index>(kept.size());
    if (!prefix) list_positions(one);
    retain_in(one.keys, kept, spare);
    retain_in(one.values, kept, spare);
    if (one.positions.size() > 0) retain_rows(one.positions, 1, kept, spare);
    if (one.biases.size() > 0) retain_rows(one.biases, 1, kept, spare);
    drop_idle(one.biases);
  }
  void demote_head([[maybe_unused]] Index h, [[maybe_unused]] std::span<const Index> kept) override {
    if constexpr (demotable) {
      try {
        head(h).keys.demote(kept);
        head(h).values.demote(kept);
      } catch (const std::bad_alloc&) {
        shorten(h, 0);
        throw;
      }
    }
  }
  void rewrite_head(Index h, MatrixView<const float> K, MatrixView<const float> V, std::span<const Index> positions,
                    std::span<const float> counts, Index spare) override {
    Head& one = head(h);
    const Index n = K.rows();
    const auto refill = [n, spare](auto& rows, MatrixView<const float> from) {
      retain_in(rows, {}, n + spare);
      rows.reserve(n + spare);
      rows.append(from.data(), n, from.row_stride());
    };
    refill(one.keys, K);
    refill(one.values, V);
    one.positions.resize(0);
    if (n > 0 && positions.back() >= n) {  // they ascend: otherwise token j has position j
      one.positions.resize(n);
      for (Index j = 0; j < n; ++j)
        one.positions[j] = static_cast<std::int32_t>(positions[static_cast<std::size_t>(j)]);
    }
    one.positions.fit(one.positions.size() > 0 ? spare : 0);
    if (!counts.empty()) one.biases.reserve(n + spare);
    one.biases.resize(counts.empty() ? 0 : n);
    for (Index j = 0; j < one.biases.size(); ++j) one.biases[j] = std::log(counts[static_cast<std::size_t>(j)]);
    drop_idle(one.biases);
  }
  void truncate_head(Index h, Index n) override {
    Head& one = head(h);
    if (one.positions.size() > n) truncate_rows(one.positions, 1, n);
    if (one.biases.size() > n) truncate_rows(one.biases, 1, n);
    if (one.keys.size() > n) one.keys.truncate(n);
    if (one.values.size() > n) one.values.truncate(n);
  }

 private:
  using KeyStore = decltype(detail::row_store<KvPart::keys, Storage>(std::declval<const C&>(), Index{}, Index{}));
  using ValueStore = decltype(detail::row_store<KvPart::values, Storage>(std::declval<const C&>(), Index{}, Index{}));
  static constexpr bool demotable = requires(KeyStore & keys, ValueStore& values, std::span<const Index> kept) {
    keys.demote(kept);
    values.demote(kept);
  };
  static constexpr bool latent_keys = LatentRowStore<KeyStore>, latent_values = LatentRowStore<ValueStore>;

  struct Head {
    KeyStore keys;
    ValueStore values;
    typename Storage::template Array<std::int32_t> positions;  // (tokens); none while token j has position j
    typename Storage::template Array<float> biases;            // (tokens); none while each stands for one
  };
  Head& head(Index h) { return heads_[static_cast<std::size_t>(h)]; }
  const Head& head(Index h) const { return heads_[static_cast<std::size_t>(h)]; }

  template <class F>
  static auto of(const Head& one, KvPart part, const F& f) {
    if (part == KvPart::keys) return f(one.keys);
    return f(one.values);
  }
  template <class Store>
  static void retain_in(Store& store, std::span<const Index> kept, Index spare) {
    if constexpr (requires { store.retain(kept, spare); })
      store.retain(kept, spare);
    else
      store.retain(kept);
  }
  static void list_positions(Head& one) {
    if (one.positions.size() > 0) return;
    one.positions.resize(one.keys.size());
    for (Index j = 0; j < one.keys.size(); ++j) one.positions[j] = static_cast<std::int32_t>(j);
  }

  template <class Array>
  static void drop_idle(Array& biases) {
    for (Index j = 0; j < biases.size(); ++j)
      if (biases[j] != 0) return;
    biases.resize(0);
    biases.fit();
  }

  std::vector<Head> heads_;
};

}  // namespace tessera::inline TESSERA_ABI::kv
