/// What compressing a cache cost.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <vector>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>

namespace tessera::inline TESSERA_ABI::kv {

class KvCacheBase;

/// Queries that stand for those to come; they see every token.
struct KvProbe {
  View<const float, 3> queries = {};  // (heads, n, d), or empty
  Index top_k = 32;                   // tokens a query's recall is counted over
  std::optional<double> scale = {};   // of the scores; 1/sqrt(d) unless given
  bool report = true;                 // how far attention moved: it is computed twice

  /// Throws shape_error for queries that do not fit a cache, unsupported_error for a top_k below 0 or a scale that is
  /// not finite.
  void check(Index kv_heads, Index head_dim) const {
    using tessera::detail::concat;
    const auto& Q = queries;
    if (top_k < 0 || (scale && !std::isfinite(*scale)))
      throw unsupported_error(concat("tessera: a probe of the top ", top_k, " tokens with scores times ",
                                     scale.value_or(1), "; expected at least 0 and a finite scale"));
    if (!Q.empty() && (Q.extent(0) % kv_heads != 0 || Q.extent(2) != head_dim || (head_dim > 1 && Q.stride(2) != 1)))
      throw shape_error(concat("tessera: a probe of queries (", Q.extent(0), ", ", Q.extent(1), ", ", Q.extent(2),
                               "), strides of d ", Q.stride(2), ", for a cache of ", kv_heads, " kv heads of ",
                               head_dim, ": expected heads that these divide, and contiguous channels"));
  }
};

/// What a policy did, and what it cost: the result of `compress`.
struct KvReport {
  std::size_t bytes_before = 0, bytes_after = 0;  // capacity held
  Index tokens_before = 0, tokens_after = 0;      // of all kv heads
  /// With probe queries: |out - out_before| / |out_before| (Frobenius), and the mean share of a query's top_k most
  /// attended tokens, before, that are among its top_k after. Where keys are rotated anew, before that, since the
  /// probes are queries of the old positions; nothing if tokens go after it too.
  std::optional<double> output_error, top_k_recall;
};

/// The attention of probe queries over a cache, and their most attended tokens by position.
struct KvObservation {
  std::vector<float> out;                 // (heads, n, d)
  std::vector<std::vector<Index>> top_k;  // (heads * n), ascending positions
};

/// O(heads·n·tokens·d), and as many scores held as one kv head's queries and tokens make. Throws shape_error.
KvObservation observe(Context& ctx, const KvCacheBase& cache, const KvProbe& probe);

/// Fills in output_error and top_k_recall.
inline void compare(const KvObservation& reference, const KvObservation& now, KvReport& report) {
  double error = 0, size = 0;
  for (std::size_t i = 0; i < reference.out.size(); ++i) {
    const double was = static_cast<double>(reference.out[i]), moved = static_cast<double>(now.out[i]) - was;
    error += moved * moved;
    size += was * was;
  }
  report.output_error = error == 0 ? 0 : std::sqrt(error / size);
  double recall = 0;
  Index counted = 0;
  for (std::size_t q = 0; q < reference.top_k.size(); ++q) {
    const auto& wanted = reference.top_k[q];
    if (wanted.empty()) continue;
    Index found = 0;
    for (const Index position : wanted)
      if (std::binary_search(now.top_k[q].begin(), now.top_k[q].end(), position)) ++found;
    recall += static_cast<double>(found) / static_cast<double>(wanted.size());
    ++counted;
  }
  report.top_k_recall = counted == 0 ? 1 : recall / static_cast<double>(counted);
}

/// A compressed cache against the one that was not: bytes and tokens of both, and how far attention moved.
/// Throws shape_error if the probe does not fit either.
KvReport compare(Context& ctx, const KvCacheBase& reference, const KvCacheBase& cache, const KvProbe& probe);

}  // namespace tessera::inline TESSERA_ABI::kv
