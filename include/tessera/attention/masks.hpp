/// Masks for score_mods(...): which keys a query sees.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include <tessera/attention/score_mod.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>

namespace tessera::inline TESSERA_ABI {

/// Keys up to the query's position.
struct CausalMask {
  bool operator()(const ScorePosition& at) const { return at.key <= at.position; }
  Seen block(const ScoreBlock& b) const {
    if (b.key > b.last_position()) return Seen::none;
    return b.key_end - 1 <= b.position ? Seen::all : Seen::some;
  }
};

/// The query's own key and the `window` - 1 before it, and the first `sinks` keys; causal.
/// G. Xiao et al., "Efficient Streaming Language Models with Attention Sinks" (2024), §3.2.
struct SlidingWindow {
  Index window = 0, sinks = 0;
  bool operator()(const ScorePosition& at) const {
    return at.key <= at.position && (at.key > at.position - window || at.key < sinks);
  }
  Seen block(const ScoreBlock& b) const {
    if (b.key > b.last_position()) return Seen::none;
    if (b.key >= sinks && b.key_end - 1 - b.position <= -window) return Seen::none;
    if (b.key_end - 1 > b.position) return Seen::some;
    return b.key_end <= sinks || b.key > b.last_position() - window ? Seen::all : Seen::some;
  }
};

/// Throws shape_error unless window > 0 and sinks >= 0.
inline SlidingWindow sliding_window(Index window, Index sinks = 0) {
  if (window <= 0 || sinks < 0)
    throw shape_error(detail::concat("tessera: sliding_window(", window, ", sinks = ", sinks,
                                     "): expected a positive window and no fewer than 0 sinks"));
  return {window, sinks};
}

/// Causal, but the first `prefix` keys are seen by all (a prompt that attends both ways).
struct PrefixLm {
  Index prefix = 0;
  bool operator()(const ScorePosition& at) const { return at.key < prefix || at.key <= at.position; }
  Seen block(const ScoreBlock& b) const {
    if (b.key_end <= prefix || b.key_end - 1 <= b.position) return Seen::all;
    return b.key >= prefix && b.key > b.last_position() ? Seen::none : Seen::some;
  }
};

/// Tokens of one row of documents see their own document only. Built from boundaries 0 = c_0 <= c_1 <= ... <= c_k:
/// document i has the tokens [c_i, c_(i+1)); tokens from c_k on see nothing.
class DocumentMask {
 public:
  /// Throws shape_error unless the boundaries begin at 0 and ascend. O(tokens) memory.
  explicit DocumentMask(std::span<const Index> boundaries) {
    if (boundaries.empty() || boundaries[0] != 0)
      throw shape_error("tessera: DocumentMask: expected boundaries that begin with 0");
    for (std::size_t i = 1; i < boundaries.size(); ++i) {
      if (boundaries[i] < boundaries[i - 1])
        throw shape_error(detail::concat("tessera: DocumentMask: boundary ", i, " is ", boundaries[i], " after ",
                                         boundaries[i - 1], "; expected them to ascend"));
      document_.resize(static_cast<std::size_t>(boundaries[i]), static_cast<std::int32_t>(i - 1));
    }
  }
  bool operator()(const ScorePosition& at) const {
    const std::int32_t of = document(at.key);
    return of >= 0 && of == document(at.position);
  }
  Seen block(const ScoreBlock& b) const {
    const auto tokens = static_cast<Index>(document_.size());
    if (b.key >= tokens || b.position >= tokens || b.last_position() < 0) return Seen::none;
    const std::int32_t key = document(b.key), last_key = document(b.key_end - 1);
    const std::int32_t query = document(b.position), last_query = document(b.last_position());
    if (last_key < 0 || query < 0 || last_query < 0) return Seen::some;
    if (last_key < query || last_query < key) return Seen::none;
    return key == last_key && query == last_query ? Seen::all : Seen::some;
  }

 private:
  std::int32_t document(Index token) const {
    return token >= 0 && token < static_cast<Index>(document_.size()) ? document_[static_cast<std::size_t>(token)] : -1;
  }
  std::vector<std::int32_t> document_;
};

/// Maps of tokens one after another, of growing resolution: a token sees its own map and all before it. Built from
/// boundaries 0 = c_0 < c_1 < ... < c_k: map i has the tokens [c_i, c_(i+1)); tokens from c_k on see nothing.
/// K. Tian et al., "Visual Autoregressive Modeling" (NeurIPS 2024), §3.2.
class ScaleBlockCausal {
 public:
  /// Throws shape_error unless the boundaries begin at 0 and ascend.
  explicit ScaleBlockCausal(std::span<const Index> boundaries) : ends_(boundaries.begin(), boundaries.end()) {
    if (ends_.empty() || ends_[0] != 0)
      throw shape_error("tessera: ScaleBlockCausal: expected boundaries that begin with 0");
    for (std::size_t i = 1; i < ends_.size(); ++i)
      if (ends_[i] <= ends_[i - 1])
        throw shape_error(detail::concat("tessera: ScaleBlockCausal: boundary ", i, " is ", ends_[i], " after ",
                                         ends_[i - 1], "; expected them to ascend"));
  }
  bool operator()(const ScorePosition& at) const { return at.key < seen_by(at.position); }
  Seen block(const ScoreBlock& b) const {
    if (b.last_position() >= ends_.back()) return Seen::some;
    if (b.key >= seen_by(b.last_position())) return Seen::none;
    return b.key_end <= seen_by(b.position) ? Seen::all : Seen::some;
  }

 private:
  /// The end of a token's map.
  Index seen_by(Index token) const {
    const auto end = std::upper_bound(ends_.begin(), ends_.end(), token);
    return token < 0 || end == ends_.end() ? 0 : *end;
  }
  std::vector<Index> ends_;
};

/// Query block i and key block j of a head meet where cells(h, i, j) is not 0; a mask of one head serves all. Blocks
/// count from query 0 and key 0; what lies beyond the cells is not seen. `cells` must outlive the mask.
class BlockMask {
 public:
  /// cells (1 or heads, query blocks, key blocks). Throws shape_error unless both sizes are positive.
  BlockMask(View<const std::uint8_t, 3> cells, Index query_block, Index key_block)
      : cells_(cells), query_block_(query_block), key_block_(key_block) {
    if (query_block <= 0 || key_block <= 0 || cells.extent(0) < 1)
      throw shape_error(detail::concat("tessera: BlockMask of (", cells.extent(0), ", ", cells.extent(1), ", ",
                                       cells.extent(2), ") cells for blocks of ", query_block, " queries and ",
                                       key_block, " keys: expected at least one head and positive sizes"));
  }
  Index heads() const { return cells_.extent(0) == 1 ? std::numeric_limits<Index>::max() : cells_.extent(0); }
  bool operator()(const ScorePosition& at) const { return cell(at.head, at.query / query_block_, at.key / key_block_); }
  Seen block(const ScoreBlock& b) const {
    const Index last = (b.key_end - 1) / key_block_, end = std::min(last + 1, cells_.extent(2));
    bool any = false, all = last < end;
    const Index head_end = cells_.extent(0) == 1 ? b.head + 1 : b.head_end;
    for (Index h = b.head; h < head_end; ++h)
      for (Index i = b.query / query_block_; i <= (b.query_end - 1) / query_block_; ++i)
        for (Index j = b.key / key_block_; j < end; ++j) {
          const bool one = cell(h, i, j);
          any = any || one;
          all = all && one;
          if (any && !all) return Seen::some;
        }
    return all ? Seen::all : Seen::none;
  }

 private:
  bool cell(Index head, Index i, Index j) const {
    if (cells_.extent(0) == 1) head = 0;
    return head < cells_.extent(0) && i < cells_.extent(1) && j < cells_.extent(2) && cells_(head, i, j) != 0;
  }
  View<const std::uint8_t, 3> cells_;
  Index query_block_, key_block_;
};

/// A tree of continuations after a shared context (speculative decoding): token context + i is node i with a parent
/// among the nodes before it, or -1 for the context's end. A node sees the context, its ancestors and itself; tokens
/// beyond the nodes are not seen and see the context.
/// X. Miao et al., "SpecInfer" (2024), §4.
class TreeMask {
 public:
  /// Throws shape_error unless context >= 0 and -1 <= parents[i] < i. O(nodes) time and memory.
  TreeMask(Index context, std::span<const Index> parents) : context_(context) {
    const auto n = static_cast<Index>(parents.size());
    if (context < 0)
      throw shape_error(detail::concat("tessera: TreeMask after ", context, " tokens: expected at least 0"));
    for (Index i = 0; i < n; ++i)
      if (parents[static_cast<std::size_t>(i)] < -1 || parents[static_cast<std::size_t>(i)] >= i)
        throw shape_error(detail::concat("tessera: TreeMask: the parent of node ", i, " is ",
                                         parents[static_cast<std::size_t>(i)], "; expected -1 to ", i - 1));
    // Places of a walk from the root: a node's descendants follow it. Children are placed in order of number.
    std::vector<Index> below(parents.size(), 1), next(parents.size() + 1, 0);
    for (Index i = n - 1; i >= 0; --i)
      if (const Index p = parents[static_cast<std::size_t>(i)]; p >= 0)
        below[static_cast<std::size_t>(p)] += below[static_cast<std::size_t>(i)];
    enter_.resize(parents.size());
    leave_.resize(parents.size());
    for (std::size_t i = 0; i < parents.size(); ++i) {
      auto& place = next[static_cast<std::size_t>(parents[i] + 1)];
      enter_[i] = place;
      leave_[i] = place + below[i];
      place = leave_[i];
      next[i + 1] = enter_[i] + 1;
    }
  }
  bool operator()(const ScorePosition& at) const {
    if (at.key < context_) return at.position >= at.key;
    const Index key = at.key - context_, query = at.position - context_;
    if (query < key || key >= static_cast<Index>(enter_.size()) || query >= static_cast<Index>(enter_.size()))
      return false;
    const Index place = enter_[static_cast<std::size_t>(query)];
    return enter_[static_cast<std::size_t>(key)] <= place && place < leave_[static_cast<std::size_t>(key)];
  }
  Seen block(const ScoreBlock& b) const {
    if (b.key > b.last_position()) return Seen::none;
    return b.key_end <= context_ && b.key_end - 1 <= b.position ? Seen::all : Seen::some;
  }

 private:
  Index context_;
  std::vector<Index> enter_, leave_;
};

}  // namespace tessera::inline TESSERA_ABI
