/// Exact attention with a fast memory of M words: which tiling moves the fewest words, and carrying it out with every
/// load and store counted.
/// B. Saha, C. Ye, "The I/O Complexity of Attention, or How Optimal is FlashAttention?" (ICML 2024): Θ(n²d²/M) words
/// for M >= d², by FlashAttention's tiles, Θ(n²d/√M) below, by products of √M-sided blocks that spill scores; both
/// optimal.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <limits>
#include <type_traits>

#include <tessera/attention/detail/check.hpp>
#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kernels/attention/attention.hpp>

namespace tessera::inline TESSERA_ABI {

/// Words moved between the fast memory and the slow one.
struct IoCount {
  Index loads = 0, stores = 0;
  Index words() const { return loads + stores; }
  IoCount& operator+=(const IoCount& other) {
    loads += other.loads;
    stores += other.stores;
    return *this;
  }
};

enum class IoRegime {
  flash,   // queries and their sums stay, keys and values stream: no score leaves the fast memory
  blocked  // square blocks of scores, summed over d in the fast memory, spilled as weights; then blocks of the result
};

/// n queries over m keys of d channels in a fast memory of `words`.
struct IoPlan {
  IoRegime regime = IoRegime::flash;
  Index block_q = 0, block_kv = 0;  // rows and keys of a tile
  Index block_d = 0;                // channels of a block of the result
  Index fast_words = 0;             // what the tiles take of the fast memory
  Index spill_words = 0;            // slow memory taken for scores, for each query block at work
};

namespace detail {

inline IoPlan io_flash(Index n, Index m, Index d, Index words) {
  IoPlan plan{IoRegime::flash, 0, 0, d, 0, 0};
  plan.block_kv = std::clamp<Index>(words / (64 * std::max<Index>(d, 1)), 1, std::clamp<Index>(m, 1, 64));
  // Queries, sums, maximum and total of each row; a tile of keys, one of values, a row of scores.
  const Index tiles = plan.block_kv * (2 * d + 1);
  plan.block_q = std::clamp<Index>((words - tiles) / (2 * d + 2), 0, n);
  plan.fast_words = plan.block_q * (2 * d + 2) + tiles;
  return plan;
}

inline IoPlan io_blocked(Index n, Index m, Index d, Index words) {
  IoPlan plan{IoRegime::blocked, 0, 0, 0, 0, 0};
  Index b = static_cast<Index>(std::sqrt(static_cast<double>(words)));  // the largest with b² + 5b <= words
  while (b > 0 && b + 5 > words / b) --b;
  plan.block_q = std::min(b, n);
  plan.block_kv = std::min(b, m);
  plan.block_d = std::min(b, d);
  const Index side = std::max(plan.block_kv, plan.block_d);
  plan.fast_words = plan.block_q * side + 4 * plan.block_q + side;  // a block, four columns, a row
  plan.spill_words = plan.block_q * (m + (m + std::max<Index>(b, 1) - 1) / std::max<Index>(b, 1));
  return plan;
}

}  // namespace detail

/// The smallest fast memory that any plan fits in.
inline constexpr Index io_least_words = 6;

/// Chooses by M >= d², the paper's border, and sizes the tiles to fill M: cache_sizes().l2 / sizeof(T) words, say.
/// Throws shape_error for sizes below 0 or whose words could not be counted, unsupported_error for M < io_least_words.
inline IoPlan plan_attention_io(Index n, Index m, Index d, Index words) {
  const double products =
      128.0 * (static_cast<double>(n) + 1) * (static_cast<double>(m) + 1) * (static_cast<double>(d) + 2);
  if (n < 0 || m < 0 || d < 0 || products > static_cast<double>(std::numeric_limits<Index>::max()))
    throw shape_error(detail::concat("tessera: plan_attention_io of ", n, " queries, ", m, " keys, ", d,
                                     " channels: expected none below 0 and a product that can be counted"));
  if (words < io_least_words)
    throw unsupported_error(detail::concat("tessera: plan_attention_io with a fast memory of ", words,
                                           " words; expected at least ", io_least_words));
  const bool flash = d == 0 || words / d >= d;
  IoPlan plan = flash ? detail::io_flash(n, m, d, words) : detail::io_blocked(n, m, d, words);
  if (flash && n > 0 && plan.block_q == 0) plan = detail::io_blocked(n, m, d, words);  // d of 1 to 4: M of one row
  return plan;
}

/// What a plan moves, for one head.
inline IoCount io_words(const IoPlan& plan, Index n, Index m, Index d) {
  IoCount count;
  if (n == 0 || d == 0) return count;
  const auto up = [](Index a, Index b) { return b == 0 ? Index{0} : (a + b - 1) / b; };
  const Index q_blocks = up(n, plan.block_q), kv_blocks = up(m, plan.block_kv), d_blocks = up(d, plan.block_d);
  count.stores = n * d;
  if (plan.regime == IoRegime::flash) {
    count.loads = n * d + q_blocks * 2 * m * d;
  } else {
    count.loads = kv_blocks * n * d + q_blocks * m * d;                    // scores
    count.stores += n * m + kv_blocks * n;                                 // weights, their maxima
    count.loads += d_blocks * (n * m + kv_blocks * n) + q_blocks * m * d;  // result
  }
  return count;
}

namespace detail {

/// One query block of one head with a fast memory of its own. Slow memory is only read and written where it is counted.
template <class T>
class IoRun {
 public:
  static constexpr T infinity = std::numeric_limits<T>::infinity();
  View<const T, 2> Q, K, V;  // (n, d), (m, d)
  View<T, 2> out;            // (n, d)
  T scale;
  bool causal;
  T* fast;   // plan.fast_words
  T* spill;  // plan.spill_words of slow memory
  IoCount count;

  void flash(const IoPlan& plan, Index row, Index rows) {
    const Index d = Q.cols(), m = K.rows(), b = plan.block_kv;
    T* const q = fast;
    T* const sums = q + plan.block_q * d;
    T* const top = sums + plan.block_q * d;
    T* const total = top + plan.block_q;
    T* const k = total + plan.block_q;
    T* const v = k + b * d;
    T* const y = v + b * d;
    load(Q, row, 0, rows, d, q);
    start(rows, top, total);
    std::fill_n(sums, rows * d, T(0));
    for (Index j = 0; j < m; j += b) {
      const Index keys = std::min(b, m - j);
      load(K, j, 0, keys, d, k);
      load(V, j, 0, keys, d, v);
      for (Index r = 0; r < rows; ++r) {
        for (Index t = 0; t < keys; ++t) {
          T dot = 0;
          for (Index c = 0; c < d; ++c) dot += q[r * d + c] * k[t * d + c];
          y[t] = seen(row + r, j + t) ? dot * scale : -infinity;
        }
        const T fade = weigh(y, 1, keys, top[r], total[r]);
        T* const to = sums + r * d;
        for (Index c = 0; c < d; ++c) to[c] *= fade;
        for (Index t = 0; t < keys; ++t)
          for (Index c = 0; c < d; ++c) to[c] += y[t] * v[t * d + c];
      }
    }
    store(sums, row, 0, rows, d, total);
  }

  /// Weights go out relative to the maximum so far of their row, that goes with them, and are corrected when read.
  void blocked(const IoPlan& plan, Index row, Index rows) {
    const Index d = Q.cols(), m = K.rows(), b = plan.block_kv;
    const Index side = std::max(b, plan.block_d);
    T* const block = fast;
    T* const col = block + plan.block_q * side;
    T* const fade = col + plan.block_q;
    T* const top = fade + plan.block_q;
    T* const total = top + plan.block_q;
    T* const line = total + plan.block_q;
    start(rows, top, total);
    T* slow = spill;
    for (Index j = 0; j < m; j += b) {
      const Index keys = std::min(b, m - j);
      std::fill_n(block, rows * keys, T(0));  // (keys, rows): a column of queries meets each key
      for (Index c = 0; c < d; ++c) {
        load(Q, row, c, rows, 1, col);
        load(K, j, c, keys, 1, line);
        outer(line, keys, col, rows, block);
      }
      for (Index t = 0; t < keys; ++t)
        for (Index r = 0; r < rows; ++r)
          block[t * rows + r] = seen(row + r, j + t) ? block[t * rows + r] * scale : -infinity;
      for (Index r = 0; r < rows; ++r) weigh(block + r, rows, keys, top[r], total[r]);
      slow = std::copy_n(top, rows, std::copy_n(block, rows * keys, slow));
      count.stores += rows * keys + rows;
    }
    for (Index c = 0; c < d; c += plan.block_d) {
      const Index channels = std::min(plan.block_d, d - c);
      std::fill_n(block, rows * channels, T(0));  // (channels, rows)
      const T* from = spill;
      for (Index j = 0; j < m; j += b) {
        const Index keys = std::min(b, m - j);
        const T* const then = from + rows * keys;
        for (Index r = 0; r < rows; ++r) fade[r] = then[r] == top[r] ? T(1) : std::exp(then[r] - top[r]);
        count.loads += rows;
        for (Index t = 0; t < keys; ++t, from += rows) {
          for (Index r = 0; r < rows; ++r) col[r] = from[r] * fade[r];
          count.loads += rows;
          load(V, j + t, c, 1, channels, line);
          outer(line, channels, col, rows, block);
        }
        from += rows;
      }
      for (Index r = 0; r < rows; ++r)
        for (Index k = 0; k < channels; ++k)
          out(row + r, c + k) = total[r] == 0 ? T(0) : block[k * rows + r] / total[r];
      count.stores += rows * channels;
    }
  }

 private:
  bool seen(Index i, Index j) const { return !causal || j <= K.rows() - Q.rows() + i; }
  static void start(Index rows, T* top, T* total) {
    std::fill_n(top, rows, -infinity);
    std::fill_n(total, rows, T(0));
  }
  /// block (lines, rows) += line (lines) ⊗ col (rows)
  static void outer(const T* line, Index lines, const T* col, Index rows, T* block) {
    for (Index t = 0; t < lines; ++t)
      for (Index r = 0; r < rows; ++r) block[t * rows + r] += line[t] * col[r];
  }
  /// Scores to weights relative to the maximum so far; returns what sums so far must be multiplied by.
  static T weigh(T* y, Index stride, Index keys, T& top, T& total) {
    T most = top;
    for (Index t = 0; t < keys; ++t) most = std::max(most, y[t * stride]);
    const T base = most == -infinity ? T(0) : most, fade = std::exp(top - base);
    T sum = 0;
    for (Index t = 0; t < keys; ++t) sum += y[t * stride] = std::exp(y[t * stride] - base);
    total = total * fade + sum;
    top = most;
    return fade;
  }
  void load(const View<const T, 2>& from, Index row, Index col, Index rows, Index cols, T* to) {
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < cols; ++c) to[r * cols + c] = from(row + r, col + c);
    count.loads += rows * cols;
  }
  void store(const T* from, Index row, Index col, Index rows, Index cols, const T* total) {
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < cols; ++c) out(row + r, col + c) = total[r] == 0 ? T(0) : from[r * cols + c] / total[r];
    count.stores += rows * cols;
  }
};

}  // namespace detail

/// Attention in a fast memory of `words` elements of T, as plan_attention_io has it: the same as attention(), for which
/// see shapes, strides and errors. Returns the words moved, which are io_words of the plan for each head. Flops as
/// attention(), twice those of the causal half, since no tile is skipped; in plain loops. Each query block at work has
/// plan.fast_words and plan.spill_words. The same bits for any number of threads.
template <class T>
requires std::floating_point<T> IoCount
attention_io_tiled(Context& ctx, std::type_identity_t<View<const T, 3>> Q,  // (heads, n, d)
                   std::type_identity_t<View<const T, 3>> K,                // (kv_heads, m, d)
                   std::type_identity_t<View<const T, 3>> V,                // (kv_heads, m, d)
                   View<T, 3> out,                                          // (heads, n, d)
                   Index words, AttentionOptions options = {}) {
  detail::check_exact<T>("attention_io_tiled", Q, K, V, out);
  const Index heads = Q.extent(0), n = Q.extent(1), d = Q.extent(2), m = K.extent(1);
  const IoPlan plan = plan_attention_io(n, m, d, words);
  if (out.empty()) return {};
  const T scale = static_cast<T>(options.scale ? *options.scale : 1 / std::sqrt(static_cast<double>(d)));
  const Index blocks = (n + plan.block_q - 1) / plan.block_q;
  Workspace::Scope scope(ctx.workspace);
  IoCount* const counts = scope.take<IoCount>(heads * blocks);
  for_each_chunk(ctx, heads * blocks, 1, [&](Context& worker, Index p, Index) {
    const Index h = p / blocks, kv = h / (heads / K.extent(0)), row = p % blocks * plan.block_q;
    Workspace::Scope own(worker.workspace);
    detail::IoRun<T> run{
        Q[h], K[kv], V[kv], out[h], scale, options.causal, own.take<T>(plan.fast_words), own.take<T>(plan.spill_words),
        {}};
    const Index rows = std::min(plan.block_q, n - row);
    if (plan.regime == IoRegime::flash)
      run.flash(plan, row, rows);
    else
      run.blocked(plan, row, rows);
    counts[p] = run.count;
  });
  IoCount total;
  for (Index p = 0; p < heads * blocks; ++p) total += counts[p];
  return total;
}

}  // namespace tessera::inline TESSERA_ABI
