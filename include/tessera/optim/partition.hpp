/// An optimizer for each group of blocks.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <tessera/optim/nested.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// A label and what moves the blocks that have it.
template <class Opt>
struct Group {
  std::string label;
  Opt opt;
};
template <class What>
auto group(std::string label, const What& what) {
  return Group<detail::optimizer_t<What>>{std::move(label), detail::as_optimizer(what)};
}

/// Moves nothing, keeps nothing and reads nothing: for the blocks that stay.
struct Freeze {
  struct State : detail::ListedState<State> {
    template <class F>
    void list_buffers(const std::string&, F&&) {}
  };
  template <class T>
  State init(const Parameters<T>&) const {
    return {};
  }
  template <class T>
  void update(Context&, const Parameters<T>&, State&, const Parameters<T>&) const {}
  template <class T>
  void transform(Context&, std::span<const VectorView<T>> updates, State&, const Parameters<T>&) const {
    for (const auto& u : updates) std::fill_n(u.data(), u.extent(0), T(0));
  }
};
inline Freeze freeze() { return {}; }

/// Each block is moved by the group of its label (optax.partition, formerly multi_transform): alone, as one pass over
/// each group's blocks; as a link of a chain, on the updates in memory. Global norms inside a group are the group's.
template <class LabelOf, class... Opts>
struct Partition {
  static constexpr std::string_view name = "partition";
  LabelOf label_of;
  std::tuple<Group<Opts>...> groups;

  template <class T>
  struct State : detail::ListedState<State<T>> {
    std::vector<ParameterInfo> blocks;
    std::vector<std::string> labels;
    std::vector<detail::Part<T>> parts;
    std::tuple<detail::inner_state_t<Opts, T>...> inner;

    State(const Parameters<T>& params, std::vector<std::string> names, std::vector<detail::Part<T>> all,
          std::tuple<detail::inner_state_t<Opts, T>...> states)
        : blocks(params.begin(), params.end()),
          labels(std::move(names)),
          parts(std::move(all)),
          inner(std::move(states)) {}
    /// "decay.0.scale_by_adam.mu.<block>", group after group.
    template <class F>
    void list_buffers(const std::string& prefix, F&& f) {
      std::size_t g = 0;
      std::apply([&](auto&... state) { (state.list_buffers(prefix + labels[g++] + '.', f), ...); }, inner);
    }
  };

  /// Throws unsupported_error for a block whose label no group has, and for two groups of one label.
  template <class T>
  State<T> init(const Parameters<T>& params) const {
    std::vector<std::string> labels;
    std::apply([&](const auto&... g) { (labels.push_back(g.label), ...); }, groups);
    std::string all;
    for (std::size_t g = 0; g < labels.size(); ++g) {
      if (std::find(labels.begin(), labels.begin() + static_cast<std::ptrdiff_t>(g), labels[g]) !=
          labels.begin() + static_cast<std::ptrdiff_t>(g))
        throw unsupported_error(detail::concat("tessera: partition: two groups have the label '", labels[g], "'"));
      all += (g == 0 ? "" : ", ") + labels[g];
    }
    std::vector<std::vector<std::size_t>> taken(labels.size());
    for (std::size_t b = 0; b < params.size(); ++b) {
      const std::string label(label_of(static_cast<const ParameterInfo&>(params[b])));
      const auto at = std::find(labels.begin(), labels.end(), label);
      if (at == labels.end())
        throw unsupported_error(detail::concat("tessera: partition: parameter '", params[b].name, "' has the label '",
                                               label, "'; the groups are: ", all));
      taken[static_cast<std::size_t>(at - labels.begin())].push_back(b);
    }
    std::vector<detail::Part<T>> parts;
    for (auto& which : taken) parts.emplace_back(params, std::move(which));
    auto inner = each([&](auto index) { return std::get<index>(groups).opt.init(parts[index].params); });
    return State<T>(params, std::move(labels), std::move(parts), std::move(inner));
  }

  template <class T>
  void update(Context& ctx, const Parameters<T>& grads, State<T>& state, const Parameters<T>& params) const {
    detail::check_state_of(state.blocks, params);
    detail::check_same_blocks(params, "parameters", grads, "gradients");
    each([&](auto index) {
      auto& part = state.parts[index];
      std::get<index>(groups).opt.update(ctx, part.of_grads(grads), std::get<index>(state.inner),
                                         part.of_params(params));
      return 0;
    });
  }
  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, State<T>& state,
                 const Parameters<T>& params) const {
    each([&](auto index) {
      state.parts[index].transform(std::get<index>(groups).opt, ctx, updates, std::get<index>(state.inner), params);
      return 0;
    });
  }

 private:
  template <class F>
  static auto each(F&& f) {  // f(0), f(1), … in order, as a tuple
    return [&]<std::size_t... G>(std::index_sequence<G...>) {
      return std::tuple{f(std::integral_constant<std::size_t, G>{})...};
    }
    (std::index_sequence_for<Opts...>{});
  }
};

/// `label_of(const ParameterInfo&)` gives a string; see `Partition`.
template <class LabelOf, class... Opts>
Partition<LabelOf, Opts...> partition(LabelOf label_of, Group<Opts>... groups) {
  return {std::move(label_of), {std::move(groups)...}};
}

}  // namespace tessera::inline TESSERA_ABI::optim
