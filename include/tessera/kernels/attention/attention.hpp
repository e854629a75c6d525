/// Exact attention with an online softmax: no buffer of queries × keys exists.
/// M. Milakov, N. Gimelshein, "Online normalizer calculation for softmax" (2018); T. Dao, "FlashAttention-2" (2023),
/// §3.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kernels/attention/args.hpp>
#include <tessera/kernels/attention/list.hpp>

namespace tessera::inline TESSERA_ABI {

struct AttentionOptions {
  std::optional<double> scale = {};                          // of the scores; 1/sqrt(d) unless given
  bool causal = false;                                       // query i of n sees keys 0 to m - n + i of m
  AttentionPrecision precision = AttentionPrecision::exact;  // what may be rounded
};

/// What attention can return for each query beside the result: (heads, n) each, or no data.
template <class T>
struct AttentionStatistics {
  View<T, 2> lse = {};      // log Σ_j exp(score_j)
  View<T, 2> entropy = {};  // -Σ_j p_j log p_j in nats, 0 where no key is seen
};

/// (out, lse) := the attention over two disjoint sets of keys, from that over each: (out_a, lse_a) and (out, lse).
/// Associative and commutative up to rounding; a set of no keys is (0, -inf).
/// Throws shape_error. O(heads·n·d). V. Ye et al., "FlashInfer" (2025), §2.2.
template <class T>
void merge_states(Context& ctx, View<const std::type_identity_t<T>, 3> out_a,  // (heads, n, d)
                  View<const std::type_identity_t<T>, 2> lse_a,                // (heads, n)
                  View<T, 3> out,                                              // (heads, n, d)
                  View<std::type_identity_t<T>, 2> lse) {                      // (heads, n)
  if (out_a.extents() != out.extents() || lse_a.extents() != lse.extents() || out.extent(0) != lse.extent(0) ||
      out.extent(1) != lse.extent(1))
    throw shape_error(detail::concat(
        "tessera: merge_states of (", out_a.extent(0), ", ", out_a.extent(1), ", ", out_a.extent(2), ") with lse (",
        lse_a.extent(0), ", ", lse_a.extent(1), ") into (", out.extent(0), ", ", out.extent(1), ", ", out.extent(2),
        ") with lse (", lse.extent(0), ", ", lse.extent(1), "): expected equal shapes (heads, n, d) and (heads, n)"));
  const Index n = out.extent(1), d = out.extent(2);
  const Index grain = std::max<Index>(1, 16384 / std::max<Index>(d, 1));
  for_each_chunk(ctx, out.extent(0) * n, grain, [&](Context&, Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      const Index h = r / n, i = r % n;
      T a = lse_a(h, i), b = lse(h, i);
      if (a == -std::numeric_limits<T>::infinity()) continue;
      const T top = std::max(a, b);
      a = std::exp(a - top);
      b = std::exp(b - top);
      const T total = a + b, of_a = a / total, of_b = b / total;
      for (Index c = 0; c < d; ++c) out(h, i, c) = of_b * out(h, i, c) + of_a * out_a(h, i, c);
      lse(h, i) = top + std::log(total);
    }
  });
}

namespace detail {

/// f(worker, s) for each of `count` sequences, side by side where there are enough of them, each on all threads where
/// there are not: who runs a sequence never shows in its bits.
template <class F>
void for_each_sequence(Context& ctx, Index count, F&& f) {
  if (count >= 2 * ctx.concurrency()) {
    for_each_chunk(ctx, count, 1, [&](Context& worker, Index s, Index) { f(worker, s); });
  } else {
    for (Index s = 0; s < count; ++s) f(ctx, s);
  }
}

/// The entropy of two disjoint sets of keys together, from each set's and its log-sum-exp: H = lse - Σ p·s.
template <class T>
T merged_entropy(T entropy_a, T lse_a, T entropy_b, T lse_b) {
  if (lse_a == -std::numeric_limits<T>::infinity()) return entropy_b;
  if (lse_b == -std::numeric_limits<T>::infinity()) return entropy_a;
  const T top = std::max(lse_a, lse_b), a = std::exp(lse_a - top), b = std::exp(lse_b - top), total = a + b;
  const T lse = top + std::log(total);
  return (a * (entropy_a + (lse - lse_a)) + b * (entropy_b + (lse - lse_b))) / total;
}

/// Splits long contexts among pieces where there are few queries, runs the kernel, merges the splits. `args.splits` is
/// chosen here, from the shape alone: a head's bits do not depend on which others run with it.
template <class T>
void run_attention(Context& ctx, AttentionArgs<T> args) {
  constexpr Index split_tokens = 2048;
  constexpr Index few = 4;  // pieces, where all 64 rows of one are used and tokens must keep the cores busy
  const auto& kernel = AttentionKernels<T>::select(ctx, args);
  Index most = 0;
  for (Index h = 0; h < args.kv_heads; ++h) most = std::max(most, args.length(h));
  const bool queries_suffice = args.row_blocks() > 1 && args.kv_heads * args.row_blocks() > few;
  if (queries_suffice || most < 2 * split_tokens) {
    // Some microseconds of work at least: less does not pay for sharing.
    const Index products = std::min(args.rows(), args.block_rows) * std::max<Index>(1, most) * (args.d + args.dv());
    launch(ctx, kernel, args, args.pieces(), std::max<Index>(1, (Index{1} << 17) / std::max<Index>(1, products)));
    return;
  }
  const Index heads = args.out.extent(0), n = args.n, d = args.dv();
  args.splits = (most + split_tokens - 1) / split_tokens;
  args.split_tokens = split_tokens;
  args.out_split = heads * n * d;
  args.lse_split = heads * n;
  Workspace::Scope scope(ctx.workspace);
  const Index begin = args.first_head * args.group, count = args.heads_to_run() * args.group;
  const auto whole_out = args.out;
  const auto whole_lse = args.lse, whole_entropy = args.entropy;
  args.out = View<T, 3>(scope.take<T>(args.splits * args.out_split), {heads, n, d});
  args.lse = View<T, 2>(scope.take<T>(args.splits * args.lse_split), {heads, n});
  if (whole_entropy.data() != nullptr)
    args.entropy = View<T, 2>(scope.take<T>(args.splits * args.lse_split), {heads, n});
  launch(ctx, kernel, args, args.pieces(), 1);
  for (Index s = 1; s < args.splits; ++s) {
    for (Index r = begin * n; args.entropy.data() != nullptr && r < (begin + count) * n; ++r)
      args.entropy.data()[r] =
          merged_entropy(args.entropy.data()[s * args.lse_split + r], args.lse.data()[s * args.lse_split + r],
                         args.entropy.data()[r], args.lse.data()[r]);
    merge_states<T>(ctx, View<const T, 3>(args.out.data() + s * args.out_split + begin * n * d, {count, n, d}),
                    View<const T, 2>(args.lse.data() + s * args.lse_split + begin * n, {count, n}),
                    args.out.slice(0, begin, count), args.lse.slice(0, begin, count));
  }
  for (Index h = begin; h < begin + count; ++h)
    for (Index i = 0; i < n; ++i) {
      for (Index c = 0; c < d; ++c) whole_out(h, i, c) = args.out(h, i, c);
      if (whole_lse.data() != nullptr) whole_lse(h, i) = args.lse(h, i);
      if (whole_entropy.data() != nullptr) whole_entropy(h, i) = args.entropy(h, i);
    }
}

/// The arguments of attention over kv_heads x m keys of d channels and values of dv. Throws shape_error unless they
/// fit.
template <class T>
AttentionArgs<T> attention_args(View<const T, 3> Q, const std::array<Index, 3>& keys,
                                const std::array<Index, 3>& values, View<T, 3> out, const AttentionOptions& options,
                                const AttentionStatistics<T>& also) {
  const auto text = [](const std::array<Index, 3>& e) { return concat('(', e[0], ", ", e[1], ", ", e[2], ')'); };
  const Index heads = Q.extent(0), n = Q.extent(1), d = Q.extent(2), kv_heads = keys[0], dv = values[2];
  if (values[0] != kv_heads || values[1] != keys[1] || keys[2] != d)
    throw shape_error(concat("tessera: attention of queries ", text(Q.extents()), " over keys ", text(keys),
                             " and values ", text(values), ": expected keys (kv_heads, m, ", d,
                             ") and values (kv_heads, m, dv)"));
  if (kv_heads == 0 ? heads != 0 : heads % kv_heads != 0)
    throw shape_error(concat("tessera: attention of queries ", text(Q.extents()), " over keys ", text(keys), ": ",
                             heads, " heads are not a multiple of ", kv_heads, " kv heads"));
  if (out.extents() != std::array<Index, 3>{heads, n, dv})
    throw shape_error(concat("tessera: attention of queries ", text(Q.extents()), ": the result is ",
                             text({heads, n, dv}), ", the destination is ", text(out.extents())));
  for (const auto& [name, of] : {std::pair{"lse", also.lse}, std::pair{"entropy", also.entropy}})
    if (of.data() != nullptr && (of.extent(0) != heads || of.extent(1) != n))
      throw shape_error(concat("tessera: attention of queries ", text(Q.extents()), ": ", name, " is ",
                               shape_text(heads, n), ", the destination is ", shape_text(of.extent(0), of.extent(1))));
  if (options.scale && !std::isfinite(*options.scale))
    throw shape_error(concat("tessera: attention of queries ", text(Q.extents()), " over keys ", text(keys),
                             ": the scale is ", *options.scale, "; expected a finite number"));
  AttentionArgs<T> args;
  args.Q = Q;
  args.out = out;
  args.lse = also.lse;
  args.entropy = also.entropy;
  args.kv_heads = kv_heads;
  args.group = kv_heads == 0 ? 1 : heads / kv_heads;
  args.n = n;
  args.d = d;
  args.m = keys[1];
  args.causal = options.causal;
  args.precision = options.precision;
  args.scale =
      static_cast<T>(options.scale ? *options.scale : 1 / std::sqrt(static_cast<double>(std::max<Index>(d, 1))));
  return args;
}

/// Throws shape_error unless the last extent of each is contiguous.
template <class... Views>
void check_contiguous(std::string_view names, const Views&... views) {
  if (((views.extent(2) <= 1 || views.stride(2) == 1) && ...)) return;
  std::string strides;
  ((strides += concat(strides.empty() ? "" : ", ", views.stride(2))), ...);
  throw shape_error(concat("tessera: attention: strides of d in ", names, " are ", strides, "; expected 1"));
}

}  // namespace detail

/// out_i = Σ_j softmax_j(scale · q_i·k_j) v_j for each head, heads in groups that share a kv head (grouped-query
/// attention: head h reads kv head h / (heads / kv_heads)). Any strides, d and dv contiguous. A query that sees no key
/// gives zeros and lse = -inf. Scores may be large (the softmax is taken relative to the largest). A NaN or an infinity
/// among the values may reach every query that meets its tile of 64 tokens, masked or not.
/// Writes lse_i = log Σ_j exp(scale · q_i·k_j) where `lse` has data; see merge_states. `out` must not overlap the
/// inputs. Throws shape_error. O(heads·n·m·(d + dv)) flops, O(heads·n·dv) memory; the same bits for any number of
/// threads. Masks and score-mods: attention/attention.hpp.
template <class T>
requires std::floating_point<T>
void attention(Context& ctx, View<const std::type_identity_t<T>, 3> Q,                      // (heads, n, d)
               View<const std::type_identity_t<T>, 3> K,                                    // (kv_heads, m, d)
               View<const std::type_identity_t<T>, 3> V,                                    // (kv_heads, m, dv)
               View<T, 3> out,                                                              // (heads, n, dv)
               AttentionOptions options = {}, View<std::type_identity_t<T>, 2> lse = {}) {  // (heads, n)
  AttentionArgs<T> args = detail::attention_args<T>(Q, K.extents(), V.extents(), out, options, {.lse = lse});
  detail::check_contiguous("queries, keys, values, result", Q, K, V, out);
  if (out.extent(0) == 0 || out.extent(1) == 0) return;
  args.keys = tile_source(K);
  args.values = tile_source(V);
  detail::run_attention(ctx, args);
}

}  // namespace tessera::inline TESSERA_ABI
