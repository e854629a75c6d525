/// Orders of numbers with NaN last: with < alone NaN is no member of an order, and what sorts with it is undefined.
#pragma once

#include <tessera/core/config.hpp>

namespace tessera::inline TESSERA_ABI::detail {

struct Rising {
  template <class T>
  constexpr bool operator()(const T& a, const T& b) const {
    return a < b || (a == a && b != b);
  }
};
struct Falling {
  template <class T>
  constexpr bool operator()(const T& a, const T& b) const {
    return a > b || (a == a && b != b);
  }
};

/// Of places by their scores, the largest first; of equal ones and of NaN the first.
template <class Score>
struct FallingScores {
  const Score& score;
  template <class I>
  constexpr bool operator()(I i, I j) const {
    const Falling before;
    return before(score[i], score[j]) || (!before(score[j], score[i]) && i < j);
  }
};
template <class Score>
FallingScores(const Score&) -> FallingScores<Score>;

}  // namespace tessera::inline TESSERA_ABI::detail
