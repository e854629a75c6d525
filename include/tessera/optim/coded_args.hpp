/// Arguments of a map some of whose vectors are kept as codes; coded_map.hpp runs it.
#pragma once

#include <array>
#include <cstddef>
#include <tuple>
#include <type_traits>

#include <tessera/kernels/map/args.hpp>
#include <tessera/optim/codes.hpp>

namespace tessera::inline TESSERA_ABI::optim::detail::codes {

inline constexpr Index piece = 2048;  // elements of one key
/// Elements between those worked on and those asked for, of bytes: 1 to 3% less time; 16 bits take up to 5% more.
inline constexpr Index ahead = 256;

/// `f(memory…, slots…)` of whole blocks. One key for each piece and two slots.
template <class F, class Code, std::size_t Slots, class... E>
struct CodedArgs {
  const F* f = nullptr;
  std::array<float*, sizeof...(E)> memory{};  // only read where E is const
  std::array<Code*, Slots> codes{};
  std::array<float*, Slots> scales{};  // a block each, none of bf16
  const std::uint32_t* keys = nullptr;
  Index blocks = 0;

  static constexpr Index pairs = (Index{Slots} + 1) / 2;
  std::uint32_t key(Index block_at, Index pair) const { return keys[block_at * block / piece * pairs + pair]; }
};

}  // namespace tessera::inline TESSERA_ABI::optim::detail::codes
