/// How central the vertices of a graph are: closeness, straightness, betweenness, eigenvector.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include <tessera/core/context.hpp>
#include <tessera/core/view.hpp>
#include <tessera/sparse/rows.hpp>

namespace tessera::inline TESSERA_ABI {

/// Whether an edge is as long as its value, or 1.
enum class EdgeLength { unit, value };

namespace detail {

template <CompressedRows A>
void check_graph(const char* what, const A& a, std::size_t out) {
  if (a.rows() != a.cols() || static_cast<std::size_t>(a.rows()) != out)
    throw shape_error(concat("tessera: ", what, " of (", csr_text(a.rows(), a.cols()), ") into ", out,
                             " values: expected a square matrix and one a vertex"));
}
template <CompressedRows A>
void check_lengths(const char* what, const A& a, EdgeLength length) {
  if (length == EdgeLength::unit) return;
  for (const auto v : a.values())
    if (!(v > 0) || !std::isfinite(static_cast<double>(v)))
      throw unsupported_error(concat("tessera: ", what, " of (", csr_text(a.rows(), a.cols()),
                                     ") with an edge of length ", static_cast<double>(v),
                                     "; expected finite lengths over 0"));
}

/// A number of paths: count · 2^(512·scale), count below 2^512.
struct PathCount {
  double count = 0;
  int scale = 0;
  void operator+=(const PathCount& more) {
    if (more.scale > scale) *this = {reduced(count, more.scale - scale), more.scale};
    count += reduced(more.count, scale - more.scale);
    if (count >= 0x1p512) *this = {count * 0x1p-512, scale + 1};
  }
  /// Paths to a vertex are no more than those through it.
  friend double operator/(const PathCount& a, const PathCount& b) {
    return reduced(a.count / b.count, b.scale - a.scale);
  }

 private:
  static double reduced(double x, int scales) {
    return scales == 0 ? x : scales == 1 ? x * 0x1p-512 : scales == 2 ? x * 0x1p-512 * 0x1p-512 : 0;
  }
};

/// Shortest paths from one vertex along rows: E. Dijkstra (1959); counts of them by U. Brandes (2001).
struct ShortestPaths {
  static constexpr double far = std::numeric_limits<double>::infinity();
  std::vector<double> distance;
  std::vector<PathCount> paths;
  std::vector<Index> order;  // vertices reached, nearest first
  std::vector<std::pair<double, Index>> heap;

  template <class T, class I>
  void run(const CsrArrays<T, I>& a, EdgeLength length, Index source) {
    const auto n = static_cast<std::size_t>(a.rows);
    distance.assign(n, far);
    paths.assign(n, {});
    order.clear();
    heap.clear();
    std::vector<bool> done(n);
    const auto farther = [](const auto& x, const auto& y) { return x > y; };
    distance[static_cast<std::size_t>(source)] = 0;
    paths[static_cast<std::size_t>(source)] = {1, 0};
    heap.emplace_back(0.0, source);
    while (!heap.empty()) {
      std::pop_heap(heap.begin(), heap.end(), farther);
      const Index v = heap.back().second;
      heap.pop_back();
      if (done[static_cast<std::size_t>(v)]) continue;
      done[static_cast<std::size_t>(v)] = true;
      order.push_back(v);
      for (Index e = a.row_ptr[v]; e < a.row_ptr[v + 1]; ++e) {
        const auto w = static_cast<std::size_t>(a.col_idx[e]);
        const double through = distance[static_cast<std::size_t>(v)] + step(a, length, e);
        if (through < distance[w]) {
          distance[w] = through;
          paths[w] = {};
          heap.emplace_back(through, static_cast<Index>(w));
          std::push_heap(heap.begin(), heap.end(), farther);
        }
        if (through == distance[w] && !done[w]) paths[w] += paths[static_cast<std::size_t>(v)];
      }
    }
  }
  template <class T, class I>
  static double step(const CsrArrays<T, I>& a, EdgeLength length, Index e) {
    return length == EdgeLength::unit ? 1.0 : static_cast<double>(a.values[e]);
  }
};

/// f(i, paths from i) for every vertex, shared out between threads.
template <class T, class I, class F>
void from_every_vertex(Context& ctx, const CsrArrays<T, I>& a, EdgeLength length, F&& f) {
  for_each_chunk(ctx, a.rows, 16, [&](Context&, Index begin, Index end) {
    ShortestPaths from;
    for (Index i = begin; i < end; ++i) {
      from.run(a, length, i);
      f(i, from);
    }
  });
}

}  // namespace detail

/// out_i = (r - 1)/Σ_j d(i,j) · (r - 1)/(n - 1) over the r vertices that i reaches along rows, itself among them; 0 for
/// one that reaches none. L. Freeman (1978), with S. Wasserman & K. Faust's factor for graphs in parts. O(n·(n +
/// nnz)·log n). Throws shape_error, unsupported_error.
template <CompressedRows A>
void closeness(Context& ctx, const A& a, std::span<double> out, EdgeLength length = EdgeLength::unit) {
  detail::check_graph("closeness", a, out.size());
  detail::check_lengths("closeness", a, length);
  detail::from_every_vertex(ctx, sparse_rows(a), length, [&](Index i, const detail::ShortestPaths& from) {
    double sum = 0;
    for (const Index v : from.order) sum += from.distance[static_cast<std::size_t>(v)];
    const double others = static_cast<double>(from.order.size() - 1), all = static_cast<double>(a.rows() - 1);
    out[static_cast<std::size_t>(i)] = sum > 0 ? others / sum * (others / all) : 0.0;
  });
}

/// out_i = Σ_j |p_i - p_j|/d(i,j)/(n - 1): how straight the ways to the others are, position (n,2) or of any dimension.
/// P. Crucitti, V. Latora & S. Porta, "Centrality Measures in Spatial Networks of Urban Streets" (2006). Vertices out
/// of reach count 0. The same cost and errors.
template <CompressedRows A>
void straightness(Context& ctx, const A& a, MatrixView<const double> position, std::span<double> out,
                  EdgeLength length = EdgeLength::value) {
  detail::check_graph("straightness", a, out.size());
  detail::check_lengths("straightness", a, length);
  if (position.rows() != a.rows())
    throw shape_error(detail::concat("tessera: straightness of (", detail::csr_text(a.rows(), a.cols()),
                                     ") with positions (", detail::shape_text(position.rows(), position.cols()),
                                     "): expected one a vertex"));
  detail::from_every_vertex(ctx, sparse_rows(a), length, [&](Index i, const detail::ShortestPaths& from) {
    double sum = 0;
    for (Index j = 0; j < a.rows(); ++j) {  // in this order, however the heap broke ties
      const double d = from.distance[static_cast<std::size_t>(j)];
      if (j == i || d == detail::ShortestPaths::far) continue;
      double square = 0;
      for (Index k = 0; k < position.cols(); ++k) square += std::pow(position(i, k) - position(j, k), 2);
      sum += std::sqrt(square) / d;
    }
    out[static_cast<std::size_t>(i)] = a.rows() > 1 ? sum / static_cast<double>(a.rows() - 1) : 0.0;
  });
}

/// out_v = Σ over ordered pairs (s,t), s ≠ v ≠ t, of the share of shortest paths that pass v (halve it for an
/// undirected graph). U. Brandes, "A Faster Algorithm for Betweenness Centrality" (2001). Sources are summed in 16
/// fixed pieces: the same bits for any number of threads. O(n·(n + nnz)·log n). Throws as above.
template <CompressedRows A>
void betweenness(Context& ctx, const A& a, std::span<double> out, EdgeLength length = EdgeLength::unit) {
  detail::check_graph("betweenness", a, out.size());
  detail::check_lengths("betweenness", a, length);
  const auto rows = sparse_rows(a);
  constexpr Index pieces = 16;
  std::vector<std::vector<double>> part(pieces);
  for_each_chunk(ctx, pieces, 1, [&](Context&, Index piece, Index) {
    detail::ShortestPaths from;
    auto& sum = part[static_cast<std::size_t>(piece)];
    sum.assign(out.size(), 0);
    std::vector<double> depends(out.size());
    for (Index s = piece; s < rows.rows; s += pieces) {
      from.run(rows, length, s);
      std::fill(depends.begin(), depends.end(), 0.0);
      for (std::size_t k = from.order.size(); k-- > 0;) {
        const auto v = static_cast<std::size_t>(from.order[k]);
        for (Index e = rows.row_ptr[v]; e < rows.row_ptr[v + 1]; ++e) {
          const auto w = static_cast<std::size_t>(rows.col_idx[e]);
          if (w != v && from.distance[v] + from.step(rows, length, e) == from.distance[w])
            depends[v] += from.paths[v] / from.paths[w] * (1 + depends[w]);
        }
        if (static_cast<Index>(v) != s) sum[v] += depends[v];
      }
    }
  });
  std::fill(out.begin(), out.end(), 0.0);
  for (const auto& sum : part)
    for (std::size_t v = 0; v < out.size(); ++v) out[v] += sum[v];
}

struct EigenvectorStatus {
  bool converged = false;
  Index iterations = 0;
  double value = 0, residual = 0;  // |A x - value·x| for |x| = 1
};

/// out = the positive unit x of A x = λ x, A >= 0 and connected, by power iteration on A + σI, σ a quarter of the
/// largest row sum (bipartite graphs would swing for ever). P. Bonacich (1972). O(nnz) an iteration. Throws
/// shape_error.
template <CompressedRows A>
EigenvectorStatus eigenvector_centrality(Context& ctx, const A& a, std::span<double> out, double tolerance = 1e-11,
                                         Index most = 100000) {
  detail::check_graph("eigenvector_centrality", a, out.size());
  const auto rows = sparse_rows(a);
  EigenvectorStatus status;
  if (out.empty()) return status;
  std::vector<double> y(out.size());
  std::fill(out.begin(), out.end(), 1 / std::sqrt(static_cast<double>(out.size())));
  double shift = 0;
  for (Index i = 0; i < rows.rows; ++i) {
    double sum = 0;
    for (Index e = rows.row_ptr[i]; e < rows.row_ptr[i + 1]; ++e) sum += static_cast<double>(rows.values[e]);
    shift = std::max(shift, sum / 4);
  }
  for (; status.iterations < most; ++status.iterations) {
    for_each_chunk(ctx, rows.rows, 1024, [&](Context&, Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        double sum = 0;
        for (Index e = rows.row_ptr[i]; e < rows.row_ptr[i + 1]; ++e)
          sum += static_cast<double>(rows.values[e]) * out.data()[rows.col_idx[e]];
        y[static_cast<std::size_t>(i)] = sum;
      }
    });
    double value = 0, residual = 0, norm = 0;
    for (std::size_t i = 0; i < y.size(); ++i) value += y[i] * out[i];
    for (std::size_t i = 0; i < y.size(); ++i) residual += (y[i] - value * out[i]) * (y[i] - value * out[i]);
    status.value = value;
    status.residual = std::sqrt(residual);
    if (status.residual <= tolerance * std::max(1.0, value)) {
      status.converged = true;
      return status;
    }
    for (std::size_t i = 0; i < y.size(); ++i) norm += (y[i] += shift * out[i]) * y[i];
    norm = std::sqrt(norm);
    if (!(norm > 0)) return status;
    for (std::size_t i = 0; i < y.size(); ++i) out[i] = y[i] / norm;
  }
  return status;
}

}  // namespace tessera::inline TESSERA_ABI
