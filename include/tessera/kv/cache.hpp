/// A KV cache: storage × codec; policies are applied by compress().
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <tessera/kv/cache_base.hpp>
#include <tessera/kv/codecs/plain.hpp>

namespace tessera::inline TESSERA_ABI::kv {

template <Codec C = F32, class Storage = Contiguous>
class KvCache final : public KvCacheBase {
 public:
  /// Throws shape_error unless there is a head and a channel.
  KvCache(Index kv_heads, Index head_dim, C codec = {}) : KvCacheBase(kv_heads, head_dim) {
    for (Index h = 0; h < kv_heads; ++h)
      heads_.push_back({codec.template keys<Storage>(head_dim), codec.template values<Storage>(head_dim), {}, {}});
  }

  std::unique_ptr<KvCacheBase> clone() const override { return std::make_unique<KvCache>(*this); }
  std::string_view codec() const override { return C::name; }
  Index size(Index h) const override { return head(h).keys.size(); }
  Index position(Index h, Index j) const override {
    const auto& list = head(h).positions;
    return list.size() == 0 ? j : Index{list[j]};
  }
  float count_bias(Index h, Index j) const noexcept override { return counted(h) ? head(h).biases[j] : 0.0f; }
  bool counted(Index h) const noexcept override { return head(h).biases.size() > 0; }
  std::size_t bytes() const override {
    std::size_t total = 0;
    for (const auto& one : heads_)
      total += one.keys.bytes() + one.values.bytes() + one.positions.bytes() + one.biases.bytes();
    return total;
  }
  void reserve(Index n) override {
    for (auto& one : heads_) {
      one.keys.reserve(n);
      one.values.reserve(n);
    }
  }
  void retain(Index h, std::span<const Index> kept) override {
    Head& one = head(h);
    if (static_cast<Index>(kept.size()) == one.keys.size()) return;
    const bool prefix = kept.empty() || kept.back() + 1 == static_cast<Index>(kept.size());
    if (!prefix) list_positions(one);
    if (one.positions.size() > 0) retain_rows(one.positions, 1, kept);
    if (one.biases.size() > 0) retain_rows(one.biases, 1, kept);
    drop_idle(one.biases);
    one.keys.retain(kept);
    one.values.retain(kept);
  }
  const float* key_tile(Index h, Index begin, Index count, float* scratch, Index& stride,
                        Unpack unpack) const noexcept override {
    return head(h).keys.tile(begin, count, scratch, stride, unpack);
  }
  TokenCodes key_codes(Index h, Index begin) const noexcept override {
    if constexpr (requires { head(h).keys.codes(begin); }) return head(h).keys.codes(begin);
    return {};
  }
  TokenCodes value_codes(Index h, Index begin) const noexcept override {
    if constexpr (requires { head(h).values.codes(begin); }) return head(h).values.codes(begin);
    return {};
  }
  const float* value_tile(Index h, Index begin, Index count, float* scratch, Index& stride,
                          Unpack unpack) const noexcept override {
    return head(h).values.tile(begin, count, scratch, stride, unpack);
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
  void rewrite_head(Index h, MatrixView<const float> K, MatrixView<const float> V, std::span<const Index> positions,
                    std::span<const float> counts) override {
    Head& one = head(h);
    const Index n = K.rows();
    const auto refill = [n](auto& rows, MatrixView<const float> from) {
      rows.retain({});
      rows.reserve(n);
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
    one.positions.fit();
    one.biases.resize(counts.empty() ? 0 : n);
    for (Index j = 0; j < one.biases.size(); ++j) one.biases[j] = std::log(counts[static_cast<std::size_t>(j)]);
    drop_idle(one.biases);
  }
  void truncate_head(Index h, Index n) override {
    Head& one = head(h);
    if (n >= one.keys.size()) return;
    if (one.positions.size() > 0) truncate_rows(one.positions, 1, n);
    if (one.biases.size() > 0) truncate_rows(one.biases, 1, n);
    one.keys.truncate(n);
    one.values.truncate(n);
  }
  Index tokens_up_to(Index h, Index last) const override {
    const Head& one = head(h);
    if (one.positions.size() == 0) return std::clamp<Index>(last + 1, 0, one.keys.size());
    const std::int32_t* const list = one.positions.data();
    return std::upper_bound(list, list + one.positions.size(), last,
                            [](Index value, std::int32_t entry) { return value < entry; }) -
           list;
  }

 private:
  struct Head {
    decltype(std::declval<const C&>().template keys<Storage>(Index{})) keys;
    decltype(std::declval<const C&>().template values<Storage>(Index{})) values;
    typename Storage::template Array<std::int32_t> positions;  // (tokens); none while token j has position j
    typename Storage::template Array<float> biases;            // (tokens); none while each stands for one
  };
  Head& head(Index h) { return heads_[static_cast<std::size_t>(h)]; }
  const Head& head(Index h) const { return heads_[static_cast<std::size_t>(h)]; }

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
