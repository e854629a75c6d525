/// Links under names of their own.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <tuple>
#include <utility>

#include <tessera/optim/chain.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// Text as a template argument.
template <std::size_t N>
struct Label {
  char text[N]{};
  constexpr Label(const char (&from)[N]) {  // NOLINT(google-explicit-constructor): named<"adam">
    std::copy_n(from, N, text);
  }
  constexpr std::string_view view() const { return {text, N - 1}; }
};

template <Label Name, GradientTransform Link>
struct Named : Link {
  static constexpr std::string_view name = Name.view();
};

/// The link under another name: `named<"slow">(trace(0.99))` (optax.named_chain, link by link). Buffers are listed
/// under it, and `link_state<"slow">(state)` finds the link's state.
template <Label Name, GradientTransform Link>
Named<Name, Link> named(Link link) {
  return {std::move(link)};
}

namespace detail {
template <Label Name, class T, class... Links>
constexpr std::size_t index_of_name() {
  constexpr std::string_view names[] = {Links::name..., ""};
  constexpr std::size_t at = static_cast<std::size_t>(std::find(names, names + sizeof...(Links), Name.view()) - names);
  static_assert(at < sizeof...(Links), "tessera: the chain has no link of this name");
  return at;
}
}  // namespace detail

/// The state of the first link of this name, given to it or its own: `link_state<"clip_by_global_norm">(state).norm`.
template <Label Name, class T, class... Links>
auto& link_state(ChainState<T, Links...>& state) {
  return std::get<detail::index_of_name<Name, T, Links...>()>(state.links);
}

}  // namespace tessera::inline TESSERA_ABI::optim
