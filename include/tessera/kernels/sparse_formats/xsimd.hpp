/// The unit's own flags.
#pragma once

#include <cstdint>

#include <tessera/kernels/sparse_formats/args.hpp>
#include <tessera/simd/pack.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail::sparse_formats_xsimd {

template <class S, class I>
TESSERA_FLAT simd::Vec<S, simd::Portable<>> gather(const S* x, const I* at) {
  using R = simd::Vec<S, simd::Portable<>>;
  S all[static_cast<std::size_t>(R::width)];
  for (Index i = 0; i < R::width; ++i) all[i] = x[at[i]];
  return R::load(all);
}
#include <tessera/kernels/sparse_formats/loops.inl>

}  // namespace detail::sparse_formats_xsimd

struct BsrXsimd : detail::sparse_formats_xsimd::BsrLoop<simd::Portable<>> {
  static constexpr std::string_view name = "bsr:xsimd";
  static constexpr Isa isa = Isa::portable;
};
struct CslXsimd : detail::sparse_formats_xsimd::CslLoop<simd::Portable<>> {
  static constexpr std::string_view name = "csl:xsimd";
  static constexpr Isa isa = Isa::portable;
};
struct SellXsimd : detail::sparse_formats_xsimd::SellLoop<simd::Portable<>> {
  static constexpr std::string_view name = "sell:xsimd";
  static constexpr Isa isa = Isa::portable;
};

}  // namespace tessera::inline TESSERA_ABI
