/// The unit's own flags; levels inside a register go through memory.
#pragma once

#include <cstdint>
#include <utility>

#include <tessera/kernels/fwht/args.hpp>
#include <tessera/simd/pack.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail::fwht_xsimd {

template <class T>
struct Lane {
  using value_type = T;
  using Reg = xsimd::batch<T, simd::arch>;
  static constexpr Index lanes = static_cast<Index>(Reg::size), most = 8;
  static Reg all(T x) { return Reg(x); }
  static Reg load(const T* p) { return Reg::load_unaligned(p); }
  static Reg load(const std::int8_t* p) requires std::is_same_v<T, std::int32_t> {
    T wide[static_cast<std::size_t>(lanes)];
    for (Index i = 0; i < lanes; ++i) wide[i] = p[i];
    return load(wide);
  }
  static void store(T* p, Reg x) { x.store_unaligned(p); }
  static Reg add(Reg a, Reg b) { return a + b; }
  static Reg sub(Reg a, Reg b) { return a - b; }
  static Reg mul(Reg a, Reg b) { return a * b; }
  template <class TX>
  static Reg within(const TX* p) {
    T x[static_cast<std::size_t>(lanes)];
    for (Index i = 0; i < lanes; ++i) x[i] = static_cast<T>(p[i]);
    fwht_loops(x, lanes, 1);
    return load(x);
  }
};

#include <tessera/kernels/fwht/passes.inl>

}  // namespace detail::fwht_xsimd

struct FwhtXsimd : detail::fwht_xsimd::FwhtLaneKernel<detail::fwht_xsimd::Lane> {
  static constexpr std::string_view name = "fwht:xsimd";
  static constexpr Isa isa = Isa::portable;
};

}  // namespace tessera::inline TESSERA_ABI
