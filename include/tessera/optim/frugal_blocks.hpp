/// FRUGAL by blocks: the state goes round the layers.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <tessera/optim/frugal.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
template <class Opt>
inline constexpr bool elementwise_only = false;
template <class... Links>
inline constexpr bool elementwise_only<Chain<Links...>> = (ElementwiseTransform<Links> && ...);
}  // namespace detail

/// Each block its own layer.
struct each_block {
  std::string operator()(const ParameterInfo& p) const { return p.name; }
};

/// u ← inner(g) in the blocks of the layers that have their turn, rest(g) in the others. Layers, as `layer_of(const
/// ParameterInfo&)` names them, take turns in their order, density of them at a time, each for `refresh` steps and with
/// state at zero. State: the inner links' of those blocks. P. Zmushko et al., "FRUGAL" (2024), §4.2, blockwise; with
/// `freeze()` for a rest it is Q. Luo et al., "BAdam" (NeurIPS 2024).
template <class Inner, class Rest, class LayerOf>
struct ScaleByFrugalBlocks {
  static constexpr std::string_view name = "scale_by_frugal_blocks";
  static_assert(detail::elementwise_only<Inner>, "tessera: scale_by_frugal_blocks takes element-wise links");
  FrugalOptions options;
  Inner inner;
  Rest rest;
  LayerOf layer_of;

  /// What the layers whose turn it is keep, and the others.
  template <class T>
  struct Turn {
    Index number;
    detail::Part<T> taken, others;
    detail::inner_state_t<Inner, T> inner;
    detail::inner_state_t<Rest, T> rest;
    Turn(const ScaleByFrugalBlocks& link, const Parameters<T>& all, Index its, const std::vector<Index>& layer,
         Index layers)
        : number(its),
          taken(all, which(link, its, layer, layers, true)),
          others(all, which(link, its, layer, layers, false)),
          inner(link.inner.init(taken.params)),
          rest(link.rest.init(others.params)) {}
    static std::vector<std::size_t> which(const ScaleByFrugalBlocks& link, Index its, const std::vector<Index>& layer,
                                          Index layers, bool with) {
      const Index k = link.at_a_time(layers);
      std::vector<std::size_t> blocks;
      for (std::size_t b = 0; b < layer.size(); ++b)
        if ((((layer[b] - its % layers * k) % layers + layers) % layers < k) == with) blocks.push_back(b);
      return blocks;
    }
  };

  template <class T>
  struct State {
    ScaleByFrugalBlocks link;
    Index count = 0, layers = 0;
    std::vector<Index> layer;            // of each block
    Parameters<T> all;                   // for their names and sizes
    std::optional<Turn<T>> now, before;  // before: until the next step, where a file is refused and the count put back

    State(const ScaleByFrugalBlocks& of, const Parameters<T>& params) : link(of), all(params) {
      std::vector<std::string> names;
      for (const auto& p : params) {
        const std::string own = link.layer_of(static_cast<const ParameterInfo&>(p));
        const auto at = std::find(names.begin(), names.end(), own);
        layer.push_back(static_cast<Index>(at - names.begin()));
        if (at == names.end()) names.push_back(own);
      }
      layers = static_cast<Index>(names.size());
      settle();
    }
    /// Whose turn it is follows from the count: a state read back finds its blocks when its count is there.
    void settle() {
      const Index number = link.at_a_time(layers) == layers ? 0 : count / link.options.refresh;
      if (now && now->number == number) return;
      std::swap(now, before);
      if (!now || now->number != number) now.emplace(link, all, number, layer, layers);
    }
    template <class F>
    void for_each_buffer(const std::string& prefix, const std::vector<ParameterInfo>&, F&& f) {
      detail::list_value(f, prefix + "count", count);
      settle();
      now->inner.list_buffers(prefix + "taken.", f);
      now->rest.list_buffers(prefix + "rest.", f);
    }
  };

  /// Layers with state; one at least unless density is 0.
  Index at_a_time(Index layers) const {
    return std::max(detail::share(options.density, layers), std::min<Index>(layers, options.density > 0 ? 1 : 0));
  }
  template <class T>
  State<T> init(const Parameters<T>& params) const {
    detail::check_density(name, options);
    return State<T>(*this, params);
  }
  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, State<T>& state,
                 const Parameters<T>& params) const {
    state.settle();
    state.before.reset();
    auto& now = *state.now;
    now.taken.transform(inner, ctx, updates, now.inner, params);
    now.others.transform(rest, ctx, updates, now.rest, params);
    ++state.count;
  }
};

template <class What, class Rest = ScaleBySign, class LayerOf = each_block>
auto scale_by_frugal_blocks(const What& what, FrugalOptions options = {}, const Rest& rest = {},
                            LayerOf layer_of = {}) {
  return ScaleByFrugalBlocks<decltype(chain(what)), decltype(detail::as_optimizer(rest)), LayerOf>{
      options, chain(what), detail::as_optimizer(rest), std::move(layer_of)};
}

}  // namespace tessera::inline TESSERA_ABI::optim
