/// The roofs of this machine, under the names the benchmarks use.
#pragma once

#include <type_traits>

#include <tessera/core/config.hpp>
#include <tessera/core/types.hpp>
#include <tessera/simd/roof.hpp>

namespace tessera::bench {

using roof::seconds;

template <class T>
double fma_roof() {
  return roof::fma<T>();
}
/// Of products of bf16 or int8 on AMX, of f32 multiply-adds where there is none.
template <class T>
double narrow_roof() {
  const double tiles = sizeof(T) == 1 ? roof::amx_i8() : std::is_same_v<T, bf16> ? roof::amx_bf16() : 0;
  return tiles > 0 ? tiles : roof::fma<float>();
}

/// What an optimizer's step reads and writes, with hardly any arithmetic: for `map` over p, g and what else is kept.
struct AddToEach {
  template <class V, class... Kept>
  TESSERA_INLINE void operator()(V& p, const V& g, Kept&... kept) const {
    p = p + g;
    ((kept = kept + g), ...);
  }
};

inline double read_roof(const Buffer<float>& memory) { return roof::read(memory); }
inline double copy_roof(const Buffer<float>& from, Buffer<float>& to) { return roof::copy(to, from); }

}  // namespace tessera::bench
