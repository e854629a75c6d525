/// The portable vectors.
#pragma once

#include <tessera/kernels/project_one/args.hpp>
#include <tessera/simd/pack.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail::project_one_xsimd {
#include <tessera/kernels/project_one/loop.inl>
}  // namespace detail::project_one_xsimd

template <class Arch = simd::arch>
struct ProjectOneXsimd {
  static constexpr std::string_view name = "project_one:xsimd";
  static constexpr Isa isa = Isa::portable;
  template <class T>
  static const char* reject(const ProjectOneArgs<T>&) {
    return nullptr;
  }
  template <class T>
  static void run(const ProjectOneArgs<T>& a, RowRange pieces) noexcept {
    detail::project_one_xsimd::ProjectOneLoop<simd::Vec<T, simd::Portable<Arch>>>::run(a, pieces);
  }
};

}  // namespace tessera::inline TESSERA_ABI
