/// A weight for each type of row or edge, and softmax over the edges of a destination.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <span>
#include <type_traits>

#include <tessera/core/context.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/sparse/gather.hpp>
#include <tessera/sparse/rows.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {
template <class T>
void check_types(const char* what, std::span<const Index> type_ptr, Index rows, View<const T, 3> W, Index in,
                 Index out) {
  bool good = static_cast<Index>(type_ptr.size()) == W.extent(0) + 1 && W.extent(1) == in && W.extent(2) == out &&
              type_ptr.front() == 0 && type_ptr.back() == rows;
  for (std::size_t r = 0; good && r + 1 < type_ptr.size(); ++r) good = type_ptr[r] <= type_ptr[r + 1];
  if (!good)
    throw shape_error(concat("tessera: ", what, " of ", rows, " rows of ", type_ptr.empty() ? 0 : type_ptr.size() - 1,
                             " types with ", W.extent(0), " weights of (", shape_text(W.extent(1), W.extent(2)),
                             "): expected a weight of (", shape_text(in, out),
                             ") a type, and types that begin one after another"));
}
}  // namespace detail

/// Y (E,d') := X (E,d) times W (R,d,d') of its row's type: rows [type_ptr[r], type_ptr[r + 1]) are of type r; types may
/// be empty. One gemm a type, in place. 2·E·d·d' flops. Throws shape_error.
template <std::floating_point T>
void segment_mm(Context& ctx, MatrixView<const T> X, View<const T, 3> W, std::span<const Index> type_ptr,
                MatrixView<T> Y) {
  detail::check_types("segment_mm", type_ptr, X.rows() == Y.rows() ? X.rows() : -1, W, X.cols(), Y.cols());
  for (Index r = 0; r < W.extent(0); ++r) {
    const Index begin = type_ptr[static_cast<std::size_t>(r)],
                count = type_ptr[static_cast<std::size_t>(r) + 1] - begin;
    if (count > 0) gemm<T>(ctx, T(1), X.slice(0, begin, count), W[r], T(0), Y.slice(0, begin, count));
  }
}

/// Y[target[e]] += X[source[e]]·W_type(e) over edges grouped by type: gather, gemm, scatter by tiles of 128 edges that
/// stay in cache, so that neither the E × d nor the E × d' buffer exists. Y is added to in the order of the edges. K.
/// Wu et al., "Hector: An Efficient Programming and Compilation Framework for Implementing Relational Graph Neural
/// Networks in GPU Architectures" (2023), its GEMM template. 2·E·d·d' flops; scratch 128·(d + d'). Throws shape_error.
template <std::floating_point T, std::signed_integral I>
void typed_linear(Context& ctx, MatrixView<const T> X, std::span<const I> source, View<const T, 3> W,
                  std::span<const Index> type_ptr, std::span<const I> target, MatrixView<T> Y) {
  const Index E = static_cast<Index>(source.size()), in = X.cols(), out = Y.cols();
  detail::check_types("typed_linear", type_ptr, target.size() == source.size() ? E : -1, W, in, out);
  detail::check_ids("typed_linear's sources", X.rows(), source, E, in, in);
  detail::check_ids("typed_linear's targets", Y.rows(), target, E, out, out);
  constexpr Index tile = 128;
  Workspace::Scope scope(ctx.workspace);
  T* gathered = scope.take<T>(tile * in);
  T* product = scope.take<T>(tile * out);
  for (Index r = 0; r < W.extent(0); ++r) {
    const Index last = type_ptr[static_cast<std::size_t>(r) + 1];
    for (Index e = type_ptr[static_cast<std::size_t>(r)]; e < last; e += tile) {
      const Index count = std::min(tile, last - e);
      const auto some = [&](std::span<const I> ids) {
        return ids.subspan(static_cast<std::size_t>(e), static_cast<std::size_t>(count));
      };
      gather_rows(ctx, X, some(source), MatrixView<T>(gathered, count, in));
      const MatrixView<T> P(product, count, out);
      gemm<T>(ctx, T(1), MatrixView<const T>(gathered, count, in), W[r], T(0), P);
      scatter_add_rows<T, I>(ctx, some(target), P, Y);
    }
  }
}

/// scores (nnz,H) := softmax over the entries of each row of A (its incoming edges), each head alone, in place. Rows
/// without entries have nothing. O(nnz·H). Throws shape_error.
template <CompressedRows A, std::floating_point T>
void edge_softmax(Context& ctx, const A& a, MatrixView<T> scores) {
  const auto rows = sparse_rows(a);
  if (scores.rows() != rows.nnz())
    throw shape_error(detail::concat("tessera: edge_softmax of (", detail::shape_text(scores.rows(), scores.cols()),
                                     ") over (", detail::csr_text(rows.rows, rows.cols),
                                     "): expected a row for each of ", rows.nnz(), " entries"));
  for_each_chunk(ctx, rows.rows, 256, [&](Context&, Index begin, Index end) {
    for (Index i = begin; i < end; ++i)
      for (Index h = 0; h < scores.cols(); ++h) {
        const Index first = rows.row_ptr[i], last = rows.row_ptr[i + 1];
        if (first == last) continue;
        T most = scores(first, h), sum = T(0);
        for (Index e = first; e < last; ++e) most = std::max(most, scores(e, h));
        for (Index e = first; e < last; ++e) sum += scores(e, h) = std::exp(scores(e, h) - most);
        for (Index e = first; e < last; ++e) scores(e, h) /= sum;
      }
  });
}

}  // namespace tessera::inline TESSERA_ABI
