/// Attention over block pairs that take part by chance, less often the further apart they are.
#pragma once

#include <cstdint>
#include <utility>

#include <tessera/attention/score_mod.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/rng.hpp>

namespace tessera::inline TESSERA_ABI {

/// A mask for score_mods(...): the block of `block` queries around position i and that of keys around j meet with
/// probability p(distance in blocks), drawn once a round; a block meets itself always, so that every query keeps its
/// own key. Causal: the lower triangle's shape stays. Which pairs meet is a function of (seed, batch, head, blocks)
/// alone. Rows are normalised over what is seen. F. Li, "The Nature of Mathematical Modeling and Probabilistic
/// Optimization Engineering in Generative AI" (2024), PrFlashAttention.
template <class P>
class ProbabilisticBlocks {
 public:
  /// p(Index distance) -> [0, 1]. Throws shape_error unless block > 0.
  ProbabilisticBlocks(P p, std::uint64_t seed, Index block = 64) : p_(std::move(p)), seed_(seed), block_(block) {
    if (block <= 0)
      throw shape_error(detail::concat("tessera: ProbabilisticBlocks of ", block, " tokens: expected > 0"));
  }
  bool meet(Index batch, Index head, Index query_block, Index key_block) const {
    if (query_block <= key_block) return query_block == key_block;
    const auto draw = philox4x32({static_cast<std::uint32_t>(query_block), static_cast<std::uint32_t>(key_block),
                                  static_cast<std::uint32_t>(head), static_cast<std::uint32_t>(batch)},
                                 {static_cast<std::uint32_t>(seed_), static_cast<std::uint32_t>(seed_ >> 32)});
    return static_cast<double>(draw[0]) * 0x1p-32 < static_cast<double>(p_(query_block - key_block));
  }
  bool operator()(const ScorePosition& at) const {
    return at.position >= at.key && meet(at.batch, at.head, at.position / block_, at.key / block_);
  }
  Seen block(const ScoreBlock& b) const {
    if (b.key > b.last_position()) return Seen::none;
    bool any = false, all = b.key_end - 1 <= b.position;
    for (Index h = b.head; h < b.head_end; ++h)
      for (Index i = (b.position < 0 ? 0 : b.position) / block_; i <= b.last_position() / block_; ++i)
        for (Index j = b.key / block_; j <= (b.key_end - 1) / block_; ++j) {
          const bool one = meet(b.batch, h, i, j);
          any = any || one;
          all = all && one;
          if (any && !all) return Seen::some;
        }
    return all ? Seen::all : Seen::none;
  }

 private:
  P p_;
  std::uint64_t seed_;
  Index block_;
};

}  // namespace tessera::inline TESSERA_ABI
