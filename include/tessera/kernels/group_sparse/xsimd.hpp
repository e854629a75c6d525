/// The portable lane: codes become floats one by one, the rest at the unit's own flags.
#pragma once

#include <algorithm>
#include <cstdint>
#include <xsimd/xsimd.hpp>

#include <tessera/kernels/group_sparse/args.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail::group_sparse_xsimd {

struct Lane {
  using Reg = xsimd::batch<float>;
  static constexpr Index lanes = static_cast<Index>(Reg::size);
  static constexpr int per = static_cast<int>(SparseGroup::size / lanes);
  static Reg zero() { return Reg(0.0f); }
  static Reg all(float x) { return Reg(x); }
  static Reg load(const float* p) { return Reg::load_unaligned(p); }
  static void store(float* p, Reg x) { x.store_unaligned(p); }
  static Reg add(Reg a, Reg b) { return a + b; }
  static Reg fma(Reg a, Reg b, Reg c) { return xsimd::fma(a, b, c); }
  static float sum(Reg x) {
    float all_of[lanes], s = 0;
    x.store_unaligned(all_of);
    for (const float v : all_of) s += v;
    return s;
  }
  static void decode(const SparseGroup& g, Reg (&w)[per]) {
    float q[SparseGroup::size];
    for (Index b = 0; b < SparseGroup::size / 2; ++b) {
      q[2 * b] = static_cast<float>(g.qs[b] & 15);
      q[2 * b + 1] = static_cast<float>(g.qs[b] >> 4);
    }
    const Reg d(float(g.d)), m(float(g.m));
    for (int r = 0; r < per; ++r) w[r] = d * Reg::load_unaligned(q + r * lanes) + m;
  }
};

#include <tessera/kernels/group_sparse/rows.inl>

}  // namespace detail::group_sparse_xsimd

struct GroupSparseXsimd : detail::group_sparse_xsimd::SparseProduct {
  static constexpr std::string_view name = "group_sparse:xsimd";
  static constexpr Isa isa = Isa::portable;
  static const char* reject(const GroupSparseArgs&) { return nullptr; }
};

}  // namespace tessera::inline TESSERA_ABI
