/// Element-wise links whose slots are codes, without a way through floats in memory: decoded, used and coded in
/// registers, by the lane that `map` would take.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <type_traits>
#include <utility>

#include <tessera/optim/codes_avx2.hpp>
#include <tessera/optim/codes_avx512.hpp>
#include <tessera/optim/fuse.hpp>
#include <tessera/simd/isa.hpp>

namespace tessera::inline TESSERA_ABI::optim::detail {

inline constexpr Index coded_chunk = 16 * codes::piece;  // what a thread takes at a time

template <class Slot>
struct coded_slot {
  static constexpr bool in_registers = false;
};
template <class Codec, bool Nonnegative>
struct coded_slot<CodedSlot<float, Codec, Nonnegative>> {
  static constexpr bool in_registers = requires(Codec codec) { codec.codes(0); };
  static constexpr bool nonnegative = Nonnegative;
};

template <class T, class... Slots>
inline constexpr bool has_coded_map = TESSERA_X86&& std::is_same_v<T, float> &&
                                      (coded_slot<Slots>::in_registers && ...);

/// The coded map of a lane; see CodedMap::run.
template <class Args, bool... nonnegative>
Index run_coded([[maybe_unused]] Isa isa, [[maybe_unused]] const Args& args) {
#if TESSERA_X86
  if constexpr (compiled_isa.has(Isa::avx512_vbmi))
    if (isa == Isa::avx512 && active_isa().has(Isa::avx512_vbmi))
      return codes::avx512::CodedMap<Args, nonnegative...>::run(args);
  if constexpr (compiled_isa.has(Isa::avx2))
    if (isa == Isa::avx2 || isa == Isa::avx512) return codes::avx2::CodedMap<Args, nonnegative...>::run(args);
#endif
  return 0;
}

/// Elements done from `from` on: whole blocks, none where no lane will do. `isa` is that of the map's kernel; the slots
/// are one link's, `from` and what follows it at most a chunk, from a piece's beginning.
template <class F, class... Slots, class... E>
Index coded_map([[maybe_unused]] Isa isa, const F& f, Index from, Index end, const std::tuple<Slots&...>& slots,
                E*... memory) {
  return std::apply(
      [&](auto&... slot) -> Index {
        const auto first = [](auto& s, auto&...) -> auto& { return *s.codec; };
        using Code = std::remove_pointer_t<decltype(first(slot...).codes(0))>;
        using Args = codes::CodedArgs<F, Code, sizeof...(Slots), E...>;
        std::uint32_t keys[coded_chunk / codes::piece * Args::pairs];
        Index pair = 0, index = 0;
        const auto add_keys = [&](const auto& s) {
          if (index++ % 2 == 1) return;
          for (Index at = from, i = 0; at < end; at += codes::piece, ++i) keys[i * Args::pairs + pair] = s.word(at);
          ++pair;
        };
        (add_keys(slot), ...);
        Args args;
        args.f = &f;
        args.memory = {const_cast<float*>(memory + from)...};
        args.codes = {slot.codec->codes(from)...};
        args.scales = {slot.codec->scales(from)...};
        args.keys = keys;
        args.blocks = (end - from) / codes::block;
        if (args.blocks == 0) return 0;
        return codes::block * run_coded<Args, coded_slot<Slots>::nonnegative...>(isa, args);
      },
      slots);
}

}  // namespace tessera::inline TESSERA_ABI::optim::detail
