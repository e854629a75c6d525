/// Symbols of many channels to bytes: each channel coded by the distribution that its bytes pay for.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include <tessera/core/config.hpp>
#include <tessera/kv/cachegen/rans.hpp>

namespace tessera::inline TESSERA_ABI::kv {

using Bytes = std::vector<std::uint8_t>;

namespace detail {

template <class T>
void put(Bytes& to, T value) {  // little-endian
  for (std::size_t i = 0; i < sizeof(T); ++i, value = static_cast<T>(value >> 7 >> 1))
    to.push_back(static_cast<std::uint8_t>(value));
}

/// Bytes read in order; what lies beyond their end is 0, and `failed` says so.
struct ByteReader {
  std::span<const std::uint8_t> left;
  bool failed = false;

  std::span<const std::uint8_t> take(std::uint64_t count) {
    if (failed || count > left.size()) {
      failed = true;
      return {};
    }
    const auto taken = left.first(static_cast<std::size_t>(count));
    left = left.subspan(taken.size());
    return taken;
  }
  template <class T>
  T get() {
    T value = 0;
    int shift = 0;
    for (const std::uint8_t byte : take(sizeof(T))) {
      value = static_cast<T>(value | static_cast<T>(static_cast<T>(byte) << shift));
      shift += 8;
    }
    return value;
  }
};

/// How often each of 255 symbols occurs.
struct Histogram {
  static constexpr int most = 127, symbols = 2 * most + 1;
  std::array<std::uint32_t, symbols> counts{};

  void add(const std::int8_t* from, Index n) {
    for (Index i = 0; i < n; ++i) ++counts[static_cast<std::size_t>(from[i] + most)];
  }
  Histogram& operator+=(const Histogram& other) {
    for (std::size_t i = 0; i < counts.size(); ++i) counts[i] += other.counts[i];
    return *this;
  }
  int first() const {
    return static_cast<int>(std::find_if(counts.begin(), counts.end(), [](auto n) { return n > 0; }) - counts.begin());
  }
  int last() const {
    int i = symbols - 1;
    while (i > 0 && counts[static_cast<std::size_t>(i)] == 0) --i;
    return i;
  }
  /// What its symbols take at least by a model of their own, in bits.
  double entropy() const {
    double all = 0, sum = 0;
    for (const std::uint32_t n : counts) {
      all += n;
      if (n > 1) sum += n * std::log2(static_cast<double>(n));
    }
    return all > 0 ? all * std::log2(all) - sum : 0;
  }
  /// The same and the model's own bits; about what they will be.
  double cost() const { return entropy() + 8 * (4 + 1.2 * std::max(0, last() - first() + 1)); }
  RansModel model() const {
    const int from = first(), count = last() - from + 1;
    return rans_model(from - most, std::span(counts).subspan(static_cast<std::size_t>(from),
                                                             static_cast<std::size_t>(std::max(count, 0))));
  }
};

struct ChannelModels {
  std::vector<std::uint8_t> of;  // (channels)
  std::vector<RansModel> models;
};

/// Channels in the order of how widely their symbols spread share a model with their neighbours while the bits of its
/// table would be more than those that a model of their own saves. O(channels · symbols).
inline ChannelModels choose_models(const std::int8_t* symbols, Index channels, Index n, bool one) {
  std::vector<double> spread(static_cast<std::size_t>(channels));
  for (Index c = 0; c < channels; ++c)
    for (Index i = 0; i < n; ++i) spread[static_cast<std::size_t>(c)] += symbols[c * n + i] * symbols[c * n + i];
  std::vector<std::size_t> order(spread.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return spread[a] != spread[b] ? spread[a] < spread[b] : a < b; });
  ChannelModels chosen{std::vector<std::uint8_t>(spread.size()), {}};
  Histogram together;
  double cost = together.cost();
  for (std::size_t k = 0; k < order.size(); ++k) {
    Histogram alone, joined = together;
    alone.add(symbols + static_cast<Index>(order[k]) * n, n);
    joined += alone;
    const double alone_cost = alone.cost(), joined_cost = joined.cost();
    if (k > 0 && !one && chosen.models.size() < 255 && cost + alone_cost < joined_cost) {
      chosen.models.push_back(together.model());
      together = alone;
      cost = alone_cost;
    } else {
      together = joined;
      cost = joined_cost;
    }
    chosen.of[order[k]] = static_cast<std::uint8_t>(chosen.models.size());
  }
  chosen.models.push_back(together.model());
  return chosen;
}

}  // namespace detail

/// Symbols (channels, n) in -127 … 127 to bytes: tables, states, words. Tables are sent rather than learnt on the way:
/// decoding is a look-up a symbol, and channels alike share one.
inline void encode_symbols(const std::int8_t* symbols, Index channels, Index n, bool one_model, Bytes& to) {
  if (channels < 1 || n < 1) return;
  const detail::ChannelModels chosen = detail::choose_models(symbols, channels, n, one_model);
  detail::put(to, static_cast<std::uint8_t>(chosen.models.size()));
  if (chosen.models.size() > 1) to.insert(to.end(), chosen.of.begin(), chosen.of.end());
  RansEncoder encoder;
  for (std::size_t m = chosen.models.size(); m-- > 0;) {
    const RansModel& model = chosen.models[m];
    std::vector<std::uint32_t> starts(model.shares.size(), 0);
    std::partial_sum(model.shares.begin(), model.shares.end() - 1, starts.begin() + 1);
    for (Index c = channels; c-- > 0;) {
      if (chosen.of[static_cast<std::size_t>(c)] != m) continue;
      for (Index i = n; i-- > 0;) {
        const auto s = static_cast<std::size_t>(symbols[c * n + i] - model.first);
        encoder.push(model.shares[s], starts[s], i % rans_lanes);
      }
    }
  }
  for (const RansModel& model : chosen.models) {
    detail::put(to, static_cast<std::uint8_t>(model.first + detail::Histogram::most));
    detail::put(to, static_cast<std::uint8_t>(model.shares.size()));
    for (const std::uint32_t share : model.shares)  // 7 bits, or 15
      if (share < 128)
        detail::put(to, static_cast<std::uint8_t>(share));
      else
        detail::put(to, static_cast<std::uint16_t>((share & 0x7f) | 0x80 | share >> 7 << 8));
  }
  for (const std::uint32_t state : encoder.states()) detail::put(to, state);
  const std::vector<std::uint16_t> words = encoder.words();
  detail::put(to, static_cast<std::uint32_t>(words.size()));
  for (const std::uint16_t word : words) detail::put(to, word);
}

/// What encode_symbols wrote; nullptr, or what is wrong with it.
inline const char* decode_symbols(detail::ByteReader& from, Index channels, Index n, std::int8_t* symbols) {
  if (channels < 1 || n < 1) return nullptr;
  const std::size_t count = from.get<std::uint8_t>();
  if (count == 0) return "has no table of symbols";
  std::span<const std::uint8_t> of;
  if (count > 1) {
    of = from.take(static_cast<std::uint64_t>(channels));
    if (std::any_of(of.begin(), of.end(), [&](std::uint8_t m) { return m >= count; }))
      return "has a channel without a table";
  }
  std::vector<RansModel> models(count);
  for (RansModel& model : models) {
    model.first = from.get<std::uint8_t>() - detail::Histogram::most;
    model.shares.resize(from.get<std::uint8_t>());
    if (model.first + static_cast<int>(model.shares.size()) > detail::Histogram::most + 1)
      return "has a symbol beyond 127";
    std::uint32_t all = 0;
    for (std::uint32_t& share : model.shares) {
      share = from.get<std::uint8_t>();
      if (share >= 128) share = (share & 0x7f) | static_cast<std::uint32_t>(from.get<std::uint8_t>()) << 7;
      all += share;
    }
    if (all != rans_total) return "has shares of symbols that do not sum to 4096";
  }
  std::array<std::uint32_t, rans_lanes> states{};
  for (std::uint32_t& state : states) {
    state = from.get<std::uint32_t>();
    if (state < rans_least) return "has a state below its least value";
  }
  RansDecoder decoder(states, from.take(2 * std::uint64_t{from.get<std::uint32_t>()}));
  if (from.failed) return "ends too early";
  RansTable table;
  for (std::size_t m = 0; m < count; ++m) {
    table.set(models[m]);
    for (Index c = 0; c < channels; ++c)
      if (of.empty() ? m == 0 : of[static_cast<std::size_t>(c)] == m)
        if (!decoder.pop(table, n, symbols + c * n)) return "has a code that ends too early";
  }
  return decoder.finished() ? nullptr : "has a code that does not end where it should";
}

}  // namespace tessera::inline TESSERA_ABI::kv
