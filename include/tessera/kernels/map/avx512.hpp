/// AVX-512, whatever the unit's flags.
#pragma once

#include <tessera/kernels/map/args.hpp>
#include <tessera/simd/pack_avx512.hpp>

#if TESSERA_X86

// The callable stands outside the region; flatten brings it in, and clang does so only for calls written in the
// flattened function itself, so each kernel has the loop.
TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace tessera::inline TESSERA_ABI {

struct MapAvx512 {
  static constexpr std::string_view name = "map:avx512";
  static constexpr Isa isa = Isa::avx512;
  template <class F, class... E>
  static const char* reject(const MapArgs<F, E...>&) {
    return nullptr;
  }
  template <class F, class... E>
  static void run(const MapArgs<F, E...>& a, RowRange range) noexcept {
    loop(a, range, std::index_sequence_for<E...>());
  }

 private:
  template <class F, class... E, std::size_t... K>
  TESSERA_FLATTEN static void loop(const MapArgs<F, E...>& a, RowRange range, std::index_sequence<K...>) {
    using V = simd::Vec<typename MapArgs<F, E...>::value_type, simd::Avx512>;
    Index i = range.begin;
    if (a.contiguous())
      for (; i + V::width <= range.end; i += V::width) {
        V v[] = {V::load(a.data[K] + i)...};
        (*a.f)(static_cast<detail::map_argument<E, V>>(v[K])...);
        ((std::is_const_v<E> ? void() : v[K].store(a.data[K] + i)), ...);
      }
    for (; i < range.end; i += V::width) {
      const Index n = range.end - i < V::width ? range.end - i : V::width;
      V v[] = {detail::map_load<V>(a.data[K], a.stride[K], i, n)...};
      (*a.f)(static_cast<detail::map_argument<E, V>>(v[K])...);
      ((std::is_const_v<E> ? void() : detail::map_store(v[K], a.data[K], a.stride[K], i, n)), ...);
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END

#endif
