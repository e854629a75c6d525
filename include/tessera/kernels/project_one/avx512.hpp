/// 512-bit vectors.
#pragma once

#include <tessera/kernels/project_one/args.hpp>
#include <tessera/simd/pack_avx512.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)

namespace tessera::inline TESSERA_ABI {

namespace detail::project_one_avx512 {
#include <tessera/kernels/project_one/loop.inl>
}  // namespace detail::project_one_avx512

struct ProjectOneAvx512 {
  static constexpr std::string_view name = "project_one:avx512";
  static constexpr Isa isa = Isa::avx512;
  template <class T>
  static const char* reject(const ProjectOneArgs<T>&) {
    return nullptr;
  }
  template <class T>
  static void run(const ProjectOneArgs<T>& a, RowRange pieces) noexcept {
    detail::project_one_avx512::ProjectOneLoop<simd::Vec<T, simd::Avx512>>::run(a, pieces);
  }
};

}  // namespace tessera::inline TESSERA_ABI

TESSERA_TARGET_END

#endif
