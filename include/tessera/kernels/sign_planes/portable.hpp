/// The portable lane: eight floats, which compilers keep in registers of their flags. xsimd's are wider than a byte of
/// signs where flags say AVX-512.
#pragma once

#include <cstdint>

#include <tessera/kernels/sign_planes/args.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail::sign_planes_portable {

struct Lane {
  struct Reg {
    float of[8];
  };
  static TESSERA_INLINE Reg zero() { return {}; }
  static TESSERA_INLINE Reg all(float x) { return {{x, x, x, x, x, x, x, x}}; }
  static TESSERA_INLINE Reg load(const float* p) {
    Reg x;
    for (int i = 0; i < 8; ++i) x.of[i] = p[i];
    return x;
  }
  static TESSERA_INLINE void store(float* p, const Reg& x) {
    for (int i = 0; i < 8; ++i) p[i] = x.of[i];
  }
  static TESSERA_INLINE Reg fma(const Reg& a, const Reg& b, Reg c) {
    for (int i = 0; i < 8; ++i) c.of[i] += a.of[i] * b.of[i];
    return c;
  }
  static TESSERA_INLINE float sum(const Reg& x) {
    float total = 0;
    for (const float v : x.of) total += v;
    return total;
  }
};

#include <tessera/kernels/sign_planes/rows.inl>

}  // namespace detail::sign_planes_portable

struct SignPlanesPortable : detail::sign_planes_portable::SignPlanesRows {
  static constexpr std::string_view name = "sign_planes:portable";
  static constexpr Isa isa = Isa::portable;
  static const char* reject(const SignPlanesArgs&) { return nullptr; }
};

}  // namespace tessera::inline TESSERA_ABI
