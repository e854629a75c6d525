/// Fused elementwise maps: one pass over memory whatever the expression.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/simd/math.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

template <class V, class T>
void map_store(const V& value, const VectorView<T>& view, Index i, Index n) {
  if constexpr (!std::is_const_v<T>) {
    if (view.stride(0) == 1) {
      n == V::width ? value.store(view.data() + i) : value.store(view.data() + i, n);
      return;
    }
    std::remove_const_t<T> all[static_cast<std::size_t>(V::width)];
    value.store(all);
    for (Index j = 0; j < n; ++j) view[i + j] = all[j];
  }
}

template <class V, class T>
V map_load(const VectorView<T>& view, Index i, Index n) {
  if (view.stride(0) == 1) return n == V::width ? V::load(view.data() + i) : V::load(view.data() + i, n);
  std::remove_const_t<T> all[static_cast<std::size_t>(V::width)] = {};
  for (Index j = 0; j < n; ++j) all[j] = view[i + j];
  return V::load(all);
}

template <class Lane, class T, class F, class... Views>
void map_range(F& f, Index begin, Index end, const Views&... views) {
  using V = simd::Vec<T, Lane>;
  for (Index i = begin; i < end; i += V::width) {
    const Index n = std::min(V::width, end - i);
    std::array<V, sizeof...(Views)> packs{map_load<V>(views, i, n)...};
    [&]<std::size_t... K>(std::index_sequence<K...>) {
      f(static_cast<std::conditional_t<std::is_const_v<typename Views::element_type>, const V&, V&>>(packs[K])...);
      (map_store<V>(packs[K], views, i, n), ...);
    }
    (std::make_index_sequence<sizeof...(Views)>{});
  }
}

}  // namespace detail

/// Calls `f(p0, p1, …)` with one vector of each view until all elements are done, and writes back those of views that
/// are not const: `map(ctx, [](auto& y, const auto& x) { y = x * sigmoid(x); }, y, x)`. Views (n) of one length and
/// element type, float or double, any stride; a view may be given twice only as the very same elements.
/// Throws shape_error when lengths differ. O(n), one pass, no allocation. `f` is called from several threads at once.
template <class F, class T, class... Rest>
void map(Context& ctx, F&& f, VectorView<T> first, VectorView<Rest>... rest) {
  using S = std::remove_const_t<T>;
  static_assert(sizeof...(Rest) < 8, "tessera: map takes 1 to 8 views");
  static_assert((std::is_same_v<S, std::remove_const_t<Rest>> && ...), "tessera: map's views have one element type");
  static_assert(std::is_same_v<S, float> || std::is_same_v<S, double>, "tessera: map takes float or double views");
  const Index n = first.extent(0);
  int at = 1;
  const auto check = [&](Index length) {
    if (length != n)
      throw shape_error(detail::concat("tessera: map: view 0 has ", n, " elements, view ", at, " has ", length));
    ++at;
  };
  (check(rest.extent(0)), ...);
  constexpr Index grain = Index{1} << 15;
  for_each_chunk(ctx, n, grain, [&](Context&, Index begin, Index end) {
    detail::map_range<simd::Portable<>, S>(f, begin, end, first, rest...);
  });
}

}  // namespace tessera::inline TESSERA_ABI
