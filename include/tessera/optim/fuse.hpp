/// How neighbouring element-wise links become one function of vectors.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <tessera/core/rng.hpp>
#include <tessera/optim/codes.hpp>
#include <tessera/optim/transform.hpp>

namespace tessera::inline TESSERA_ABI::optim::detail {

template <std::size_t N>
using slots_t = std::integral_constant<std::size_t, N>;

struct NoStep {
  template <class V>
  TESSERA_INLINE void operator()(V&, const V&) const {}
};

/// The steps of several links, each followed by how many slots it takes.
template <class... StepsAndSlots>
struct StepList {
  template <class V>
  TESSERA_INLINE void operator()(V&, const V&) const {}
};

template <class Step, class Slots, class... Rest>
struct StepList<Step, Slots, Rest...> {
  Step step;
  StepList<Rest...> rest;

  template <class V, class... All>
  TESSERA_INLINE void operator()(V& u, const V& p, All&... slots) const {
    take(Slots{}, u, p, slots...);
  }

 private:
  template <class V, class... R>
  TESSERA_INLINE void take(slots_t<0>, V& u, const V& p, R&... r) const {
    step(u, p);
    rest(u, p, r...);
  }
  template <class V, class... R>
  TESSERA_INLINE void take(slots_t<1>, V& u, const V& p, V& a, R&... r) const {
    step(u, p, a);
    rest(u, p, r...);
  }
  template <class V, class... R>
  TESSERA_INLINE void take(slots_t<2>, V& u, const V& p, V& a, V& b, R&... r) const {
    step(u, p, a, b);
    rest(u, p, r...);
  }
  template <class V, class... R>
  TESSERA_INLINE void take(slots_t<3>, V& u, const V& p, V& a, V& b, V& c, R&... r) const {
    step(u, p, a, b, c);
    rest(u, p, r...);
  }
  template <class V, class... R>
  TESSERA_INLINE void take(slots_t<4>, V& u, const V& p, V& a, V& b, V& c, V& d, R&... r) const {
    step(u, p, a, b, c, d);
    rest(u, p, r...);
  }
  template <class V, class... R>
  TESSERA_INLINE void take(slots_t<5>, V& u, const V& p, V& a, V& b, V& c, V& d, V& e, R&... r) const {
    step(u, p, a, b, c, d, e);
    rest(u, p, r...);
  }
};

/// What a reducing link does to block b.
template <class First>
auto of_block(const First& first, std::size_t b) {
  if constexpr (requires { first.block(b); })
    return first.block(b);
  else
    return first;
}

template <class Link, class T, class State>
auto reduce(const Link& link, Context& ctx, std::span<const VectorView<const T>> updates, State& state,
            const Parameters<T>& params) {
  if constexpr (requires { link.reduce(ctx, updates, state, params); })
    return link.reduce(ctx, updates, state, params);
  else
    return link.reduce(ctx, updates, state);
}

/// The end of a chain: parameters move by the update.
template <class Steps>
struct Apply {
  Steps steps;
  template <class V, class... Slots>
  TESSERA_INLINE void operator()(V& p, const V& g, Slots&... slots) const {
    V u = g;
    steps(u, p, slots...);
    p = p + u;
  }
};

/// Before a link that needs all updates: they are written down.
template <class Steps>
struct Materialise {
  Steps steps;
  template <class V, class... Slots>
  TESSERA_INLINE void operator()(V& out, const V& p, const V& g, Slots&... slots) const {
    V u = g;
    steps(u, p, slots...);
    out = u;
  }
};

template <template <class> class Use, class Steps>
Use<Steps> use_of(const Steps& steps) {
  return {steps};
}

/// Links whose slots are kept as codes (storage.hpp).
template <class Link>
inline constexpr bool is_coded = requires {
  typename Link::storage;
};

/// Whether a slot holds squares, whose roots are divided by: what is called "nu…", and what the link says.
template <class Link>
constexpr bool holds_squares(std::size_t slot) {
  if constexpr (requires { Link::squares; })
    for (const std::string_view one : Link::squares)
      if (one == Link::slots[slot]) return true;
  return Link::slots[slot].starts_with("nu");
}

template <class Link>
constexpr auto squares_of() {
  std::array<bool, Link::slots.size()> all{};
  for (std::size_t s = 0; s < all.size(); ++s) all[s] = holds_squares<Link>(s);
  return all;
}

template <class T, class Codec, std::size_t Slots>
struct CodedState {
  std::vector<std::array<Codec, Slots>> blocks;
  /// Codecs that have codes of their own for squares take which they are.
  CodedState(const Parameters<T>& params, const std::array<bool, Slots>& squares) : blocks(params.size()) {
    for (std::size_t b = 0; b < blocks.size(); ++b)
      for (std::size_t s = 0; s < Slots; ++s)
        if constexpr (std::is_constructible_v<Codec, Index, bool>)
          blocks[b][s] = Codec(params[b].size(), squares[s]);
        else
          blocks[b][s] = Codec(params[b].size());
  }
};

/// A slot of one block, piece by piece: `begin`, then for each run of it `open`, work on `data`, `close`.
template <class T>
struct PlainSlot {
  T* all;
  void begin(Index) {}
  void open(Index, Index) const {}
  void close(Index, Index) const {}
  T* data(Index from) const { return all + from; }
};
/// Squares are not negative.
template <class T, class Codec, bool Nonnegative>
struct CodedSlot {
  Codec* codec;
  T* scratch;
  Philox draws;
  bool odd;
  Index piece = 0;
  codes::Key key = 0;
  void begin(Index from) {
    piece = from;
    key = {word(from), odd};
  }
  std::uint32_t word(Index from) const { return draws.bits(static_cast<std::uint64_t>(from)); }
  void open(Index from, Index n) const { codec->decode(from, n, scratch); }
  void close(Index from, Index n) const { codec->encode(from, n, scratch, key, from - piece); }
  T* data(Index) const { return scratch; }
};
/// Elements decoded at once where they are not coded in registers. Tried: 2048 (phases of coding, without reads of
/// memory, twice as long a step from there); 128 (calls cost a fifth).
inline constexpr Index coded_run = 512;

template <class T, class Link, class State>
auto open_slots(const Link& link, State& state, std::size_t link_index, std::size_t b, Index count,
                Workspace::Scope& scope) {
  return [&]<std::size_t... S>(std::index_sequence<S...>) {
    if constexpr (is_coded<Link>) {
      const auto draws = [&](std::size_t slot) {  // one for two slots
        const Philox mix(link.seed, static_cast<std::uint64_t>(count));
        const auto key =
            mix.block((std::uint64_t{link_index} << 40) ^ (std::uint64_t{slot / 2 * 2} << 32) ^ std::uint64_t{b});
        return Philox((std::uint64_t{key[0]} << 32) | key[1], (std::uint64_t{key[2]} << 32) | key[3]);
      };
      return std::tuple{CodedSlot<T, typename Link::storage, holds_squares<Link>(S)>{
          &state.blocks[b][S], scope.take<T>(coded_run), draws(S), S % 2 == 1}...};
    } else {
      return std::tuple{PlainSlot<T>{state.blocks[b][S].data()}...};
    }
  }
  (std::make_index_sequence<Link::slots.size()>{});
}

template <class T, class Link>
auto init_link(const Link& link, const Parameters<T>& params) {
  if constexpr (is_coded<Link>)
    return CodedState<T, typename Link::storage, Link::slots.size()>(params, squares_of<Link>());
  else if constexpr (ElementwiseTransform<Link>)
    return SlotState<T, Link::slots.size()>(params);
  else
    return link.init(params);
}

template <class T, class Link>
using state_t = decltype(init_link(std::declval<const Link&>(), std::declval<const Parameters<T>&>()));

template <class Link, class T>
using step_t = decltype(std::declval<const Link&>().step(Index{}, std::declval<const Parameter<T>&>()));

/// The views of a link's slots of block b, as a tuple.
template <class T, std::size_t Slots>
auto slot_views(SlotState<T, Slots>& state, std::size_t b) {
  return [&]<std::size_t... S>(std::index_sequence<S...>) {
    return std::tuple{VectorView<T>(state.blocks[b][S].data(), state.blocks[b][S].size())...};
  }
  (std::make_index_sequence<Slots>{});
}

template <class Slots, class Step, class... Rest>
StepList<Step, Slots, Rest...> prepend(const Step& step, const StepList<Rest...>& rest) {
  return {step, rest};
}

/// The links [Begin, End) with their coefficients for block p.
template <std::size_t Begin, std::size_t End, class T, class... Links>
auto step_list(const std::tuple<Links...>& links, Index count, const Parameter<T>& p) {
  if constexpr (Begin == End) {
    return StepList<>{};
  } else {
    using Link = std::tuple_element_t<Begin, std::tuple<Links...>>;
    return prepend<slots_t<Link::slots.size()>>(std::get<Begin>(links).step(count, p),
                                                step_list<Begin + 1, End, T>(links, count, p));
  }
}

}  // namespace tessera::inline TESSERA_ABI::optim::detail
