/// Semirings, and products of sparse matrices with vectors and matrices over them.
#pragma once

#include <algorithm>
#include <concepts>
#include <limits>
#include <type_traits>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/sparse/rows.hpp>

namespace tessera::inline TESSERA_ABI {

/// (add, multiply) with add's neutral element zero(), which is what an entry that is not stored stands for.
/// J. Kepner & J. Gilbert (eds.), "Graph Algorithms in the Language of Linear Algebra" (SIAM 2011).
template <class S, class T>
concept Semiring = requires(const S& s, T x) {
  { s.zero() } -> std::convertible_to<T>;
  { s.add(x, x) } -> std::convertible_to<T>;
  { s.multiply(x, x) } -> std::convertible_to<T>;
};

template <class T>
struct PlusTimes {
  T zero() const { return T(0); }
  T add(T x, T y) const { return static_cast<T>(x + y); }
  T multiply(T x, T y) const { return static_cast<T>(x * y); }
};
/// Shortest paths: lengths add up, the least counts. Lengths are floating-point, or integers far from overflow.
template <class T>
struct MinPlus {
  T zero() const {
    return std::numeric_limits<T>::has_infinity ? std::numeric_limits<T>::infinity() : std::numeric_limits<T>::max();
  }
  T add(T x, T y) const { return y < x ? y : x; }
  T multiply(T x, T y) const { return x == zero() || y == zero() ? zero() : static_cast<T>(x + y); }
};
/// Longest or most likely paths (log-probabilities).
template <class T>
struct MaxPlus {
  T zero() const {
    return std::numeric_limits<T>::has_infinity ? -std::numeric_limits<T>::infinity()
                                                : std::numeric_limits<T>::lowest();
  }
  T add(T x, T y) const { return x < y ? y : x; }
  T multiply(T x, T y) const { return x == zero() || y == zero() ? zero() : static_cast<T>(x + y); }
};
/// Reachability: 1 where any path is.
template <class T>
struct OrAnd {
  T zero() const { return T(0); }
  T add(T x, T y) const { return T(x != T(0) || y != T(0)); }
  T multiply(T x, T y) const { return T(x != T(0) && y != T(0)); }
};

/// Y (M,N) = ⊕_k A_mk ⊗ X_kn, for X of one column a product with a vector; rows of A without entries give zero(). A row
/// is summed in the order of its entries: the same bits for any number of threads. O(nnz·N). Throws shape_error, also
/// where Y overlaps X.
template <CompressedRows A, class S, class T = element_of<A>>
requires Semiring<S, T>
void semiring_product(Context& ctx, const S& semiring, const A& a, MatrixView<const std::type_identity_t<T>> X,
                      MatrixView<std::type_identity_t<T>> Y) {
  const auto rows = sparse_rows(a);
  if (rows.cols != X.rows() || Y.rows() != rows.rows || Y.cols() != X.cols() || byte_range(X).overlaps(byte_range(Y)))
    throw shape_error(detail::concat("tessera: semiring_product of (Csr ", detail::shape_text(rows.rows, rows.cols),
                                     ") * (", detail::shape_text(X.rows(), X.cols()), ") into (",
                                     detail::shape_text(Y.rows(), Y.cols()), "): expected columns ", rows.cols,
                                     " == ", X.rows(), " rows, and memory of its own for the result"));
  for_each_chunk(ctx, rows.rows, 64, [&](Context&, Index begin, Index end) {
    const bool lines = X.col_stride() == 1 && Y.col_stride() == 1 && X.cols() > 1;
    for (Index i = begin; i < end; ++i) {
      const Index first = rows.row_ptr[i], last = rows.row_ptr[i + 1];
      if (!lines) {
        for (Index n = 0; n < X.cols(); ++n) {
          T sum = semiring.zero();
          for (Index e = first; e < last; ++e)
            sum = semiring.add(sum, semiring.multiply(rows.values[e], X(rows.col_idx[e], n)));
          Y(i, n) = sum;
        }
        continue;
      }
      T* TESSERA_RESTRICT y = &Y(i, 0);
      std::fill_n(y, X.cols(), semiring.zero());
      for (Index e = first; e < last; ++e) {
        const T* TESSERA_RESTRICT x = &X(rows.col_idx[e], 0);
        const T value = rows.values[e];
        for (Index n = 0; n < X.cols(); ++n) y[n] = semiring.add(y[n], semiring.multiply(value, x[n]));
      }
    }
  });
}

}  // namespace tessera::inline TESSERA_ABI
