/// The obvious loops.
#pragma once

#include <tessera/kernels/fwht/args.hpp>

namespace tessera::inline TESSERA_ABI {

struct FwhtRef {
  static constexpr std::string_view name = "fwht:ref";
  static constexpr Isa isa = Isa::portable;
  template <class TX, class T>
  static const char* reject(const FwhtArgs<TX, T>&) {
    return nullptr;
  }
  template <class TX, class T>
  static std::size_t scratch(const FwhtArgs<TX, T>& a) {
    return static_cast<std::size_t>(a.n()) * sizeof(T);
  }
  template <class TX, class T>
  static void run(const FwhtArgs<TX, T>& a, RowRange range) noexcept {
    T* const x = reinterpret_cast<T*>(a.scratch_of(range.worker));
    for (Index b = range.begin; b < range.end; ++b) {
      for (Index i = 0; i < a.n(); ++i) x[i] = static_cast<T>(a.X(b, i));
      detail::fwht_loops(x, a.n(), 1);
      for (Index i = 0; i < a.n(); ++i) a.Y(b, i) = detail::fwht_scaled(a.scale, x[i]);
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI
