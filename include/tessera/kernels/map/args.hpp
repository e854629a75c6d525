/// Arguments of a fused map, and the loop that every lane shares.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <type_traits>
#include <utility>

#include <tessera/core/view.hpp>
#include <tessera/kernels/kernel.hpp>
#include <tessera/simd/pack.hpp>

namespace tessera::inline TESSERA_ABI {

/// `E…` are the views' element types, const for those only read. Rows of the launch are elements.
template <class F, class... E>
struct MapArgs : KernelArgs {
  using value_type = std::common_type_t<std::remove_const_t<E>...>;
  static constexpr std::size_t count = sizeof...(E);
  F* f = nullptr;
  std::array<value_type*, count> data{};  // read-only where E is const
  std::array<Index, count> stride{};
  bool contiguous() const {
    return std::all_of(stride.begin(), stride.end(), [](Index s) { return s == 1; });
  }
};

namespace detail {

template <class E, class V>
using map_argument = std::conditional_t<std::is_const_v<E>, const V&, V&>;

template <class V>
TESSERA_INLINE V map_load_strided(const typename V::value_type* p, Index stride, Index n) {
  typename V::value_type all[static_cast<std::size_t>(V::width)] = {};
  for (Index j = 0; j < n; ++j) all[j] = p[j * stride];
  return V::load(all);
}

template <class V>
TESSERA_INLINE void map_store_strided(const V& value, typename V::value_type* p, Index stride, Index n) {
  typename V::value_type all[static_cast<std::size_t>(V::width)];
  value.store(all);
  for (Index j = 0; j < n; ++j) p[j * stride] = all[j];
}

template <class V, class F, class... E, std::size_t... K>
TESSERA_INLINE void map_full(const MapArgs<F, E...>& a, Index i, std::index_sequence<K...>) {
  V packs[sizeof...(E)] = {V::load(a.data[K] + i)...};
  (*a.f)(static_cast<map_argument<E, V>>(packs[K])...);
  ((std::is_const_v<E> ? void() : packs[K].store(a.data[K] + i)), ...);
}

template <class V, class F, class... E, std::size_t... K>
TESSERA_INLINE void map_tail(const MapArgs<F, E...>& a, Index i, Index n, std::index_sequence<K...>) {
  V packs[sizeof...(E)] = {V::load(a.data[K] + i, n)...};
  (*a.f)(static_cast<map_argument<E, V>>(packs[K])...);
  ((std::is_const_v<E> ? void() : packs[K].store(a.data[K] + i, n)), ...);
}

template <class V, class F, class... E, std::size_t... K>
TESSERA_INLINE void map_strided(const MapArgs<F, E...>& a, Index i, Index n, std::index_sequence<K...>) {
  V packs[sizeof...(E)] = {map_load_strided<V>(a.data[K] + i * a.stride[K], a.stride[K], n)...};
  (*a.f)(static_cast<map_argument<E, V>>(packs[K])...);
  ((std::is_const_v<E> ? void() : map_store_strided(packs[K], a.data[K] + i * a.stride[K], a.stride[K], n)), ...);
}

template <class V, class F, class... E>
TESSERA_INLINE void map_run(const MapArgs<F, E...>& a, RowRange range) {
  constexpr std::make_index_sequence<sizeof...(E)> all;
  Index i = range.begin;
  if (a.contiguous()) {
    for (; i + V::width <= range.end; i += V::width) map_full<V>(a, i, all);
    if (i < range.end) map_tail<V>(a, i, range.end - i, all);
  } else {
    for (; i < range.end; i += V::width) map_strided<V>(a, i, std::min(V::width, range.end - i), all);
  }
}

}  // namespace detail
}  // namespace tessera::inline TESSERA_ABI
