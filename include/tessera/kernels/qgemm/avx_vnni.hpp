// The 256-bit VPDPBUSD of processors without AVX-512.
#pragma once

#include <cstdint>
#include <string_view>

#include <tessera/kernels/qgemm/avx2.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX_VNNI)

namespace detail {

struct OpsAvxVnni : Ops256 {
  TESSERA_INLINE static Int dot(Int sum, Int code, Int x) { return _mm256_dpbusd_avx_epi32(sum, code, x); }
};

namespace avx_vnni_lane {
#include <tessera/kernels/qgemm/dot.inl>
#include <tessera/kernels/qgemm/numbers.inl>
#include <tessera/kernels/qgemm/tile.inl>
}  // namespace avx_vnni_lane

}  // namespace detail

template <class F>
struct QgemmAvxVnni {
  static constexpr std::string_view name = "qgemm:avx_vnni";
  static constexpr Isa isa = Isa::avx_vnni;
  static const char* reject(const QgemmArgs&) { return nullptr; }
  static std::size_t scratch(const QgemmArgs& a) { return detail::qgemm_scratch<F>(a); }
  static void run(const QgemmArgs& a, RowRange rows) noexcept {
    detail::qgemm_rows<F, detail::avx_vnni_lane::QgemmColumns<detail::avx_vnni_lane::DotVnni<detail::OpsAvxVnni>>>(
        a, rows);
  }
};

TESSERA_TARGET_END

}  // namespace tessera::inline TESSERA_ABI
#endif
