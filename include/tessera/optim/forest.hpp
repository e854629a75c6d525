/// Symmetric systems whose graph is a forest, by messages from leaves to roots and back.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// The entry of rows i and j != i.
struct ForestEdge {
  Index i, j;
  double value;
};

/// H x = b with H (n, n) symmetric, its entries off the diagonal the edges of a forest: an elimination without fill,
/// the leaves first, which is Gaussian belief propagation (Y. Weiss, W. Freeman 2001) and a sparse LDLᵀ. O(n + edges)
/// to make and to solve. J. Nutini, I. Laradji, M. Schmidt, "Let's Make Block Coordinate Descent Converge Faster" (JMLR
/// 2022), §4.2.
class ForestSystem {
 public:
  /// Throws property_error where edges close a cycle, shape_error for one that is not between two of n, and for
  /// n < 0. An edge may be
  /// given in parts.
  ForestSystem(Index n, std::span<const ForestEdge> edges) : parent_(vertices(n), -1), weight_(size(n)) {
    std::vector<Index> start(size(n) + 1), to(2 * edges.size());
    std::vector<double> value(2 * edges.size());
    for (const auto& e : edges) {
      if (e.i < 0 || e.j < 0 || e.i >= n || e.j >= n || e.i == e.j)
        throw shape_error(tessera::detail::concat("tessera: forest: edge (", e.i, ", ", e.j,
                                                  "); expected two different vertices of ", n));
      ++start[size(e.i) + 1], ++start[size(e.j) + 1];
    }
    for (std::size_t v = 0; v < size(n); ++v) start[v + 1] += start[v];
    std::vector<Index> next(start.begin(), start.end() - 1);
    for (const auto& e : edges) {
      const std::size_t a = size(next[size(e.i)]++), b = size(next[size(e.j)]++);
      to[a] = e.j, to[b] = e.i, value[a] = value[b] = e.value;
    }
    std::vector<bool> seen(size(n));
    order_.reserve(size(n));
    for (Index root = 0; root < n; ++root) {
      if (seen[size(root)]) continue;
      seen[size(root)] = true;
      order_.push_back(root);
      for (std::size_t head = order_.size() - 1; head < order_.size(); ++head) {
        const Index v = order_[head];
        for (std::size_t k = size(start[size(v)]); k < size(start[size(v) + 1]); ++k) {
          const Index u = to[k];
          if (u == parent_[size(v)]) continue;
          if (!seen[size(u)]) {
            seen[size(u)] = true;
            parent_[size(u)] = v;
            order_.push_back(u);
          } else if (parent_[size(u)] != v) {
            throw property_error(tessera::detail::concat("tessera: forest: the edge of ", v, " and ", u,
                                                         " closes a cycle; expected a graph without any"));
          }
          weight_[size(u)] += value[k];
        }
      }
    }
  }

  Index rows() const { return static_cast<Index>(parent_.size()); }

  /// x ← H⁻¹ x for this diagonal, which is spoilt: 8 operations a vertex at most. False, and x unfit for use, where a
  /// pivot is not positive: H is not positive definite.
  template <class T = double>
  bool solve(std::span<std::type_identity_t<T>> diagonal, std::span<std::type_identity_t<T>> x) const {
    if (diagonal.size() != parent_.size() || x.size() != parent_.size())
      throw shape_error(tessera::detail::concat("tessera: forest of ", parent_.size(), " vertices: a diagonal of ",
                                                diagonal.size(), " and a right side of ", x.size()));
    for (std::size_t k = order_.size(); k-- > 0;) {
      const std::size_t v = size(order_[k]);
      if (!(diagonal[v] > T(0))) return false;
      if (parent_[v] < 0) continue;
      const T weight(weight_[v]), message = weight / diagonal[v];
      diagonal[size(parent_[v])] -= message * weight;
      x[size(parent_[v])] -= message * x[v];
    }
    for (const Index v : order_) {
      const Index p = parent_[size(v)];
      if (p >= 0) x[size(v)] -= T(weight_[size(v)]) * x[size(p)];
      x[size(v)] /= diagonal[size(v)];
    }
    return true;
  }

 private:
  static std::size_t vertices(Index n) {
    if (n < 0) throw shape_error(tessera::detail::concat("tessera: forest of ", n, " vertices; expected 0 or more"));
    return size(n);
  }
  static std::size_t size(Index i) { return static_cast<std::size_t>(i); }
  std::vector<Index> order_, parent_;  // parents before children; -1 for a root
  std::vector<double> weight_;         // of the edge to the parent
};

}  // namespace tessera::inline TESSERA_ABI::optim
