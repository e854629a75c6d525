/// 256-bit vectors.
#pragma once

#include <tessera/kernels/project_one/args.hpp>
#include <tessera/simd/pack_avx2.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)

namespace tessera::inline TESSERA_ABI {

namespace detail::project_one_avx2 {
#include <tessera/kernels/project_one/loop.inl>
}  // namespace detail::project_one_avx2

struct ProjectOneAvx2 {
  static constexpr std::string_view name = "project_one:avx2";
  static constexpr Isa isa = Isa::avx2;
  template <class T>
  static const char* reject(const ProjectOneArgs<T>&) {
    return nullptr;
  }
  template <class T>
  static void run(const ProjectOneArgs<T>& a, RowRange pieces) noexcept {
    detail::project_one_avx2::ProjectOneLoop<simd::Vec<T, simd::Avx2>>::run(a, pieces);
  }
};

}  // namespace tessera::inline TESSERA_ABI

TESSERA_TARGET_END

#endif
