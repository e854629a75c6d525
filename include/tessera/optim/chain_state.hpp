/// What a chain remembers, and its names in a file.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include <tessera/optim/fuse.hpp>
#include <tessera/optim/transform.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// All a chain remembers; the caller owns it. `links` has one entry a link.
template <class T, class... Links>
struct ChainState {
  Index count = 0;                    // steps done
  std::vector<ParameterInfo> blocks;  // what `init` saw
  std::tuple<detail::state_t<T, Links>...> links;

  explicit ChainState(const Parameters<T>& params, const Links&... all)
      : blocks(params.begin(), params.end()), links(detail::init_link(all, params)...) {}

  /// `f(name, std::span<T>)` for every buffer, in a fixed order: "1.scale_by_adam.mu.<block>". With `count`, this is
  /// everything a checkpoint needs. Links that count or draw by themselves also have spans of Index, std::uint64_t or
  /// double, which `f` must then take.
  template <class F>
  void for_each_buffer(F&& f) {
    each_link(std::string(), f);
  }

  /// The same with `count` first and a prefix before each name, for what holds a chain.
  template <class F>
  void list_buffers(const std::string& prefix, F&& f) {
    f(prefix + "count", std::span<Index>(&count, 1));
    each_link(prefix, f);
  }

  /// Bytes of all buffers.
  std::size_t state_bytes() {
    std::size_t total = 0;
    for_each_buffer([&](const std::string&, auto values) { total += values.size_bytes(); });
    return total;
  }

 private:
  template <class F>
  void each_link(const std::string& before, F& f) {
    std::size_t index = 0;
    const auto each = [&]<class Link>(std::type_identity<Link>, auto& state) {
      const std::string prefix = detail::concat(before, static_cast<Index>(index++), '.', Link::name, '.');
      if constexpr (detail::is_coded<Link>) {
        for (std::size_t b = 0; b < state.blocks.size(); ++b)
          for (std::size_t s = 0; s < Link::slots.size(); ++s)
            state.blocks[b][s].list(detail::concat(prefix, Link::slots[s], '.', blocks[b].name), f);
      } else if constexpr (ElementwiseTransform<Link>) {
        for (std::size_t b = 0; b < state.blocks.size(); ++b)
          for (std::size_t s = 0; s < Link::slots.size(); ++s)
            f(detail::concat(prefix, Link::slots[s], '.', blocks[b].name), std::span<T>(state.blocks[b][s]));
      } else if constexpr (requires { state.for_each_buffer(prefix, blocks, f); }) {
        state.for_each_buffer(prefix, blocks, f);
      } else if constexpr (requires { state.list_buffers(prefix, f); }) {
        state.list_buffers(prefix, f);
      }
    };
    std::apply([&](auto&... state) { (each(std::type_identity<Links>{}, state), ...); }, links);
  }
};

}  // namespace tessera::inline TESSERA_ABI::optim
