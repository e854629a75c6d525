#pragma once

#include <tessera/kernels/butterfly/args.hpp>

namespace tessera::inline TESSERA_ABI {

/// The obvious loop.
struct ButterflyRef {
  static constexpr std::string_view name = "butterfly:ref";
  static constexpr Isa isa = Isa::portable;
  template <class TA, class T>
  static const char* reject(const ButterflyArgs<TA, T>&) {
    return nullptr;
  }
  template <class TA, class T>
  static void run(const ButterflyArgs<TA, T>& a, RowRange columns) noexcept {
    for (Index turn = 0; turn < a.levels; ++turn) {
      const bool transposed = a.op == Op::transpose;
      const Index level = transposed ? a.levels - 1 - turn : turn, stride = Index{1} << level;
      const TA *own = a.own(level), *other = a.other(level);
      for (Index i = 0; i < a.size(); ++i) {
        const Index k = i ^ stride;
        if (k < i) continue;
        const T ii(own[i]), kk(own[k]), ik(other[transposed ? k : i]), ki(other[transposed ? i : k]);
        for (Index j = columns.begin; j < columns.end; ++j) {
          const T x = a.X(i, j), y = a.X(k, j);
          a.X(i, j) = ii * x + ik * y;
          a.X(k, j) = ki * x + kk * y;
        }
      }
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI
