/// Links whose state is kept for a low-rank part of the gradient: in_low_rank(scale_by_adam()); GaLore with
/// svd_projection, FRUGAL where the rest of the gradient has its sign taken.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <tessera/optim/adam.hpp>
#include <tessera/optim/partition.hpp>
#include <tessera/optim/subspace.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// P is made anew every `refresh` steps; `reset`: the inner state then begins at zero.
struct LowRankOptions {
  Index rank = 128;
  double scale = 0.25;
  Index refresh = 200;
  bool reset = false;
};

/// R = P·G from the shorter side; u ← scale·Pᵀ·inner(R) + rest(G - Pᵀ·P·G), without the second part for `freeze()`.
/// Takes matrices alone, those of no more than `rank` rows or columns without a rest; inner links see R where they look
/// at parameters. State: theirs of R (rank, n), P (rank, m)
/// where it depends on the gradient, and what `rest` keeps. 4·rank multiplications a parameter, 6 with a rest.
/// J. Zhao et al., "GaLore: Memory-Efficient LLM Training by Gradient Low-Rank Projection" (ICML 2024), algorithm 2;
/// Y. Hao et al., "Flora" (ICML 2024), with a random P; P. Zmushko et al., "FRUGAL: Memory-Efficient Optimization by
/// Reducing State Overhead for Scalable Training" (2024), algorithm 1, with a rest.
template <class Inner, class Projection, class Rest>
struct InLowRank {
  static constexpr std::string_view name = "in_low_rank";
  static constexpr bool has_rest = !std::is_same_v<Rest, Freeze>;
  LowRankOptions options;
  Inner inner;
  Projection projection;
  Rest rest;

  template <class T>
  struct State {
    Index count = 0;
    detail::SubspaceState<T, Inner> seen;
    std::vector<detail::OneBlock<T, Rest>> rest;
    template <class F>
    void for_each_buffer(const std::string& prefix, const std::vector<ParameterInfo>& infos, F&& f) {
      detail::list_value(f, prefix + "count", count);
      seen.for_each_buffer(prefix, infos, f);
      if constexpr (has_rest)
        for (std::size_t b = 0; b < rest.size(); ++b)
          rest[b].state.list_buffers(prefix + "rest." + infos[b].name + '.', f);
    }
  };

  template <class T>
  State<T> init(const Parameters<T>& params) const {
    State<T> state{0,
                   {name, inner, params, options.rank, options.refresh, "P",
                    [](const detail::Seen& s) { return Projection::stored ? s.rank * s.side : Index{0}; }},
                   {}};
    for (const auto& p : params) state.rest.emplace_back(rest, p.name, p.rows, p.cols);
    return state;
  }
  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, State<T>& state,
                 const Parameters<T>& params) const {
    const bool anew = state.count % options.refresh == 0;
    for (std::size_t b = 0; b < params.size(); ++b) {
      auto& block = state.seen.blocks[b];
      const auto& seen = block.seen;
      const MatrixView<T> G(updates[b].data(), params[b].rows, params[b].cols);
      Workspace::Scope scope(ctx.workspace);
      const MatrixView<T> P(Projection::stored ? block.kept.data() : scope.take<T>(seen.rank * seen.side), seen.rank,
                            seen.side);
      const MatrixView<T> R(scope.take<T>(seen.rows * seen.cols), seen.rows, seen.cols);
      if (anew || !Projection::stored)
        projection(ctx, MatrixView<const T>(seen.left ? G : G.transposed()), b, state.count / options.refresh, P);
      if (anew && options.reset && state.count > 0) block.inner.state = block.inner.begin(inner);
      seen.template down<T>(ctx, P, G, R);
      const bool rests = has_rest && seen.rank < seen.side;  // else what is left is rounding
      if constexpr (has_rest)
        if (rests) {
          seen.template up<T>(ctx, -1, P, R, 1, G);
          state.rest[b].step(ctx, rest, G, params[b].data);
        }
      block.step(ctx, inner, R);
      seen.template up<T>(ctx, options.scale, P, R, rests ? 1 : 0, G);
    }
    ++state.count;
  }
};

/// `rest` is a link or chain for what the subspace does not see; it is right only where P·Pᵀ = I.
template <class What, class Projection = gaussian_projection, class Rest = Freeze>
auto in_low_rank(const What& what, LowRankOptions options = {}, Projection projection = {}, const Rest& rest = {}) {
  return InLowRank<decltype(chain(what)), Projection, detail::optimizer_t<Rest>>{options, chain(what), projection,
                                                                                 detail::as_optimizer(rest)};
}

}  // namespace tessera::inline TESSERA_ABI::optim
