/// Which tokens take part: scores by received attention, masks of the kept, and the segments that they lie in.
/// T. Wang et al., "LeMo: Enabling LEss Token Involvement for MOre Context Fine-tuning" (2025).
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <type_traits>
#include <vector>

#include <tessera/core/buffer.hpp>
#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/kernels/attention/attention.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/kernels/map/map.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

inline constexpr Index token_tile = 128;  // queries and keys of a tile of scores, rows of one that is gathered

template <class T>
struct AddExp {  // y += e^(x - shift)
  T shift;
  template <class V>
  TESSERA_INLINE void operator()(V& y, const V& x) const {
    y = y + exp(x - V(shift));
  }
};

template <class T>
void check_blocks(const char* what, VectorView<const T> scores, Index block, bool good, double value) {
  if (block < 1 || !good)
    throw shape_error(concat("tessera: ", what, " of ", scores.extent(0), " scores in blocks of ", block, " with ",
                             value, ": expected blocks of at least 1, fractions from 0 to 1 and no NaN"));
}

}  // namespace detail

/// received_j = the mean over heads of Σ_i p_ij, the attention that token j receives, from the lse that attention()
/// saved: what the received tokens add up to is the queries that see any. `per_query` divides by how many queries see
/// the token, or causal sums favour early ones. Tile by tile, no buffer of n × m; threads share the keys: the same bits
/// for any number. 2·heads·n·m·d flops and an exp a score (half if causal), scratch 128² a thread. Throws shape_error.
template <std::floating_point T>
void received_attention(Context& ctx, View<const std::type_identity_t<T>, 3> Q,  // (heads, n, d)
                        View<const std::type_identity_t<T>, 3> K,                // (kv_heads, m, d)
                        View<const std::type_identity_t<T>, 2> lse,              // (heads, n)
                        VectorView<T> received,                                  // (m)
                        AttentionOptions options = {}, bool per_query = false) {
  const Index heads = Q.extent(0), n = Q.extent(1), d = Q.extent(2), kv_heads = K.extent(0), m = K.extent(1);
  if (K.extent(2) != d || kv_heads < 1 || heads < 1 || heads % kv_heads != 0 || lse.extent(0) != heads ||
      lse.extent(1) != n || received.extent(0) != m)
    throw shape_error(detail::concat(
        "tessera: received_attention of queries (", heads, ", ", n, ", ", d, ") over keys (", kv_heads, ", ", m, ", ",
        K.extent(2), ") with lse (", lse.extent(0), ", ", lse.extent(1), ") into ", received.extent(0),
        ": expected (heads, n, d), (kv_heads, m, d) with kv_heads dividing heads, (heads, n) and m"));
  constexpr Index tile = detail::token_tile;
  const T scale =
      static_cast<T>(options.scale ? *options.scale : 1 / std::sqrt(static_cast<double>(std::max<Index>(d, 1))));
  for_each_chunk(ctx, m, tile, [&](Context& worker, Index begin, Index end) {
    const Index cols = end - begin;
    Workspace::Scope scope(worker.workspace);
    T *const p = scope.take<T>(tile * tile), *const sum = scope.take<T>(tile), *const total = scope.take<T>(tile);
    std::fill_n(total, cols, T(0));
    const Index first = options.causal ? std::clamp<Index>(begin - (m - n), 0, n) : 0;
    for (Index h = 0; h < heads; ++h)
      for (Index i = first; i < n; i += tile) {
        const Index rows = std::min(tile, n - i);
        gemm<T>(worker, scale, Q[h].slice(0, i, rows), K[h / (heads / kv_heads)].slice(0, begin, cols).transposed(),
                T(0), MatrixView<T>(p, rows, cols));
        std::fill_n(sum, cols, T(0));  // a sum a tile: rounding grows with the tiles, not with the queries
        for (Index r = 0; r < rows; ++r) {
          const T shift = lse(h, i + r);
          if (shift == -std::numeric_limits<T>::infinity()) continue;
          const Index seen = options.causal ? std::clamp<Index>(m - n + i + r + 1 - begin, 0, cols) : cols;
          map(worker, detail::AddExp<T>{shift}, VectorView<T>(sum, seen), VectorView<const T>(p + r * cols, seen));
        }
        for (Index j = 0; j < cols; ++j) total[j] += sum[j];
      }
    for (Index j = 0; j < cols; ++j) {
      const Index seen_by = options.causal ? n - std::clamp<Index>(begin + j - (m - n), 0, n) : n;
      received[begin + j] = total[j] / static_cast<T>(heads * (per_query ? std::max<Index>(seen_by, 1) : 1));
    }
  });
}

/// A byte a token, 1 for the ⌈fraction·length⌉ largest scores of every `block` tokens (of the last, what there are);
/// of equals the earlier, NaN last. O(n). Throws shape_error.
template <std::floating_point T>
std::vector<std::uint8_t> keep_top(VectorView<const T> scores, Index block, double fraction) {
  detail::check_blocks("keep_top", scores, block, fraction >= 0 && fraction <= 1, fraction);
  const Index n = scores.extent(0);
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(n), 0);
  std::vector<Index> order;
  const auto value = [&](Index i) { return std::isnan(scores[i]) ? -std::numeric_limits<T>::infinity() : scores[i]; };
  for (Index begin = 0; begin < n;) {
    const Index length = std::min(block, n - begin);
    const double exact = fraction * static_cast<double>(length);
    const Index count = std::min(length, static_cast<Index>(std::ceil(exact - 1e-9 * exact)));  // 0.1·30 is 3
    order.resize(static_cast<std::size_t>(length));
    std::iota(order.begin(), order.end(), begin);
    std::nth_element(order.begin(), order.begin() + count, order.end(),
                     [&](Index a, Index b) { return value(a) != value(b) ? value(a) > value(b) : a < b; });
    for (Index k = 0; k < count; ++k) mask[static_cast<std::size_t>(order[static_cast<std::size_t>(k)])] = 1;
    begin += length;
  }
  return mask;
}

/// A byte a token, 1 where the mean score of its block of `block` tokens is at least `threshold` (a layer's own): whole
/// blocks, so that kept rows come in runs; none where a score is NaN. O(n). Throws shape_error.
template <std::floating_point T>
std::vector<std::uint8_t> keep_above(VectorView<const T> scores, Index block, std::type_identity_t<T> threshold) {
  detail::check_blocks("keep_above", scores, block, !std::isnan(threshold), static_cast<double>(threshold));
  const Index n = scores.extent(0);
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(n), 0);
  for (Index begin = 0; begin < n;) {
    const Index length = std::min(block, n - begin);
    T sum(0);
    for (Index i = begin; i < begin + length; ++i) sum += scores[i];
    if (sum >= threshold * static_cast<T>(length)) std::fill_n(mask.begin() + begin, length, std::uint8_t{1});
    begin += length;
  }
  return mask;
}

/// Tokens [begin, begin + count).
struct TokenSegment {
  Index begin, count;
  friend bool operator==(const TokenSegment&, const TokenSegment&) = default;
};

/// The kept of some tokens, as ascending segments with gaps between them. O(kept) memory.
class KeptTokens {
 public:
  /// Those whose byte is not 0. O(n).
  explicit KeptTokens(std::span<const std::uint8_t> mask) : tokens_(static_cast<Index>(mask.size())) {
    for (Index i = 0; i < tokens_; ++i)
      if (mask[static_cast<std::size_t>(i)] != 0) append({i, 1});
    number();
  }
  /// Throws shape_error unless segments ascend inside [0, tokens) and none overlaps another. Neighbours are joined.
  KeptTokens(Index tokens, std::span<const TokenSegment> segments) : tokens_(tokens) {
    const auto text = [](const TokenSegment& s) { return detail::concat(s.count, " from ", s.begin); };
    for (std::size_t s = 0; s < segments.size(); ++s) {
      const TokenSegment& at = segments[s];
      if (at.begin < 0 || at.count < 1 || at.count > tokens || at.begin > tokens - at.count)
        throw shape_error(
            detail::concat("tessera: KeptTokens: segment ", s, " of ", text(at), " is not within ", tokens, " tokens"));
      if (s > 0 && at.begin - segments[s - 1].begin < segments[s - 1].count)
        throw shape_error(detail::concat("tessera: KeptTokens: segment ", s, " of ", text(at),
                                         " begins before the end of segment ", s - 1, " of ", text(segments[s - 1]),
                                         ": expected segments that ascend and do not overlap"));
      append(at);
    }
    number();
  }

  Index tokens() const { return tokens_; }
  Index kept() const { return rows_.size(); }
  std::span<const TokenSegment> segments() const { return segments_; }
  std::span<const Index> rows() const { return {rows_.data(), static_cast<std::size_t>(kept())}; }  // (kept), ascending

 private:
  void append(const TokenSegment& s) {
    if (!segments_.empty() && segments_.back().begin + segments_.back().count == s.begin)
      segments_.back().count += s.count;
    else
      segments_.push_back(s);
  }
  void number() {
    Index kept = 0;
    for (const auto& s : segments_) kept += s.count;
    rows_ = Buffer<Index>(kept, uninitialized);
    Index* at = rows_.data();
    for (const auto& s : segments_) {
      std::iota(at, at + s.count, s.begin);
      at += s.count;
    }
  }
  Index tokens_;
  std::vector<TokenSegment> segments_;
  Buffer<Index> rows_;
};

}  // namespace tessera::inline TESSERA_ABI
