/// The obvious loop; pairs are independent, so compilers vectorise it where they can.
#pragma once

#include <tessera/kernels/rope/args.hpp>

namespace tessera::inline TESSERA_ABI {

struct RopeRef {
  static constexpr std::string_view name = "rope:ref";
  static constexpr Isa isa = Isa::portable;
  template <class T>
  static const char* reject(const RopeArgs<T>&) {
    return nullptr;
  }
  template <class T>
  static void run(const RopeArgs<T>& a, RowRange rows) noexcept {
    for (Index r = rows.begin; r < rows.end; ++r) {
      const T* cos = a.cos + a.angle(r) * a.d;
      const T* sin = a.sin + a.angle(r) * a.d;
      T* x = a.X.data() + r * a.X.row_stride();
      for (Index h = 0; h < a.heads; ++h, x += a.d)
        for (Index i = 0; i < a.d; i += 2) {
          const T s = a.sign * sin[i], even = x[i], odd = x[i + 1];
          x[i] = even * cos[i] - odd * s;
          x[i + 1] = odd * cos[i] + even * s;
        }
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI
