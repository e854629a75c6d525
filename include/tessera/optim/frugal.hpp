/// FRUGAL on coordinates: state for some rows of each matrix, or some blocks, at a time; for all else the sign.
/// P. Zmushko et al., "FRUGAL: Memory-Efficient Optimization by Reducing State Overhead for Scalable Training" (2024),
/// algorithm 1, §4.2. With a dense projection it is `in_low_rank(link, options, svd_projection{}, rest)`.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <tessera/optim/clip_blocks.hpp>
#include <tessera/optim/subspace.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// `density` of the rows (or blocks) have state; others take their place every `refresh` steps, with state at zero.
struct FrugalOptions {
  double density = 0.25;
  Index refresh = 200;
  std::uint64_t seed = 0;
};

namespace detail {

/// `count` of the numbers under n in order, each set as likely: D. Knuth, "The Art of Computer Programming", §3.4.2,
/// algorithm S.
inline void sample_in_order(const Philox& draws, Index n, Index count, Index* to) {
  Index taken = 0;
  for (Index i = 0; taken < count; ++i)
    if (static_cast<Index>(draws.below(static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(n - i))) <
        count - taken)
      to[taken++] = i;
}

inline Index share(double density, Index of) {
  return std::clamp<Index>(static_cast<Index>(std::llround(density * static_cast<double>(of))), 0, of);
}

inline void check_density(std::string_view who, const FrugalOptions& o) {
  if (!(o.density >= 0 && o.density <= 1) || o.refresh < 1)
    throw unsupported_error(concat("tessera: ", who, ": density ", o.density, ", refreshed every ", o.refresh,
                                   " steps; expected 0 to 1 and 1 or more"));
}

}  // namespace detail

/// u ← inner(g) in the rows drawn, rest(g) in the others. Takes matrices alone; inner links see the rows, one matrix,
/// also where they look at parameters. State: density times the inner links', and what `rest` keeps; the rows are drawn
/// again from the seed. The update has full rank. density = 1 is the inner links alone, 0 the rest alone, bit for bit.
template <class Inner, class Rest>
struct ScaleByFrugal {
  static constexpr std::string_view name = "scale_by_frugal";
  FrugalOptions options;
  Inner inner;
  Rest rest;

  template <class T>
  struct State {
    Index count = 0;
    std::vector<detail::OneBlock<T, Inner>> rows;
    std::vector<detail::OneBlock<T, Rest>> rest;
    template <class F>
    void for_each_buffer(const std::string& prefix, const std::vector<ParameterInfo>& infos, F&& f) {
      detail::list_value(f, prefix + "count", count);
      for (std::size_t b = 0; b < rows.size(); ++b) {
        rows[b].state.list_buffers(prefix + "rows." + infos[b].name + '.', f);
        rest[b].state.list_buffers(prefix + "rest." + infos[b].name + '.', f);
      }
    }
  };

  template <class T>
  State<T> init(const Parameters<T>& params) const {
    detail::check_density(name, options);
    State<T> state;
    for (const auto& p : params) {
      detail::check_matrix(name, p);
      state.rows.emplace_back(inner, p.name, detail::share(options.density, p.rows), p.cols);
      state.rest.emplace_back(rest, p.name, p.rows, p.cols);
    }
    return state;
  }
  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, State<T>& state,
                 const Parameters<T>& params) const {
    const Index drawn = state.count / options.refresh;
    const bool anew = state.count > 0 && state.count % options.refresh == 0;
    for (std::size_t b = 0; b < params.size(); ++b) {
      auto& rows = state.rows[b];
      const MatrixView<T> G(updates[b].data(), params[b].rows, params[b].cols);
      const Index k = rows.block[0].rows, cols = G.cols();
      if (anew && k < G.rows()) rows.state = rows.begin(inner);
      Workspace::Scope scope(ctx.workspace);
      auto* which = scope.take<Index>(k);
      detail::sample_in_order(Philox(options.seed, (static_cast<std::uint64_t>(drawn) << 24) + b), G.rows(), k, which);
      const MatrixView<T> R(scope.take<T>(k * cols), k, cols);
      for (Index r = 0; r < k; ++r) {
        std::copy_n(&G(which[r], 0), cols, &R(r, 0));
        std::fill_n(&G(which[r], 0), cols, T(0));
      }
      if (k < G.rows()) state.rest[b].step(ctx, rest, G, params[b].data);
      if (k > 0) rows.step(ctx, inner, R, R.data());
      for (Index r = 0; r < k; ++r) std::copy_n(&R(r, 0), cols, &G(which[r], 0));
    }
    ++state.count;
  }
};

/// `what` for the rows drawn, `rest`, a link or chain, for the others: `chain(scale_by_sign(), scale(0.1))` where their
/// rate is another.
template <class What, class Rest = ScaleBySign>
auto scale_by_frugal(const What& what, FrugalOptions options = {}, const Rest& rest = {}) {
  return ScaleByFrugal<decltype(chain(what)), decltype(chain(rest))>{options, chain(what), chain(rest)};
}

}  // namespace tessera::inline TESSERA_ABI::optim
