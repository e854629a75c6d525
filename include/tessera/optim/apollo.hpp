/// APOLLO: Adam's step sizes for whole channels or tensors, seen through a random projection.
/// H. Zhu et al., "APOLLO: SGD-like Memory, AdamW-level Performance" (MLSys 2025), algorithm 1, eq. 5 and 6.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <tessera/optim/adam.hpp>
#include <tessera/optim/subspace.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// P is drawn anew every `refresh` steps; the update's norm grows by `growth` a step at most (0: as it likes).
struct ApolloOptions {
  Index rank = 256;
  double scale = 1;
  Index refresh = 200;
  double growth = 1.01;
};

namespace detail {
/// By how much to shorten an update of this norm; `kept` becomes what is left of it. A kept norm of 0 bounds nothing:
/// a block whose gradient was zero once can leave.
template <class T>
double limit_growth(double norm, double growth, T& kept) {
  const double most = growth * static_cast<double>(kept);
  const double factor = most > 0 && norm > most ? most / norm : 1;
  kept = static_cast<T>(factor * norm);
  return factor;
}

struct Times {
  template <class V>
  TESSERA_INLINE void operator()(V& g, const V& s) const {
    g = g * s;
  }
};

/// ‖after‖/‖before‖, 0 for 0/0.
inline double ratio_of_norms(double after, double before) { return before == 0 ? 0 : std::sqrt(after / before); }

/// G ← G·diag(s) for `left`, else diag(s)·G; returns ‖G‖². A row is in the cache when its squares are added up.
template <class T>
double scale_channels(Context& ctx, bool left, VectorView<const T> s, MatrixView<T> G) {
  Workspace::Scope scope(ctx.workspace);
  double* squares = scope.take<double>(G.rows());
  for_each_run(ctx, G.rows(), G.cols(), [&](Context& worker, Index i) {
    left ? map(worker, Times{}, G.row(i), s) : scale_in_place(worker, static_cast<double>(s[i]), G.row(i));
    squares[i] = sum_squares(worker, VectorView<const T>(G.row(i)));
  });
  double sum = 0;
  for (Index i = 0; i < G.rows(); ++i) sum += squares[i];
  return sum;
}

/// R ← inner(R), and for each row or column the norm of what it became over what it was.
template <class T, class Inner, class Block>
void channel_factors(Context& ctx, const Inner& inner, Block& block, MatrixView<T> R, VectorView<T> factors) {
  const auto squares = [&](VectorView<T> to) {
    if (block.seen.left) return column_squares(ctx, MatrixView<const T>(R), to);
    for_each_run(ctx, R.rows(), R.cols(), [&](Context& worker, Index i) {
      to[i] = static_cast<T>(sum_squares(worker, VectorView<const T>(R.row(i))));
    });
  };
  Workspace::Scope scope(ctx.workspace);
  const Index n = factors.extent(0);
  const VectorView<T> before(scope.take<T>(n), n);
  squares(before);
  block.step(ctx, inner, R);
  squares(factors);
  for (Index j = 0; j < n; ++j)
    factors[j] = static_cast<T>(ratio_of_norms(static_cast<double>(factors[j]), static_cast<double>(before[j])));
}
}  // namespace detail

/// With R = P·G (rank, n) of the shorter side and R~ = inner(R): u_:j ← scale·G_:j·‖R~_:j‖/‖R_:j‖. Takes matrices
/// alone. State: the inner links' of R, with Adam 2·rank·n, a norm and a count a matrix; P is drawn again from its
/// seed. 2·rank multiplications a parameter and a read and write of the update. With a rank of the whole side and P = I
/// these are exactly Adam's norms by channel.
template <class Inner, class Projection>
struct ScaleByApollo {
  static constexpr std::string_view name = "scale_by_apollo";
  ApolloOptions options;
  Inner inner;
  Projection projection;

  template <class T>
  detail::SubspaceState<T, Inner> init(const Parameters<T>& params) const {
    return {name, inner, params, options.rank, options.refresh, "norm", [](const detail::Seen&) { return Index{1}; }};
  }
  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, detail::SubspaceState<T, Inner>& state,
                 const Parameters<T>& params) const {
    for (std::size_t b = 0; b < params.size(); ++b) {
      auto& block = state.blocks[b];
      const auto& seen = block.seen;
      const MatrixView<T> G(updates[b].data(), params[b].rows, params[b].cols);
      Workspace::Scope scope(ctx.workspace);
      const MatrixView<T> P(scope.take<T>(seen.rank * seen.side), seen.rank, seen.side);
      const MatrixView<T> R(scope.take<T>(seen.rows * seen.cols), seen.rows, seen.cols);
      const Index channels = seen.left ? G.cols() : G.rows();
      const VectorView<T> factors(scope.take<T>(channels), channels);
      projection(ctx, MatrixView<const T>(G), b, block.inner.state.count / options.refresh, P);
      seen.down(ctx, MatrixView<const T>(P), MatrixView<const T>(G), R);
      detail::channel_factors(ctx, inner, block, R, factors);
      const double norm = options.scale * std::sqrt(detail::scale_channels<T>(ctx, seen.left, factors, G));
      const double factor = options.growth > 0 ? detail::limit_growth(norm, options.growth, block.kept[0]) : 1;
      if (options.scale * factor != 1) detail::scale_in_place(ctx, options.scale * factor, updates[b]);
    }
  }
};

template <class What = ScaleByAdam, class Projection = gaussian_projection>
auto scale_by_apollo(ApolloOptions options = {}, const What& what = {}, Projection projection = {}) {
  return ScaleByApollo<decltype(chain(what)), Projection>{options, chain(what), projection};
}
}  // namespace tessera::inline TESSERA_ABI::optim
