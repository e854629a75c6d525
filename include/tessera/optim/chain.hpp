/// Optimizers as chains of transforms, left to right:
///   auto opt = chain(clip_by_global_norm(1.f), scale_by_adam(), add_decayed_weights(.01f), scale(-lr));
///   auto state = opt.init(params);
///   opt.update(ctx, grads, state, params);  // params += chain(grads)
/// Composition as in optax (DeepMind JAX Ecosystem, 2020). Element-wise neighbours run as one pass over memory.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>

#include <tessera/core/context.hpp>
#include <tessera/kernels/map/map.hpp>
#include <tessera/optim/chain_state.hpp>
#include <tessera/optim/coded_map.hpp>
#include <tessera/optim/fuse.hpp>
#include <tessera/optim/norm.hpp>
#include <tessera/optim/transform.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// See the head of this file.
template <GradientTransform... Links>
class Chain {
 public:
  explicit constexpr Chain(std::tuple<Links...> links) : links_(std::move(links)) {}

  constexpr const std::tuple<Links...>& links() const { return links_; }

  /// Fresh state for these blocks.
  template <class T>
  ChainState<T, Links...> init(const Parameters<T>& params) const {
    return std::apply([&](const auto&... all) { return ChainState<T, Links...>(params, all...); }, links_);
  }

  /// params += the chain of grads, in place; grads stay as they are. Throws shape_error when blocks differ in number,
  /// name or size, or have no memory. One pass over memory, one more read of the updates for each reducing link, one
  /// write of them for each reducing or whole link after an element-wise one (a norm is then taken in passing);
  /// temporaries from ctx.workspace. Bit-identical for any thread count. NaN and infinite gradients are passed on: they
  /// spoil what they touch, and through a global norm everything; look at `global_norm` first to skip such a step.
  template <class T>
  void update(Context& ctx, const Parameters<T>& grads, ChainState<T, Links...>& state,
              const Parameters<T>& params) const {
    check(grads, state, params);
    step<0>(ctx, detail::NoStep{}, grads, state, params);
  }

  /// The same where the norm of grads is known to whoever wrote them (`global_norm`), and the first link needs no more.
  template <class T>
  void update(Context& ctx, const Parameters<T>& grads, ChainState<T, Links...>& state, const Parameters<T>& params,
              double norm) const requires detail::begins_with_norm<Links...> {
    check(grads, state, params);
    step<1>(ctx, std::get<0>(links_).template of_norm<T>(norm, std::get<0>(state.links)), grads, state, params);
  }

  /// updates ← the chain of updates, in place; parameters stay as they are. For what holds a chain; sizes are not
  /// checked.
  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, ChainState<T, Links...>& state,
                 const Parameters<T>& params) const {
    Workspace::Scope scope(ctx.workspace);
    auto* read = scope.take<VectorView<const T>>(static_cast<Index>(updates.size()));
    std::copy(updates.begin(), updates.end(), read);
    run<false, 0>(ctx, detail::NoStep{}, std::span<const VectorView<const T>>(read, updates.size()), updates, state,
                  params);
    ++state.count;
  }

 private:
  static constexpr std::size_t n = sizeof...(Links);
  template <std::size_t I>
  using Link = std::tuple_element_t<I, std::tuple<Links...>>;

  template <std::size_t I>
  static constexpr std::size_t run_end() {  // the first link from I on that is not element-wise
    if constexpr (I == n)
      return n;
    else if constexpr (ElementwiseTransform<Link<I>>)
      return run_end<I + 1>();
    else
      return I;
  }

  template <class T>
  static void check(const Parameters<T>& grads, const ChainState<T, Links...>& state, const Parameters<T>& params) {
    detail::check_state_of(state.blocks, params);
    detail::check_same_blocks(params, "parameters", grads, "gradients");
    detail::check_memory(params, "parameter");
    detail::check_memory(grads, "gradient of");
  }

  template <std::size_t Begin, class First, class T>
  void step(Context& ctx, const First& first, const Parameters<T>& grads, ChainState<T, Links...>& state,
            const Parameters<T>& params) const {
    Workspace::Scope scope(ctx.workspace);
    auto* updates = scope.take<VectorView<const T>>(static_cast<Index>(grads.size()));
    for (std::size_t b = 0; b < grads.size(); ++b) updates[b] = VectorView<const T>(grads[b].view());
    run<true, Begin>(ctx, first, std::span<const VectorView<const T>>(updates, grads.size()),
                     std::span<const VectorView<T>>(), state, params);
    ++state.count;
  }

  /// Links from Begin on, applied to `updates` after `first`; `own` is the same memory where it may be written, or
  /// empty. At the end parameters move, or updates stay in `own`.
  template <bool Move, std::size_t Begin, class First, class T>
  void run(Context& ctx, const First& first, std::span<const VectorView<const T>> updates,
           std::span<const VectorView<T>> own, ChainState<T, Links...>& state, const Parameters<T>& params) const {
    constexpr std::size_t end = run_end<Begin>();
    constexpr bool pending = end > Begin || !std::is_same_v<First, detail::NoStep>;
    [[maybe_unused]] double squares = 0;  // of what is written, where the next link asks for no more
    [[maybe_unused]] const auto write = [&](std::size_t b, VectorView<T> to) {
      const auto use = use_of<Begin, end, detail::Materialise>(first, b, state.count, params[b]);
      const auto piece = [&](Context& worker, Index from, Index until) {
        fuse<Begin, end>(worker, use, b, state, params, {from, until}, to.data(), const_cast<const T*>(params[b].data),
                         updates[b].data());
      };
      if constexpr (norm_of_written<Begin, end>())
        squares += detail::sum_squares_written(ctx, VectorView<const T>(to), piece);
      else
        piece(ctx, 0, to.extent(0));
    };
    if constexpr (end == n && Move) {
      for (std::size_t b = 0; b < params.size(); ++b)
        fuse<Begin, end>(ctx, use_of<Begin, end, detail::Apply>(first, b, state.count, params[b]), b, state, params,
                         {0, params[b].size()}, params[b].data, updates[b].data());
    } else if constexpr (end == n) {
      if constexpr (pending)
        for (std::size_t b = 0; b < params.size(); ++b) write(b, own[b]);
    } else {
      const auto& link = std::get<end>(links_);
      auto& state_of_link = std::get<end>(state.links);
      if constexpr (ReducingTransform<Link<end>> && !pending) {
        run<Move, end + 1>(ctx, detail::reduce<Link<end>, T>(link, ctx, updates, state_of_link, params), updates, own,
                           state, params);
      } else {
        Workspace::Scope scope(ctx.workspace);
        if (own.empty()) {
          auto* written = scope.take<VectorView<T>>(static_cast<Index>(params.size()));
          auto* read = scope.take<VectorView<const T>>(static_cast<Index>(params.size()));
          for (std::size_t b = 0; b < params.size(); ++b) {
            written[b] = VectorView<T>(scope.take<T>(params[b].size()), params[b].size());
            read[b] = written[b];
            write(b, written[b]);
          }
          own = {written, params.size()};
          updates = {read, params.size()};
        } else if constexpr (pending) {
          for (std::size_t b = 0; b < params.size(); ++b) write(b, own[b]);
        }
        if constexpr (pending && norm_of_written<Begin, end>()) {
          run<Move, end + 1>(ctx, link.template of_norm<T>(std::sqrt(squares), state_of_link), updates, own, state,
                             params);
        } else if constexpr (ReducingTransform<Link<end>>) {
          run<Move, end + 1>(ctx, detail::reduce<Link<end>, T>(link, ctx, updates, state_of_link, params), updates, own,
                             state, params);
        } else {
          link.transform(ctx, own, state_of_link, params);
          run<Move, end + 1>(ctx, detail::NoStep{}, updates, own, state, params);
        }
      }
    }
  }

  /// The link End needs the norm of what the links [Begin, End) write, whose state is no codes.
  template <std::size_t Begin, std::size_t End>
  static constexpr bool norm_of_written() {
    if constexpr (End < n) return detail::NormTransform<Link<End>>&&[]<std::size_t... I>(std::index_sequence<I...>) {
        return !(detail::is_coded<Link<Begin + I>> || ...);
      }
    (std::make_index_sequence<End - Begin>{});
    else return false;
  }

  /// `first`, then the links [Begin, End), as one function of vectors for block b, which is p. Made once a step and
  /// block, on the caller's thread: schedules and factors may be functions of the caller's.
  template <std::size_t Begin, std::size_t End, template <class> class Use, class First, class T>
  auto use_of(const First& first, std::size_t b, Index count, const Parameter<T>& p) const {
    return detail::use_of<Use>(detail::prepend<detail::slots_t<0>>(detail::of_block(first, b),
                                                                   detail::step_list<Begin, End, T>(links_, count, p)));
  }

  /// Maps `use` over memory… of block b and the slots of the links [Begin, End), elements `range`: at once, or where
  /// slots are codes, all of them run by run.
  template <std::size_t Begin, std::size_t End, class Use, class T, class... E>
  void fuse(Context& ctx, const Use& use, std::size_t b, ChainState<T, Links...>& state, const Parameters<T>& params,
            RowRange range, E*... memory) const {
    const Index size = params[b].size();
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      if constexpr ((detail::is_coded<Link<Begin + I>> || ...)) {
        constexpr bool one_link = ((Link<Begin + I>::slots.size() > 0 ? 1 : 0) + ...) == 1;
        for_each_chunk(ctx, size, detail::coded_chunk, [&](Context& worker, Index begin, Index end) {
          Workspace::Scope scope(worker.workspace);
          std::apply(
              [&](auto... slots) {
                auto run = repeated_map(worker, use, memory..., slots.data(0)...);
                for (Index from = begin; from < end;) {
                  if (from % detail::codes::piece == 0) {
                    if constexpr (one_link && detail::has_coded_map<T, decltype(slots)...>)
                      from += detail::coded_map(run.isa(), use, from, end, std::tie(slots...), memory...);
                    if (from == end) break;
                    (slots.begin(from / detail::codes::piece * detail::codes::piece), ...);
                  }
                  const Index n_run = std::min(detail::coded_run - from % detail::coded_run, end - from);
                  (slots.open(from, n_run), ...);
                  run(n_run, (memory + from)..., slots.data(from)...);
                  (slots.close(from, n_run), ...);
                  from += n_run;
                }
              },
              std::tuple_cat(detail::open_slots<T>(std::get<Begin + I>(links_), std::get<Begin + I>(state.links),
                                                   Begin + I, b, state.count, scope)...));
        });
      } else {
        const auto part = [&](auto* whole) {
          return VectorView<std::remove_pointer_t<decltype(whole)>>(whole + range.begin, range.end - range.begin);
        };
        std::apply([&](auto... slots) { map(ctx, use, part(memory)..., part(slots.data())...); },
                   std::tuple_cat(detail::slot_views(std::get<Begin + I>(state.links), b)...));
      }
    }
    (std::make_index_sequence<End - Begin>{});
  }

  std::tuple<Links...> links_;
};

namespace detail {
template <GradientTransform Link>
std::tuple<Link> as_links(const Link& link) {
  return std::tuple<Link>(link);
}
template <class... Links>
std::tuple<Links...> as_links(const Chain<Links...>& chain) {
  return chain.links();
}
template <class... Links>
Chain<Links...> make_chain(std::tuple<Links...> links) {
  return Chain<Links...>(std::move(links));
}
}  // namespace detail

/// The links and chains given, as one chain: chain(a, chain(b, c)) is chain(a, b, c).
template <class... Parts>
auto chain(const Parts&... parts) {
  return detail::make_chain(std::tuple_cat(detail::as_links(parts)...));
}

}  // namespace tessera::inline TESSERA_ABI::optim
