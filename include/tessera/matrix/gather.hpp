/// Rows picked by a list of indices, as a matrix of its own, and gathers of any operator.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdlib>
#include <span>
#include <string>
#include <utility>

#include <tessera/core/buffer.hpp>
#include <tessera/matrix/permutation.hpp>
#include <tessera/matrix/slice.hpp>

namespace tessera::inline TESSERA_ABI {

/// G (M,N) with (G x)(i) = x(sources(i)); indices may repeat and be left out. Gᵀ scatters and adds. Owns the indices;
/// no flops.
template <std::floating_point S>
class Gather : public OperatorBase<Gather<S>> {
 public:
  using Scalar = S;
  static constexpr std::string_view type_name = "Gather";

  Gather() = default;
  /// Throws shape_error for a negative size and for an index outside [0, size).
  Gather(Index size, std::span<const Index> sources)
      : size_(size), sources_(static_cast<Index>(sources.size()), uninitialized) {
    if (size < 0) throw shape_error(detail::concat("tessera: Gather of ", size, " rows: expected 0 or more"));
    for (Index i = 0; i < sources_.size(); ++i) {
      const Index at = sources[static_cast<std::size_t>(i)];
      if (at < 0 || at >= size)
        throw shape_error(
            detail::concat("tessera: Gather: index ", i, " is ", at, "; expected 0 to ", size - 1, " of ", size));
      sources_[i] = at;
    }
  }
  Index rows() const { return sources_.size(); }
  Index cols() const { return size_; }
  std::span<const Index> sources() const { return sources_; }

  void apply(Context& ctx, Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    const Index* from = sources_.data();
    if (op == Op::transpose) {
      // A row may be added to twice: threads share the columns.
      for_each_chunk(ctx, Y.cols(), 1, [&](Context& worker, Index j, Index) {
        detail::scale_by(worker, beta, Y.slice(1, j, 1));
        const auto x = X.col(j);
        const auto y = Y.col(j);
        for (Index i = 0; i < sources_.size(); ++i) y[from[i]] += alpha * x[i];
      });
      return;
    }
    const auto move = [&](S value, S& to) { to = beta == S(0) ? alpha * value : alpha * value + beta * to; };
    const bool by_rows = X.cols() > 1 && std::abs(Y.row_stride()) > std::abs(Y.col_stride());
    for_each_chunk(ctx, rows(), by_rows ? 256 : Index{1} << 15, [&](Context&, Index begin, Index end) {
      if (by_rows)
        for (Index i = begin; i < end; ++i)
          for (Index j = 0; j < X.cols(); ++j) move(X(from[i], j), Y(i, j));
      else
        for (Index j = 0; j < X.cols(); ++j)
          for (Index i = begin; i < end; ++i) move(X(from[i], j), Y(i, j));
    });
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    f(ByteRange{sources_.begin(), sources_.end()});
  }
  std::size_t bytes() const { return sources_.bytes(); }
  double flops(Index) const { return 0; }
  Eigen::VectorX<S> diagonal() const {
    Eigen::VectorX<S> d(std::min(rows(), cols()));
    for (Index i = 0; i < d.size(); ++i) d[i] = S(sources_[i] == i ? 1 : 0);
    return d;
  }

 private:
  Index size_ = 0;
  Buffer<Index> sources_;
};

namespace detail {
template <class S, class F>
Gather<S> gather_of(Index size, Index rows, F&& source) {
  Buffer<Index> sources(rows, uninitialized);
  for (Index i = 0; i < rows; ++i) sources[i] = source(i);
  return Gather<S>(size, sources);
}
}  // namespace detail

/// Gathers, ranges and permutations compose into one gather. O(M).
template <class S>
Gather<S> multiply(const Gather<S>& a, const Gather<S>& b) {
  return detail::gather_of<S>(b.cols(), a.rows(),
                              [&](Index i) { return b.sources()[std::size_t(a.sources()[std::size_t(i)])]; });
}
template <class S>
Gather<S> multiply(const Gather<S>& a, const Permutation<S>& b) {
  return detail::gather_of<S>(b.cols(), a.rows(),
                              [&](Index i) { return b.sources()[std::size_t(a.sources()[std::size_t(i)])]; });
}
template <class S>
Gather<S> multiply(const Permutation<S>& a, const Gather<S>& b) {
  return detail::gather_of<S>(b.cols(), a.rows(),
                              [&](Index i) { return b.sources()[std::size_t(a.sources()[std::size_t(i)])]; });
}
template <class S>
Gather<S> multiply(const Range<S>& a, const Gather<S>& b) {
  return detail::gather_of<S>(b.cols(), a.rows(),
                              [&](Index i) { return b.sources()[std::size_t(a.first() + i * a.step())]; });
}
template <class S>
Gather<S> multiply(const Gather<S>& a, const Range<S>& b) {
  return detail::gather_of<S>(b.cols(), a.rows(),
                              [&](Index i) { return b.first() + a.sources()[std::size_t(i)] * b.step(); });
}
template <class S>
Gather<S> multiply(const Range<S>& a, const Permutation<S>& b) {
  return detail::gather_of<S>(b.cols(), a.rows(),
                              [&](Index i) { return b.sources()[std::size_t(a.first() + i * a.step())]; });
}
template <class S>
Gather<S> multiply(const Permutation<S>& a, const Range<S>& b) {
  return detail::gather_of<S>(b.cols(), a.rows(),
                              [&](Index i) { return b.first() + a.sources()[std::size_t(i)] * b.step(); });
}

/// A(rows, cols) by two lists of indices: G·A·Hᵀ. Throws shape_error.
template <LinearOperator A>
auto gather(A&& a, std::span<const Index> rows, std::span<const Index> cols) {
  Gather<scalar_of<A>> G(a.rows(), rows), H(a.cols(), cols);
  return std::move(G) * std::forward<A>(a) * std::move(H).transpose();
}

}  // namespace tessera::inline TESSERA_ABI
