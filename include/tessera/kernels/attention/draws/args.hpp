/// Random bits of consecutive keys, a word each.
#pragma once

#include <cstdint>

#include <tessera/core/rng.hpp>
#include <tessera/kernels/kernel.hpp>

namespace tessera::inline TESSERA_ABI {

/// words[k] = that of key 32·first + k. Philox's blocks of four words are laid out so that eight of them, side by side
/// in registers, stand in the order of their keys: key j has word (j mod 32) / 8 of block (j / 32)·8 + j mod 8, whose
/// counter is (block, c1, c2, c3). A RowRange is one of groups of 32 keys.
struct DrawArgs : KernelArgs {
  static constexpr Index group = 32;
  std::uint32_t first = 0;  // group
  std::uint32_t c1 = 0, c2 = 0, c3 = 0, key0 = 0, key1 = 0;
  std::uint32_t* words = nullptr;

  std::uint32_t block(Index of_group, std::uint32_t lane) const {
    return (first + static_cast<std::uint32_t>(of_group)) * 8 + lane;
  }
};

using DrawRun = void (*)(const DrawArgs&, RowRange) noexcept;

}  // namespace tessera::inline TESSERA_ABI
