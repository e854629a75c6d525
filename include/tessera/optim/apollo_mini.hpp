/// APOLLO with one direction and one factor a matrix.
#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <string_view>

#include <tessera/kernels/project_one/project_one.hpp>
#include <tessera/optim/apollo.hpp>
#include <tessera/optim/scale.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// APOLLO-Mini: u ← scale·G·‖R~‖/‖R‖. State with Adam: 2n + 2 numbers. One more
/// read of the gradient than plain descent, block by block, so that the second read of what fits finds it in cache.
/// H. Zhu et al., "APOLLO: SGD-like Memory, AdamW-level Performance" (MLSys 2025), §4.3.
template <class Inner, class Projection>
struct ScaleByApolloMini {
  static constexpr std::string_view name = "scale_by_apollo_mini";
  ApolloOptions options;
  Inner inner;
  Projection projection;

  template <class T>
  detail::SubspaceState<T, Inner> init(const Parameters<T>& params) const {
    return {name, inner, params, 1, options.refresh, "norm", [](const detail::Seen&) { return Index{1}; }};
  }

  /// The chain asks for each block's factor once, as it comes to it.
  template <class T>
  struct Each {
    const ScaleByApolloMini& link;
    Context& ctx;
    std::span<const VectorView<const T>> updates;
    detail::SubspaceState<T, Inner>& state;
    const Parameters<T>& params;
    detail::ScaleStep<T> block(std::size_t b) const {
      return {static_cast<T>(link.factor(ctx, MatrixView<const T>(updates[b].data(), params[b].rows, params[b].cols), b,
                                         state.blocks[b]))};
    }
  };
  template <class T>
  Each<T> reduce(Context& ctx, std::span<const VectorView<const T>> updates, detail::SubspaceState<T, Inner>& state,
                 const Parameters<T>& params) const {
    return {*this, ctx, updates, state, params};
  }

 private:
  template <class T, class Block>
  double factor(Context& ctx, MatrixView<const T> G, std::size_t b, Block& block) const {
    const auto& seen = block.seen;
    Workspace::Scope scope(ctx.workspace);
    const MatrixView<T> p(scope.take<T>(seen.side), 1, seen.side);
    const MatrixView<T> R(scope.take<T>(seen.rows * seen.cols), seen.rows, seen.cols);
    const VectorView<const T> r(R.data(), R.size());
    projection(ctx, G, b, block.inner.state.count / options.refresh, p);
    const double norm = std::sqrt(project_one<T>(ctx, seen.left, p.row(0), G, VectorView<T>(R.data(), R.size())));
    const double before = sum_squares(ctx, r);
    block.step(ctx, inner, R);
    const double factor = options.scale * detail::ratio_of_norms(sum_squares(ctx, r), before);
    return options.growth > 0 ? factor * detail::limit_growth(factor * norm, options.growth, block.kept[0]) : factor;
  }
};

template <class What = ScaleByAdam, class Projection = gaussian_projection>
auto scale_by_apollo_mini(ApolloOptions options = {.scale = std::sqrt(128.0)}, const What& what = {},
                          Projection projection = {}) {
  return ScaleByApolloMini<decltype(chain(what)), Projection>{options, chain(what), projection};
}

}  // namespace tessera::inline TESSERA_ABI::optim
