/// What links keep that are not element-wise, and the sums they take.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <tessera/kernels/map/map.hpp>
#include <tessera/kernels/sum_squares/sum_squares.hpp>
#include <tessera/optim/moments.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// N named buffers for each block, of lengths that the link chooses, and the steps done.
template <class T, std::size_t N>
struct BlockState {
  std::array<std::string_view, N> names;
  Index count = 0;
  std::vector<std::array<Buffer<T>, N>> blocks;

  /// `sizes(const ParameterInfo&)` gives the lengths.
  template <class F>
  BlockState(std::array<std::string_view, N> names_, const Parameters<T>& params, F&& sizes) : names(names_) {
    for (const auto& p : params) {
      const std::array<Index, N> lengths = sizes(static_cast<const ParameterInfo&>(p));
      auto& block = blocks.emplace_back();
      for (std::size_t s = 0; s < N; ++s) block[s] = Buffer<T>(lengths[s]);
    }
  }
  template <class F>
  void for_each_buffer(const std::string& prefix, const std::vector<ParameterInfo>& infos, F&& f) {
    f(prefix + "count", std::span<Index>(&count, 1));
    for (std::size_t b = 0; b < blocks.size(); ++b)
      for (std::size_t s = 0; s < N; ++s)
        if (blocks[b][s].size() > 0)
          f(tessera::detail::concat(prefix, names[s], '.', infos[b].name), std::span<T>(blocks[b][s]));
  }
  VectorView<T> view(std::size_t b, std::size_t s) { return {blocks[b][s].data(), blocks[b][s].size()}; }
};

namespace detail {

/// Rows and columns to treat as a matrix; gains and biases are none.
inline bool is_matrix(const ParameterInfo& p) { return p.rows > 1 && p.cols > 1; }

inline void check_matrix(std::string_view who, const ParameterInfo& p) {
  if (!is_matrix(p))
    throw unsupported_error(tessera::detail::concat("tessera: ", who, ": parameter '", p.name, "' is (",
                                                    tessera::detail::shape_text(p.rows, p.cols),
                                                    "); expected a matrix, others in a group of their own"));
}

/// Columns that one piece of work takes where rows are to be reduced.
inline constexpr Index column_panel = 1024;

template <class T>
VectorView<T> part(VectorView<T> x, Index begin, Index end) {
  return {x.data() + begin, end - begin};
}

/// A map that also adds K vectors up: `f(sums, v…)` adds to `std::array<V, K>& sums`; elements that are not there give
/// what zeros give, so f(0…) must add 0.
template <class T, std::size_t K, class F>
struct Summing {
  static constexpr Index widest = 64 / static_cast<Index>(sizeof(T));
  F f;
  T lanes[K][widest] = {};

  template <class V, class... Rest>
  TESSERA_INLINE void operator()(V& first, Rest&... rest) {
    using W = std::remove_const_t<V>;
    static_assert(W::width <= widest);
    std::array<W, K> sums;
    for (std::size_t k = 0; k < K; ++k) sums[k] = W::load(lanes[k]);
    f(sums, first, rest...);
    for (std::size_t k = 0; k < K; ++k) sums[k].store(lanes[k]);
  }
};

/// K sums over all elements, each in T over pieces of 2^12 and in double over the pieces, in order: the same bits for
/// any number of threads.
template <std::size_t K, class F, class First, class... Rest>
std::array<double, K> map_sums(Context& ctx, const F& f, VectorView<First> first, VectorView<Rest>... rest) {
  using T = std::remove_const_t<First>;
  constexpr Index piece = Index{1} << 12;
  const Index n = first.extent(0), pieces = (n + piece - 1) / piece;
  Workspace::Scope scope(ctx.workspace);
  auto* partial = scope.take<std::array<double, K>>(pieces);
  for_each_chunk(ctx, n, piece, [&](Context& worker, Index begin, Index end) {
    Summing<T, K, F> step{f};
    map(worker, step, part(first, begin, end), part(rest, begin, end)...);
    auto& own = partial[begin / piece];
    for (std::size_t k = 0; k < K; ++k) {
      own[k] = 0;
      for (const T x : step.lanes[k]) own[k] += static_cast<double>(x);
    }
  });
  std::array<double, K> sums{};
  for (Index c = 0; c < pieces; ++c)
    for (std::size_t k = 0; k < K; ++k) sums[k] += partial[c][k];
  return sums;
}

/// x ← factor·x.
template <class T>
struct TimesFactor {
  T factor;
  template <class V>
  TESSERA_INLINE void operator()(V& x) const {
    x = x * V(factor);
  }
};
template <class T>
void scale_in_place(Context& ctx, double factor, VectorView<T> x) {
  map(ctx, TimesFactor<T>{static_cast<T>(factor)}, x);
}

/// The 2-norm.
template <class T>
double norm_of(Context& ctx, VectorView<T> x) {
  return std::sqrt(sum_squares(ctx, VectorView<const std::remove_const_t<T>>(x)));
}

/// x ← x·length/|x|; zero stays zero.
template <class T>
void rescale(Context& ctx, VectorView<T> x, double length) {
  const double norm = norm_of(ctx, x);
  if (norm != 0) scale_in_place(ctx, length / norm, x);
}

/// `f(worker, r)` for each of `count` runs of `length` elements, side by side where they are short.
template <class F>
void for_each_run(Context& ctx, Index count, Index length, F&& f) {
  const Index grain = std::max<Index>(1, (Index{1} << 14) / std::max<Index>(length, 1));
  for_each_chunk(ctx, count, grain, [&](Context& worker, Index begin, Index end) {
    for (Index r = begin; r < end; ++r) f(worker, r);
  });
}

struct AddSquare {
  template <class V>
  TESSERA_INLINE void operator()(V& sum, const V& x) const {
    sum = fma(x, x, sum);
  }
};

struct AddTo {
  template <class V>
  TESSERA_INLINE void operator()(V& sum, const V& x) const {
    sum = sum + x;
  }
};

/// `sums` (cols) of the squares of u (rows, cols) by column, in T over 256 rows at a time.
template <class T>
void column_squares(Context& ctx, MatrixView<const T> u, VectorView<T> sums) {
  for_each_chunk(ctx, u.cols(), column_panel, [&](Context& worker, Index begin, Index end) {
    T piece[column_panel] = {};
    const VectorView<T> some(piece, end - begin), all = part(sums, begin, end);
    std::fill_n(all.data(), end - begin, T(0));
    for (Index i = 0; i < u.rows(); ++i) {
      map(worker, AddSquare{}, some, part(u.row(i), begin, end));
      if (i % 256 == 255 || i + 1 == u.rows()) {
        map(worker, AddTo{}, all, VectorView<const T>(some));
        std::fill_n(piece, end - begin, T(0));
      }
    }
  });
}

}  // namespace detail
}  // namespace tessera::inline TESSERA_ABI::optim
