/// Rows in groups that share something: where each begins.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <tessera/core/config.hpp>
#include <tessera/kv/storage.hpp>

namespace tessera::inline TESSERA_ABI::kv::detail {

/// The first row of each group; `size` is how many rows there are in all.
template <class Storage>
class GroupStarts {
 public:
  Index groups() const { return starts_.size(); }
  Index of(Index row) const {
    const std::int32_t* const first = starts_.data();
    return std::upper_bound(first, first + groups(), static_cast<std::int32_t>(row)) - first - 1;
  }
  Index end(Index group, Index size) const { return group + 1 < groups() ? Index{starts_[group + 1]} : size; }
  /// How many begin before a row.
  Index before(Index row) const {
    return std::lower_bound(starts_.data(), starts_.data() + groups(), static_cast<std::int32_t>(row)) - starts_.data();
  }
  /// How many rows of each group are among `kept`, which ascend.
  std::vector<Index> counts(std::span<const Index> kept, Index size) const {
    std::vector<Index> all(static_cast<std::size_t>(groups()), 0);
    Index g = 0;
    for (const Index t : kept) {
      while (t >= end(g, size)) ++g;
      ++all[static_cast<std::size_t>(g)];
    }
    return all;
  }
  void add(Index row) {
    starts_.resize(groups() + 1);
    starts_[groups() - 1] = static_cast<std::int32_t>(row);
  }
  /// Groups have left[g] rows now, next to each other. Neighbours of up to `most` rows together become one:
  /// join(start, first, last, to), groups [first, last) of more than one with rows, `start` their first row;
  /// move(from, to), the only one with rows. Gives how many are left.
  template <class Join, class Move>
  Index regroup(const std::vector<Index>& left, Index most, const Join& join, const Move& move) {
    const auto count = [&](Index g) { return left[static_cast<std::size_t>(g)]; };
    const auto old = static_cast<Index>(left.size());
    Index to = 0, start = 0;
    for (Index g = 0, next = 0; g < old; g = next) {
      Index members = 0, rows = 0, one = g;
      for (next = g; next == g || (next < old && rows + count(next) <= most); ++next) {
        if (count(next) > 0 && members++ == 0) one = next;
        rows += count(next);
      }
      if (rows == 0) continue;
      if (members > 1)
        join(start, g, next, to);
      else if (one != to)
        move(one, to);
      starts_[to++] = static_cast<std::int32_t>(start);
      start += rows;
    }
    return to;
  }
  void truncate(Index groups) { truncate_rows(starts_, 1, groups); }
  void fit(Index spare = 0) { starts_.fit(spare); }
  void reserve(Index groups) { starts_.reserve(groups); }
  std::size_t bytes() const { return starts_.bytes(); }

 private:
  typename Storage::template Array<std::int32_t> starts_;
};

}  // namespace tessera::inline TESSERA_ABI::kv::detail
