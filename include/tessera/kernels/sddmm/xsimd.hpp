/// The portable vectors.
#pragma once

#include <tessera/kernels/sddmm/args.hpp>
#include <tessera/simd/pack.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail::sddmm_xsimd {
template <class V>
void sums_of(const V& a, const V& b, const V& c, const V& d, typename V::value_type* sums) {
  sums[0] = reduce_add(a);
  sums[1] = reduce_add(b);
  sums[2] = reduce_add(c);
  sums[3] = reduce_add(d);
}
#include <tessera/kernels/sddmm/rows.inl>
}  // namespace detail::sddmm_xsimd

template <class Arch = simd::arch>
struct SddmmXsimd : detail::sddmm_xsimd::SddmmLoop<simd::Portable<Arch>> {
  static constexpr std::string_view name = "sddmm:xsimd";
  static constexpr Isa isa = Isa::portable;
};

}  // namespace tessera::inline TESSERA_ABI
