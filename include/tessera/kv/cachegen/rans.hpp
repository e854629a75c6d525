/// Four interleaved entropy coders of bytes with known frequencies.
/// J. Duda, "Asymmetric numeral systems: entropy coding combining speed of Huffman coding with compression rate of
/// arithmetic coding" (2013), the range variant: 32-bit states, 16 bits at a time, shares of 2^12. The states take
/// turns, so that their chains of dependent instructions overlap; F. Giesen, "Interleaved entropy coders" (2014).
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include <tessera/core/config.hpp>

namespace tessera::inline TESSERA_ABI::kv {

inline constexpr int rans_bits = 12;
inline constexpr std::uint32_t rans_total = 1u << rans_bits, rans_least = 1u << 16;
inline constexpr Index rans_lanes = 4;

/// Shares of symbols first, first + 1, …: each a whole number of 2^-12, together 1.
struct RansModel {
  int first = 0;                      // in -127 … 127
  std::vector<std::uint32_t> shares;  // 0 … 4096; no symbol without one is coded
};

/// The shares that code symbols of these counts in few bits: in proportion, but none of a symbol that occurs is 0.
/// O(symbols · rounding errors).
inline RansModel rans_model(int first, std::span<const std::uint32_t> counts) {
  RansModel model{first, std::vector<std::uint32_t>(counts.size())};
  double all = 0;
  for (const std::uint32_t n : counts) all += n;
  std::int64_t left = rans_total;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] == 0) continue;
    model.shares[i] = std::max(1u, static_cast<std::uint32_t>(counts[i] / all * rans_total + 0.5));
    left -= model.shares[i];
  }
  for (; left != 0; left += left > 0 ? -1 : 1) {  // a share more or less where it counts most or least
    std::size_t at = 0;
    double best = -1e300;
    for (std::size_t i = 0; i < counts.size(); ++i) {
      if (counts[i] == 0 || (left < 0 && model.shares[i] == 1)) continue;
      const double gain = left > 0 ? counts[i] / (model.shares[i] + 0.5) : -(counts[i] / (model.shares[i] - 0.5));
      if (gain > best) {
        best = gain;
        at = i;
      }
    }
    model.shares[at] += left > 0 ? 1u : ~0u;
  }
  return model;
}

/// Symbols are coded last to first, each by the state whose turn it is: `lane` is its place in its run modulo 4.
class RansEncoder {
 public:
  /// Takes the symbols of a model; starts[i] is the sum of the shares before i.
  void push(std::uint32_t share, std::uint32_t start, Index lane) {
    std::uint32_t& state = states_[static_cast<std::size_t>(lane)];
    if (state >= std::uint64_t{share} << (32 - rans_bits)) {
      words_.push_back(static_cast<std::uint16_t>(state));
      state >>= 16;
    }
    state = (state / share << rans_bits) + state % share + start;
  }
  const std::array<std::uint32_t, rans_lanes>& states() const { return states_; }
  /// In the order in which they are read.
  std::vector<std::uint16_t> words() const { return {words_.rbegin(), words_.rend()}; }

 private:
  std::array<std::uint32_t, rans_lanes> states_ = {rans_least, rans_least, rans_least, rans_least};
  std::vector<std::uint16_t> words_;
};

/// For every one of 4096 places its symbol, share - 1 and distance from its share's start: 16 kB, half of Zen 3's L1.
class RansTable {
 public:
  /// The shares must be those of a model.
  void set(const RansModel& model) {
    std::uint32_t place = 0;
    for (std::size_t i = 0; i < model.shares.size(); ++i) {
      const auto symbol = static_cast<std::uint8_t>(model.first + static_cast<int>(i));
      for (std::uint32_t j = 0; j < model.shares[i]; ++j)
        places_[place++] = (model.shares[i] - 1) << 20 | j << 8 | symbol;
    }
  }
  std::uint32_t operator[](std::uint32_t place) const { return places_[place]; }

 private:
  std::array<std::uint32_t, rans_total> places_{};
};

/// Any bytes decode to something and nothing beyond them is read; whether they were a code is known at the end.
class RansDecoder {
 public:
  RansDecoder(const std::array<std::uint32_t, rans_lanes>& states, std::span<const std::uint8_t> words)
      : states_(states), at_(words.data()), end_(words.data() + words.size()) {}

  /// The next run of symbols, `count` of them; false where the words end too early.
  bool pop(const RansTable& table, Index count, std::int8_t* to) {
    auto [a, b, c, d] = states_;
    const std::uint8_t* at = at_;
    Index i = 0;
    for (; i + rans_lanes <= count && end_ - at >= 2 * rans_lanes; i += rans_lanes) {
      to[i] = step(table, a, at);
      to[i + 1] = step(table, b, at);
      to[i + 2] = step(table, c, at);
      to[i + 3] = step(table, d, at);
    }
    states_ = {a, b, c, d};
    at_ = at;
    for (; i < count; ++i)
      if (!careful_step(table, states_[static_cast<std::size_t>(i % rans_lanes)], to[i])) return false;
    return true;
  }
  /// Whether all words have been read and the states are those that encoding began with.
  bool finished() const {
    return at_ == end_ && std::all_of(states_.begin(), states_.end(), [](auto state) { return state == rans_least; });
  }

 private:
  static std::uint32_t without_symbol(std::uint32_t entry, std::uint32_t state) {
    return ((entry >> 20) + 1) * (state >> rans_bits) + (entry >> 8 & (rans_total - 1));
  }
  /// Without a branch: whether a state needs a word is as good as random.
  TESSERA_INLINE static std::int8_t step(const RansTable& table, std::uint32_t& state, const std::uint8_t*& at) {
    const std::uint32_t entry = table[state & (rans_total - 1)], next = without_symbol(entry, state);
    const std::uint32_t word = at[0] | static_cast<std::uint32_t>(at[1]) << 8;
    const bool low = next < rans_least;
    state = low ? next << 16 | word : next;
    at += low ? 2 : 0;
    return static_cast<std::int8_t>(entry);
  }
  bool careful_step(const RansTable& table, std::uint32_t& state, std::int8_t& to) {
    const std::uint32_t entry = table[state & (rans_total - 1)];
    state = without_symbol(entry, state);
    to = static_cast<std::int8_t>(entry);
    if (state >= rans_least) return true;
    if (end_ - at_ < 2) return false;
    state = state << 16 | at_[0] | static_cast<std::uint32_t>(at_[1]) << 8;
    at_ += 2;
    return true;
  }

  std::array<std::uint32_t, rans_lanes> states_;
  const std::uint8_t *at_, *end_;
};

}  // namespace tessera::inline TESSERA_ABI::kv
