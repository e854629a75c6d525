/// The roofs of this machine, under the names the benchmarks use.
#pragma once

#include <tessera/simd/roof.hpp>

namespace tessera::bench {

using roof::seconds;

template <class T>
double fma_roof() {
  return roof::fma<T>();
}
inline double read_roof(const Buffer<float>& memory) { return roof::read(memory); }
inline double copy_roof(const Buffer<float>& from, Buffer<float>& to) { return roof::copy(to, from); }

}  // namespace tessera::bench
