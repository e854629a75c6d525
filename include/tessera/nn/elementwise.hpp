/// Element-wise maps over whole activations.
#pragma once

#include <algorithm>

#include <tessera/core/context.hpp>
#include <tessera/kernels/map/map.hpp>

namespace tessera::inline TESSERA_ABI::nn {

namespace detail {

using tessera::detail::concat;
using tessera::detail::shape_text;

template <class T>
bool gapless(const MatrixView<T>& X) {
  return X.contiguous();
}

/// `map` over matrices of one shape: one pass when none has gaps between its rows, else a row at a time.
template <class F, class T, class... Rest>
void map_matrices(Context& ctx, const char* what, const F& f, MatrixView<T> first, MatrixView<Rest>... rest) {
  const Index n = first.rows(), d = first.cols();
  [[maybe_unused]] const auto check = [&](Index rows, Index cols) {
    if (rows != n || cols != d)
      throw shape_error(concat("tessera: ", what, " of (", shape_text(n, d), ") and (", shape_text(rows, cols),
                               "): expected equal shapes"));
  };
  (check(rest.rows(), rest.cols()), ...);
  if (n == 0 || d == 0) return;
  if (gapless(first) && (gapless(rest) && ...)) {
    map(ctx, f, VectorView<T>(first.data(), n * d), VectorView<Rest>(rest.data(), n * d)...);
    return;
  }
  for_each_chunk(ctx, n, std::max<Index>(1, 32768 / d), [&](Context& worker, Index begin, Index end) {
    for (Index i = begin; i < end; ++i) map(worker, f, first.row(i), rest.row(i)...);
  });
}

// Function objects rather than lambdas: g++ 12 does not inline a lambda of a template into a map's target region.
struct Add {
  template <class V>
  TESSERA_INLINE void operator()(V& y, const V& x) const {
    y = y + x;
  }
};
struct Copy {
  template <class V>
  TESSERA_INLINE void operator()(V& y, const V& x) const {
    y = x;
  }
};
template <class T>
struct Scale {
  T factor;
  template <class V>
  TESSERA_INLINE void operator()(V& y) const {
    y = y * V(factor);
  }
};

}  // namespace detail

/// Y += X.
template <class T>
void add(Context& ctx, std::type_identity_t<MatrixView<const T>> X, MatrixView<T> Y) {  // (n, d) both
  detail::map_matrices(ctx, "sum", detail::Add{}, Y, X);
}

/// Y = X.
template <class T>
void copy(Context& ctx, std::type_identity_t<MatrixView<const T>> X, MatrixView<T> Y) {  // (n, d) both
  detail::map_matrices(ctx, "copy", detail::Copy{}, Y, X);
}

}  // namespace tessera::inline TESSERA_ABI::nn
