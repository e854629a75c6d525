/// Decoding over the k blocks of keys that score highest, and what it costs.
/// R. Sadhukhan et al., "Kinetics: Rethinking Test-Time Scaling Laws" (2025), §4; a block's score is the query's
/// product with its mean key.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include <tessera/attention/attention.hpp>
#include <tessera/core/error.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/simd/pack.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

/// to (d) += the sum of X's rows; d contiguous.
template <class T>
void add_rows(MatrixView<const T> X, T* to) {
  using V = simd::Vec<T, simd::Portable<>>;
  for (Index c = 0; c < X.cols(); c += V::width) {
    const Index width = std::min<Index>(V::width, X.cols() - c);
    V sum = V::load(to + c, width);
    for (Index j = 0; j < X.rows(); ++j) sum = sum + V::load(X.data() + j * X.row_stride() + c, width);
    sum.store(to + c, width);
  }
}

}  // namespace detail

/// means(g, b) = the mean of keys [b·block, (b+1)·block) of kv head g, the last block shorter; blocks from `first` on
/// only, so that a growing cache keeps the means of its full blocks. Keys of any storage, see attention(). Throws
/// shape_error. O(kv_heads·m·d).
template <class T, class Keys>
void block_means(Context& ctx, const Keys& K, Index block,  // (kv_heads, m, d)
                 View<T, 3> means, Index first = 0) {       // (kv_heads, ceil(m / block), d)
  decltype(auto) keys = detail::token_storage<T>(ctx, K);
  detail::check_contiguous("means", means);
  const auto [kv_heads, m, d] = keys.extents();
  const Index blocks = block > 0 ? m / block + (m % block != 0) : -1;
  if (block <= 0 || first < 0 || means.extents() != std::array<Index, 3>{kv_heads, blocks, d})
    throw shape_error(detail::concat("tessera: block_means of keys (", kv_heads, ", ", m, ", ", d, ") in blocks of ",
                                     block, " from block ", first, ": means are (", kv_heads, ", ", blocks, ", ", d,
                                     "), the destination is (", means.extent(0), ", ", means.extent(1), ", ",
                                     means.extent(2), ')'));
  const TileSource<T> source = keys.source();
  constexpr Index tile = AttentionArgs<T>::tile_tokens;
  const Index of_head = std::max<Index>(blocks - first, 0), tokens = m, width = d;
  for_each_chunk(ctx, kv_heads * of_head, 8, [&](Context& worker, Index begin, Index end) {
    Workspace::Scope scope(worker.workspace);
    T* const scratch = scope.take<T>(tile * width);
    for (Index x = begin; x < end; ++x) {
      const Index g = x / of_head, b = first + x % of_head, last = std::min(tokens, (b + 1) * block);
      T* const mean = &means(g, b, 0);
      std::fill_n(mean, width, T(0));
      for (Index j = b * block; j < last; j += tile) {
        const Index count = std::min(tile, last - j);
        Index stride = width;
        const T* const rows = source.tile(source.state, g, j, count, scratch, stride);
        detail::add_rows<T>({rows, {count, width}, {stride, 1}}, mean);
      }
      for (Index c = 0; c < width; ++c) mean[c] /= static_cast<T>(last - b * block);
    }
  });
}

namespace detail {

/// Tokens of chosen blocks as if they stood next to each other.
template <class T>
struct ChosenTokens {
  TileSource<T> from;
  const Index* chosen;  // (kv_heads, k), ascending
  Index k, block, d;

  Index token(Index head, Index j) const { return chosen[head * k + j / block] * block + j % block; }
  Index rest(Index j) const { return block - j % block; }  // tokens from j on that stand next to each other
  static const T* tile(const void* state, Index head, Index begin, Index count, T* scratch, Index& stride) noexcept {
    const auto& self = *static_cast<const ChosenTokens*>(state);
    const auto read = [&](Index j, Index rows, T* to, Index& ld) {
      return self.from.tile(self.from.state, head, self.token(head, j), rows, to, ld);
    };
    if (count <= self.rest(begin)) return read(begin, count, scratch, stride);
    stride = self.d;
    for (Index j = begin; j < begin + count;) {
      const Index rows = std::min(self.rest(j), begin + count - j);
      T* const to = scratch + (j - begin) * self.d;
      Index ld = self.d;
      const T* const x = read(j, rows, to, ld);
      for (Index r = 0; x != to && r < rows; ++r)
        std::memcpy(to + r * self.d, x + r * ld, static_cast<std::size_t>(self.d) * sizeof(T));
      j += rows;
    }
    return scratch;
  }
  static TokenCodes codes(const void* state, Index head, Index begin) noexcept {
    const auto& self = *static_cast<const ChosenTokens*>(state);
    TokenCodes found = self.from.codes(self.from.state, head, self.token(head, begin));
    found.count = std::min(found.count, self.rest(begin));
    return found;
  }
  TileSource<T> source() const { return {this, &ChosenTokens::tile, from.codes == nullptr ? nullptr : &codes}; }
};

}  // namespace detail

/// Exact attention over each kv head's k highest blocks. A block's score for a kv head is the largest of its queries'
/// products with the block's mean; the last block is always among the k. No mask: for decoding, where all cached keys
/// are seen. k >= blocks is attention over everything. Keys and values of any storage, see attention(). Reads means and
/// k·block keys and values a kv head; in place where the kernel's tile of 64 tokens lies in one block, so blocks are
/// best multiples of 64. Throws shape_error. O(heads·n·(blocks + k·block)·d).
template <class T, class Keys, class Values>
void block_top_k_attention(Context& ctx, View<const std::type_identity_t<T>, 3> Q,  // (heads, n, d)
                           const Keys& K,                                           // (kv_heads, m, d)
                           const Values& V,                                         // (kv_heads, m, dv)
                           View<const std::type_identity_t<T>, 3> means,            // (kv_heads, ceil(m / block), d)
                           Index block, Index k, View<T, 3> out,                    // (heads, n, dv)
                           AttentionOptions options = {}, AttentionStatistics<std::type_identity_t<T>> also = {}) {
  decltype(auto) all_keys = detail::token_storage<T>(ctx, K);
  decltype(auto) all_values = detail::token_storage<T>(ctx, V);
  AttentionArgs<T> args = detail::attention_args<T>(Q, all_keys.extents(), all_values.extents(), out, options, also);
  detail::check_contiguous("queries, result", Q, out);
  const Index kv_heads = args.kv_heads, m = args.m, d = args.d, n = args.n;
  const Index blocks = block > 0 ? m / block + (m % block != 0) : -1;
  if (block <= 0 || k < 1 || options.causal || means.extents() != std::array<Index, 3>{kv_heads, blocks, d})
    throw shape_error(detail::concat("tessera: block_top_k_attention over ", k, " blocks of ", block, " of ", m,
                                     " keys: means are (", means.extent(0), ", ", means.extent(1), ", ",
                                     means.extent(2), "), causal ", options.causal, "; expected (", kv_heads, ", ",
                                     blocks, ", ", d, "), not causal, and at least one block"));
  if (out.extent(0) == 0 || n == 0) return;
  k = std::min(k, blocks);
  Workspace::Scope scope(ctx.workspace);
  Index* const chosen = scope.take<Index>(std::max<Index>(kv_heads * k, 1));
  Index* const lengths = scope.take<Index>(kv_heads);
  const Index rows = args.group * n;
  const MatrixView<T> scores(scope.take<T>(rows * blocks), rows, blocks);
  Index* const order = scope.take<Index>(std::max<Index>(blocks, 1));
  for (Index g = 0; g < kv_heads && blocks > 0; ++g) {
    const auto product = [&](MatrixView<const T> queries, Index row) {
      gemm<T>(ctx, args.scale, queries, means[g].transposed(), T(0), scores.slice(0, row, queries.rows()));
    };
    if (n == 1)
      product(MatrixView<const T>(&Q(g * args.group, 0, 0), {args.group, d}, {Q.stride(0), 1}), 0);
    else
      for (Index h = 0; h < args.group; ++h) product(Q[g * args.group + h], h * n);
    T* const score = scores.data();
    for (Index r = 1; r < rows; ++r)
      for (Index b = 0; b < blocks; ++b)
        if (scores(r, b) > score[b] || std::isnan(score[b])) score[b] = scores(r, b);
    for (Index b = 0; b < blocks; ++b)
      if (std::isnan(score[b])) score[b] = -std::numeric_limits<T>::infinity();  // NaN to every query
    score[blocks - 1] = std::numeric_limits<T>::infinity();
    std::iota(order, order + blocks, Index{0});
    std::partial_sort(order, order + k, order + blocks,
                      [&](Index a, Index b) { return score[a] > score[b] || (!(score[b] > score[a]) && a < b); });
    std::sort(order, order + k);
    std::copy_n(order, k, chosen + g * k);
    lengths[g] = (k - 1) * block + (m - (blocks - 1) * block);
  }
  if (blocks == 0) std::fill_n(lengths, kv_heads, Index{0});
  const detail::ChosenTokens<T> keys{all_keys.source(), chosen, k, block, d};
  const detail::ChosenTokens<T> values{all_values.source(), chosen, k, block, args.dv()};
  args.keys = keys.source();
  args.values = values.source();
  args.m = std::min(m, k * block);
  args.lengths = lengths;
  detail::run_attention(ctx, args);
}

/// A model as the cost of decoding sees it; bytes of a parameter and of a cached number.
struct KineticsModel {
  double parameters = 0;
  Index layers = 0, heads = 0, kv_heads = 0, head_dim = 0;
  double parameter_bytes = 2, cache_bytes = 2;
  double intensity = 100;  // flops the hardware does in the time of reading a byte
  double batch = 1;        // sequences that share the reading of parameters
};

/// eFLOPs of decoding one token over `context` cached ones of which `kept` are read: compute, 2·P +
/// 4·layers·heads·d·kept, plus intensity · bytes, of parameters (shared by the batch) and of keys and values. Eq. 2 and
/// 4 of the paper, in bytes instead of words. A block top-k of k blocks reads kept = k·block tokens and context/block
/// means of keys.
inline double kinetics_cost(const KineticsModel& model, double context, double kept, double block = 0) {
  const double means = block > 0 && kept < context ? context / block : 0;
  const auto width = [&](Index heads) {
    return static_cast<double>(model.layers) * static_cast<double>(heads) * static_cast<double>(model.head_dim);
  };
  const double compute = 2 * model.parameters + width(model.heads) * (4 * kept + 2 * means);
  const double bytes = model.parameter_bytes * model.parameters / model.batch +
                       model.cache_bytes * width(model.kv_heads) * (2 * kept + means);
  return compute + model.intensity * bytes;
}

}  // namespace tessera::inline TESSERA_ABI
