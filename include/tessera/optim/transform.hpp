/// What a link of a chain is. Three kinds, told apart by what they have:
///   element-wise   step(count, parameter) → a function of one vector of updates; neighbours fuse into one pass
///   reducing       reduce(ctx, updates, norm state) → the same, after one look at all updates; with a member block(b),
///                  one for each block
///   whole          transform(ctx, updates, state, params), in place; needs the updates in memory
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <tessera/core/buffer.hpp>
#include <tessera/core/context.hpp>
#include <tessera/optim/parameters.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// `link.step(count, p)` gives, for block p and the count of steps done before, a callable
/// `template <class V> void operator()(V& u, const V& p, V& slot0, …) const` that changes the update u; one slot for
/// each name in `Link::slots`, kept between steps, zero at first.
template <class L>
concept ElementwiseTransform = requires(const L& link, Index count, const Parameter<float>& p) {
  { L::name } -> std::convertible_to<std::string_view>;
  { L::slots.size() } -> std::convertible_to<std::size_t>;
  link.step(count, p);
};

/// `link.reduce(ctx, updates, state)` or `link.reduce(ctx, updates, state, params)` reads all updates and gives such a
/// callable without slots, or what gives one for block b by `.block(b)`.
template <class L>
concept ReducingTransform = requires(const L& link, const Parameters<float>& params) {
  { L::name } -> std::convertible_to<std::string_view>;
  { link.init(params) } -> std::movable;
}
&&(
    requires(const L& link, Context& ctx, const Parameters<float>& params,
             std::span<const VectorView<const float>> updates) {
      link.reduce(ctx, updates, *std::declval<decltype(link.init(params))*>());
    } ||
    requires(const L& link, Context& ctx, const Parameters<float>& params,
             std::span<const VectorView<const float>> updates) {
      link.reduce(ctx, updates, *std::declval<decltype(link.init(params))*>(), params);
    });

/// `link.transform(ctx, updates, state, params)` changes updates in place.
template <class L>
concept WholeTransform = requires(const L& link, Context& ctx, const Parameters<float>& params,
                                  std::span<const VectorView<float>> updates) {
  { L::name } -> std::convertible_to<std::string_view>;
  { link.init(params) } -> std::movable;
  link.transform(ctx, updates, *std::declval<decltype(link.init(params))*>(), params);
};

template <class L>
concept GradientTransform = ElementwiseTransform<L> || ReducingTransform<L> || WholeTransform<L>;

/// The slots of an element-wise link: a zeroed buffer for each slot of each block.
template <class T, std::size_t Slots>
struct SlotState {
  std::vector<std::array<Buffer<T>, Slots>> blocks;

  explicit SlotState(const Parameters<T>& params) : blocks(Slots == 0 ? 0 : params.size()) {
    for (std::size_t b = 0; b < blocks.size(); ++b)
      for (auto& slot : blocks[b]) slot = Buffer<T>(params[b].size());
  }
};

}  // namespace tessera::inline TESSERA_ABI::optim
