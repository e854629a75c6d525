/// Every codec × storage, chosen at run time: laws over them are compiled once.
#pragma once

#include <span>
#include <string>

#include "kv/support.hpp"

namespace tessera::test {

struct Store {
  const char* codec;
  const char* storage;
  AnyKvCache (*make)(Index kv_heads, Index d);
  bool contiguous;  // every byte it holds is an aligned allocation
  bool window;      // what is rewritten fills an exact window again
  double error;     // of attention over N(0, 1), at most

  std::string name() const { return std::string(codec) + storage; }
};

/// Codecs with windows and chunks so short that a few hundred tokens reach every representation; a codec's storages are
/// next to each other.
std::span<const Store> all_stores();
inline constexpr std::size_t of_a_codec = 3;

}  // namespace tessera::test
