/// A bit a row, and how many are set before any.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <tessera/core/config.hpp>
#include <tessera/kv/storage.hpp>

namespace tessera::inline TESSERA_ABI::kv::detail {

/// 12 bytes for every 64 rows; looking up and counting take O(1).
template <class Storage>
class RowFlags {
 public:
  bool operator[](Index row) const { return (bits_[row / 64] >> row % 64 & 1) != 0; }
  /// How many rows before this one, which must be held, are set.
  Index before(Index row) const {
    return ranks_[row / 64] + std::popcount(bits_[row / 64] & ((std::uint64_t{1} << row % 64) - 1));
  }
  /// So many rows, of which `set` were set so far; new ones are not.
  void grow(Index rows, Index set) {
    for (Index w = ranks_.size(); w < words(rows); ++w) {
      bits_.resize(w + 1);
      ranks_.resize(w + 1);
      bits_[w] = 0;
      ranks_[w] = static_cast<std::int32_t>(set);
    }
  }
  /// Flags of all rows anew.
  void assign(const std::vector<bool>& flags) {
    bits_.resize(words(static_cast<Index>(flags.size())));
    ranks_.resize(bits_.size());
    for (Index w = 0, set = 0; w < bits_.size(); ++w) {
      std::uint64_t word = 0;
      for (std::size_t i = 0, at = static_cast<std::size_t>(w) * 64; i < 64 && at + i < flags.size(); ++i)
        word |= std::uint64_t{flags[at + i]} << i;
      bits_[w] = word;
      ranks_[w] = static_cast<std::int32_t>(set);
      set += std::popcount(word);
    }
  }
  void truncate(Index rows) {
    truncate_rows(bits_, 1, words(rows));
    truncate_rows(ranks_, 1, words(rows));
    if (rows % 64 != 0) bits_[rows / 64] &= (std::uint64_t{1} << rows % 64) - 1;
  }
  void fit(Index rows, Index spare) {
    bits_.fit(words(rows + spare) - words(rows));
    ranks_.fit(words(rows + spare) - words(rows));
  }
  void reserve(Index rows) {
    bits_.reserve(words(rows));
    ranks_.reserve(words(rows));
  }
  std::size_t bytes() const { return bits_.bytes() + ranks_.bytes(); }

 private:
  static Index words(Index rows) { return (rows + 63) / 64; }

  typename Storage::template Array<std::uint64_t> bits_;
  typename Storage::template Array<std::int32_t> ranks_;  // set before each word
};

}  // namespace tessera::inline TESSERA_ABI::kv::detail
