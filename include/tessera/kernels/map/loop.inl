// map's loop over one register's elements. The callable stands outside the region; flatten brings it in, and clang does
// so only for calls written in the flattened function itself, and a function takes the target of the place where it is
// written: so each lane includes this inside its target region and a namespace of its own.

template <class Lane>
struct MapLoop {
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
    using V = simd::Vec<typename MapArgs<F, E...>::value_type, Lane>;
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
