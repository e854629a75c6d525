/// Keys compared one by one, at the unit's own flags.
#pragma once

#include <tessera/kernels/spgemm/args.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail::spgemm_portable {

template <class I>
inline unsigned match(const I* keys, I key) {
  unsigned same = 0;
  for (unsigned s = 0; s < 8; ++s) same |= static_cast<unsigned>(keys[s] == key) << s;
  return same;
}

#include <tessera/kernels/spgemm/hash_table.inl>
#include <tessera/kernels/spgemm/moved.inl>
#include <tessera/kernels/spgemm/rows.inl>

}  // namespace detail::spgemm_portable

struct SpgemmPortable : detail::spgemm_portable::SpgemmByRows {
  static constexpr std::string_view name = "spgemm:portable";
  static constexpr Isa isa = Isa::portable;
};

}  // namespace tessera::inline TESSERA_ABI
