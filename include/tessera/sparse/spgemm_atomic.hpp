/// Sparse times sparse by threads that write one hash table together.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include <tessera/core/context.hpp>
#include <tessera/sparse/rows.hpp>

namespace tessera::inline TESSERA_ABI {

/// SMASH. S. Shivdikar, "SMASH: Sparse Matrix Atomic Scratchpad Hashing" (2021). Rows of C are taken in windows whose
/// products fit half of a table of `slots` (or one row's, if that has more); the window's entries of A are shared out
/// whatever row they are of, a product claims its (row, column) by compare-and-swap and adds to it atomically; then the
/// table is compacted and sorted into rows. The pattern never depends on the threads; sums do in their last bits, for
/// they are in the order of arrival, which is why `spgemm` gives rows to one thread each. Kept for comparison:
/// O(products) and a sort. Throws shape_error, unsupported_error for more entries than I counts.
template <CompressedRows A, CompressedRows B>
Csr<element_of<A>, index_of<A>> spgemm_atomic(Context& ctx, const A& a, const B& b, Index slots = Index{1} << 16) {
  using T = element_of<A>;
  using I = index_of<A>;
  if (a.cols() != b.rows())
    throw shape_error(detail::concat("tessera: spgemm_atomic of (", detail::csr_text(a.rows(), a.cols()), ") * (",
                                     detail::csr_text(b.rows(), b.cols()), "): columns ", a.cols(), " != rows ",
                                     b.rows()));
  const auto x = sparse_rows(a);
  const auto y = sparse_rows(b);
  std::vector<Index> bound(static_cast<std::size_t>(a.rows()));
  Index most = 1;
  for (Index i = 0; i < a.rows(); ++i) {
    Index sum = 0;
    for (Index e = x.row_ptr[i]; e < x.row_ptr[i + 1]; ++e) {
      const Index k = x.col_idx[e];
      sum += static_cast<Index>(y.row_ptr[k + 1]) - y.row_ptr[k];
    }
    most = std::max(most, bound[static_cast<std::size_t>(i)] = std::min(sum, b.cols()));
  }
  const auto size = std::bit_ceil(static_cast<std::size_t>(std::max(slots, 2 * most)));
  constexpr std::uint64_t free = ~std::uint64_t{0};
  const std::unique_ptr<std::atomic<std::uint64_t>[]> keys(new std::atomic<std::uint64_t>[size]);
  const std::unique_ptr<std::atomic<T>[]> sums(new std::atomic<T>[size]);
  for (std::size_t s = 0; s < size; ++s) keys[s].store(free, std::memory_order_relaxed);

  Buffer<I> row_ptr(a.rows() + 1);
  std::vector<I> columns;
  std::vector<T> values;
  std::vector<std::pair<std::uint64_t, T>> found;
  const Index most_rows = std::numeric_limits<Index>::max() / std::max<Index>(b.cols(), 1);  // keys are unique
  for (Index first = 0; first < a.rows();) {
    Index last = first, held = 0;
    while (last < a.rows() && last - first < most_rows &&
           (last == first || held + bound[static_cast<std::size_t>(last)] <= static_cast<Index>(size / 2)))
      held += bound[static_cast<std::size_t>(last++)];
    const Index from = x.row_ptr[first];
    for (std::size_t s = 0; s < size; ++s) sums[s].store(T(0), std::memory_order_relaxed);
    for_each_chunk(ctx, x.row_ptr[last] - from, 16, [&](Context&, Index begin, Index end) {
      Index i = std::upper_bound(x.row_ptr + first, x.row_ptr + last, static_cast<I>(from + begin)) - x.row_ptr - 1;
      for (Index e = from + begin; e < from + end; ++e) {
        while (x.row_ptr[i + 1] <= e) ++i;
        for (Index t = y.row_ptr[x.col_idx[e]]; t < y.row_ptr[x.col_idx[e] + 1]; ++t) {
          const auto key = static_cast<std::uint64_t>((i - first) * b.cols() + y.col_idx[t]);
          std::size_t slot = (key * 0x9E3779B97F4A7C15u >> 20) & (size - 1);
          for (;; slot = (slot + 1) & (size - 1)) {
            std::uint64_t seen = free;
            if (keys[slot].compare_exchange_strong(seen, key, std::memory_order_relaxed) || seen == key) break;
          }
          sums[slot].fetch_add(x.values[e] * y.values[t], std::memory_order_relaxed);
        }
      }
    });
    found.clear();
    for (std::size_t s = 0; s < size; ++s)
      if (const auto key = keys[s].load(std::memory_order_relaxed); key != free) {
        found.emplace_back(key, sums[s].load(std::memory_order_relaxed));
        keys[s].store(free, std::memory_order_relaxed);
      }
    std::sort(found.begin(), found.end(), [](const auto& p, const auto& q) { return p.first < q.first; });
    if (found.size() > static_cast<std::size_t>(std::numeric_limits<I>::max()) - columns.size())
      throw unsupported_error(detail::concat("tessera: spgemm_atomic of (", detail::csr_text(a.rows(), a.cols()),
                                             ") * (", detail::csr_text(b.rows(), b.cols()), "): over ",
                                             std::numeric_limits<I>::max(),
                                             " entries, more than the index type counts"));
    for (const auto& [key, sum] : found) {
      ++row_ptr[first + static_cast<Index>(key / static_cast<std::uint64_t>(b.cols())) + 1];
      columns.push_back(static_cast<I>(key % static_cast<std::uint64_t>(b.cols())));
      values.push_back(sum);
    }
    first = last;
  }
  for (Index i = 0; i < a.rows(); ++i) row_ptr[i + 1] = static_cast<I>(row_ptr[i + 1] + row_ptr[i]);
  Buffer<I> col_idx(static_cast<Index>(columns.size()), uninitialized);
  Buffer<T> out(col_idx.size(), uninitialized);
  std::copy(columns.begin(), columns.end(), col_idx.data());
  std::copy(values.begin(), values.end(), out.data());
  return {trusted, a.rows(), b.cols(), std::move(row_ptr), std::move(col_idx), std::move(out)};
}

}  // namespace tessera::inline TESSERA_ABI
