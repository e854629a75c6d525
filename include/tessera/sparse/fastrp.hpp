/// Embeddings of a graph's vertices by very sparse random projections of its powers.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <numeric>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <tessera/core/context.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/sparse/rows.hpp>

namespace tessera::inline TESSERA_ABI {

/// R (n,d) of entries √s·{+1, -1} with probability 1/(2s) each, else none: E[R Rᵀ] = d·I. Entry (i, j) depends on the
/// seed and its place alone. P. Li, T. Hastie & K. Church, "Very Sparse Random Projections" (KDD 2006), who take s =
/// √n. O(n·d). Throws unsupported_error unless s >= 1, format_error where 32-bit indices do not count R's rows, columns
/// or n·d/s entries.
template <std::floating_point T = float>
Csr<T> very_sparse_random_projection(Index n, Index d, double s, std::uint64_t seed = 0) {
  if (!(s >= 1) || n < 0 || d < 0)
    throw unsupported_error(detail::concat("tessera: very_sparse_random_projection(", n, ", ", d, ", ", s,
                                           "): expected sizes of 0 or more and s >= 1"));
  for (const Index size : {n, d})
    detail::checked_count<std::int32_t>("very_sparse_random_projection", size, "rows or columns");
  const double expected = static_cast<double>(n) * static_cast<double>(d) / s;
  detail::checked_count<std::int32_t>("very_sparse_random_projection", static_cast<Index>(expected),
                                      "expected nonzeros");
  const Philox draws(seed);
  const double share = 4294967296.0 / (2 * s);
  Coo<T> list;
  list.rows = n;
  list.cols = d;
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < d; ++j) {
      const double u =
          draws.bits(static_cast<std::uint64_t>(i) * static_cast<std::uint64_t>(d) + static_cast<std::uint64_t>(j));
      if (u >= 2 * share) continue;
      list.row.push_back(i);
      list.col.push_back(j);
      list.value.push_back(static_cast<T>(u < share ? std::sqrt(s) : -std::sqrt(s)));
    }
  return csr_from_coo<T>(list);
}

struct FastRp {
  double beta = 0;        // the exponent of degrees; negative for fewer large ones
  double s = 0;           // of the projection; 0 for √n
  bool normalize = true;  // each power's rows to unit length before they are weighted
  std::uint64_t seed = 0;
};

/// N (n,d) = Σ_k weights[k - 1]·(D⁻¹A)^k·D^β·R for k = 1 to q, from R outwards, one product with A a power; D the
/// row sums of A, an isolated vertex's row is 0. H. Chen et al., "Fast and Accurate Network Embeddings via Very Sparse
/// Random Projection" (CIKM 2019), Algorithm 1; degrees there are divided by twice the number of edges, a factor of
/// all. 2·nnz·d·q flops, 3·n·d numbers. Throws shape_error, unsupported_error.
template <CompressedRows A, std::floating_point T = element_of<A>>
void fastrp(Context& ctx, const A& a, std::span<const double> weights, MatrixView<std::type_identity_t<T>> N,
            const FastRp& options = {}) {
  const auto rows = sparse_rows(a);
  const Index n = rows.rows, d = N.cols();
  if (rows.cols != n || N.rows() != n)
    throw shape_error(detail::concat("tessera: fastrp of (", detail::csr_text(rows.rows, rows.cols), ") into (",
                                     detail::shape_text(N.rows(), N.cols()),
                                     "): expected a square matrix and its rows"));
  Buffer<T> degree(n), now(n * d), next(n * d, uninitialized);
  for (Index i = 0; i < n; ++i)
    for (Index e = rows.row_ptr[i]; e < rows.row_ptr[i + 1]; ++e) degree[i] += rows.values[e];
  const Csr<T> R = very_sparse_random_projection<T>(
      n, d, options.s > 0 ? options.s : std::max(1.0, std::sqrt(static_cast<double>(n))), options.seed);
  for (Index i = 0; i < n; ++i)
    for (Index e = R.row_ptr().data()[i]; e < R.row_ptr().data()[i + 1]; ++e)
      now[i * d + R.col_idx().data()[e]] =
          degree[i] > T(0)
              ? R.values().data()[e] * static_cast<T>(std::pow(static_cast<double>(degree[i]), options.beta))
              : T(0);
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < d; ++j) N(i, j) = T(0);
  for (const double weight : weights) {
    for_each_chunk(ctx, n, 64, [&](Context&, Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        T* TESSERA_RESTRICT y = next.data() + i * d;
        std::fill_n(y, d, T(0));
        for (Index e = rows.row_ptr[i]; e < rows.row_ptr[i + 1]; ++e) {
          const T value = degree[i] == T(0) ? T(0) : rows.values[e] / degree[i];
          const T* TESSERA_RESTRICT x = now.data() + rows.col_idx[e] * d;
          for (Index j = 0; j < d; ++j) y[j] += value * x[j];
        }
        T size = T(1);
        if (options.normalize) {
          size = std::sqrt(std::inner_product(y, y + d, y, T(0)));
          if (!(size > T(0))) size = T(1);
        }
        const T factor = static_cast<T>(weight) / size;
        for (Index j = 0; j < d; ++j) N(i, j) += factor * y[j];
      }
    });
    now.swap(next);
  }
}

}  // namespace tessera::inline TESSERA_ABI
