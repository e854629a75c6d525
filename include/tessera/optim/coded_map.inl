// Maps over coded slots in one pass, written on a lane's registers and included in its namespace. A slot's numbers do
// not leave registers in bf16. Bytes need a block's largest number first: they are coded two blocks later, from the
// first cache, among the arithmetic of the block at hand, whose roots and divisions leave time for it.

template <class Args, bool... nonnegative>
struct CodedMap;

template <class F, class Code, std::size_t Slots, class... E, bool... nonnegative>
struct CodedMap<CodedArgs<F, Code, Slots, E...>, nonnegative...> {
  using Args = CodedArgs<F, Code, Slots, E...>;
  static constexpr bool bytes = sizeof(Code) == 1;

  /// Of the blocks given, how many are done: a slot said to be non-negative whose codes are not stops it.
  static Index run(const Args& a) noexcept {
    constexpr std::make_integer_sequence<int, registers> each;
    if constexpr (bytes)
      return run8(a, std::index_sequence_for<E...>(), std::make_index_sequence<Slots>(), each);
    else
      return run16(a, std::index_sequence_for<E...>(), std::make_index_sequence<Slots>(), each);
  }

 private:
  template <std::size_t... K, std::size_t... S>
  TESSERA_FLAT static void apply(const F& f, float* const (&memory)[sizeof...(E)], V (&slot)[Slots], Index at,
                                 std::index_sequence<K...>, std::index_sequence<S...>) {
    V v[] = {V::load(memory[K] + at)...};
    if constexpr (bytes)
      (_mm_prefetch(reinterpret_cast<const char*>(memory[K] + at) + ahead * Index{sizeof(float)}, _MM_HINT_T0), ...);
    f(static_cast<tessera::detail::map_argument<E, V>>(v[K])..., slot[S]...);
    ((std::is_const_v<E> ? void() : v[K].store(memory[K] + at)), ...);
  }

  template <int r, class K, std::size_t... S>
  TESSERA_FLAT static void step16(const F& f, float* const (&memory)[sizeof...(E)], const Code* const (&codes)[Slots],
                                  const Noise* noise, Words (&up)[Slots][registers], K each,
                                  std::index_sequence<S...> slots) {
    constexpr Index at = r * V::width;
    V slot[] = {V(bf16_values(codes[S] + at), 0)...};
    apply(f, memory, slot, at, each, slots);
    ((up[S][r] = bf16_round(bits_of(slot[S]), noise[S / 2].template draw<16, S % 2 == 1, r>())), ...);
  }
  template <std::size_t... K, std::size_t... S, int... r>
  TESSERA_FLATTEN static Index run16(const Args& a, std::index_sequence<K...> each, std::index_sequence<S...> slots,
                                     std::integer_sequence<int, r...>) noexcept {
    const F& f = *a.f;
    Noise noise[static_cast<std::size_t>(Args::pairs)];
    for (Index i = 0; i < a.blocks * block; i += 64) {
      if (i % piece == 0)
        for (Index pair = 0; pair < Args::pairs; ++pair) noise[pair].start(a.key(i / block, pair), 0);
      for (Noise& n : noise) n.next();
      float* const memory[] = {a.memory[K] + i...};
      Code* const codes[] = {a.codes[S] + i...};
      Words up[Slots][registers];
      (step16<r>(f, memory, codes, noise, up, each, slots), ...);
      (bf16_pack(up[S], codes[S]), ...);
    }
    return a.blocks;
  }

  /// What byte slots of a block hold between their two passes.
  struct Held {
    alignas(64) float values[Slots][block];
    alignas(16) float largest[Args::pairs * 4];  // of slots 2i and 2i + 1 from 4i on
    alignas(16) float inverse[Args::pairs * 4];
    bool usual;  // finite, and of the sign that was said

    TESSERA_INLINE void reduce(const Words (&most)[2 * Args::pairs]) {
      int unusual = 0;
      for (Index pair = 0; pair < Args::pairs; ++pair) {
        const __m128i x = largest_of(most[2 * pair], most[2 * pair + 1]), infinity = _mm_set1_epi32(0x7F800000);
        const __m128 scale = _mm_castsi128_ps(x), enough = _mm_cmpge_ps(scale, _mm_set1_ps(least_scale));
        _mm_store_ps(largest + 4 * pair, scale);
        _mm_store_ps(inverse + 4 * pair, _mm_and_ps(enough, _mm_div_ps(_mm_set1_ps(1.0f), scale)));
        unusual |= _mm_movemask_epi8(_mm_cmpeq_epi32(_mm_max_epu32(x, infinity), x));
      }
      usual = unusual == 0;
    }
  };
  template <std::size_t... S>
  static void encode(const Args& a, Index b, const Held& held, std::index_sequence<S...>) noexcept {
    const auto at = static_cast<std::uint32_t>(b * block % piece);
    ((a.scales[S][b] = dynamic8_encode(held.values[S], nonnegative, a.codes[S] + b * block,
                                       Key(a.key(b, Index{S} / 2), S % 2 == 1), at)),
     ...);
  }

  template <int r, class K, std::size_t... S>
  TESSERA_FLAT static void step8(const F& f, float* const (&memory)[sizeof...(E)], const Code* const (&codes)[Slots],
                                 const Floats (&by)[Slots], const Floats (&less)[Slots], Held& now,
                                 Words (&most)[2 * Args::pairs], const Held& before, const Floats (&inverse)[Slots],
                                 const Noise* noise, Words (&up)[Slots][registers], Index j, K each,
                                 std::index_sequence<S...> slots) {
    const Index at = j + r * V::width;
    V slot[] = {V(dynamic8_values<nonnegative>(codes[S] + at, by[S], less[S]), 0)...};
    apply(f, memory, slot, at, each, slots);
    (slot[S].store(now.values[S] + at), ...);
    ((most[S] = most_of(most[S], nonnegative ? bits_of(slot[S]) : magnitude(bits_of(slot[S])))), ...);
    ((up[S][r] = dynamic8_round<nonnegative>(load(before.values[S] + at), inverse[S],
                                             noise[S / 2].template draw<20, S % 2 == 1, r>())),
     ...);
  }
  template <std::size_t... K, std::size_t... S, int... r>
  TESSERA_FLATTEN static Index run8(const Args& a, std::index_sequence<K...> each, std::index_sequence<S...> slots,
                                    std::integer_sequence<int, r...>) noexcept {
    const F& f = *a.f;
    Held held[4] = {};
    alignas(64) Code nowhere[block];
    Noise noise[static_cast<std::size_t>(Args::pairs)];
    for (Noise& n : noise) n.start(0, 0);
    Index k = 0;
    for (; k < a.blocks && !((nonnegative && any_sign(a.codes[S] + k * block)) || ...); ++k) {
      const Index old = k - 2, i = k * block;
      const Held& before = held[old & 3];
      Held& now = held[k & 3];
      const bool usual = old >= 0 && before.usual;
      if (usual)
        ((a.scales[S][old] = before.largest[S / 2 * 4 + S % 2]), ...);
      else if (old >= 0)
        encode(a, old, before, slots);
      if (old * block % piece == 0)
        for (Index pair = 0; pair < Args::pairs; ++pair) noise[pair].start(a.key(old, pair), 0);
      float* const memory[] = {a.memory[K] + i...};
      const Code* const codes[] = {a.codes[S] + i...};
      Code* const to[] = {(usual ? a.codes[S] + old * block : nowhere)...};
      const Floats by[] = {all(a.scales[S][k])...}, less[] = {times(all(offset), by[S])...};
      const Floats inverse[] = {all(before.inverse[S / 2 * 4 + S % 2])...};
      Words most[2 * Args::pairs] = {(static_cast<void>(S), word(0))...};
      for (Index j = 0; j < block; j += 64) {
        for (Noise& n : noise) n.next();
        (_mm_prefetch(reinterpret_cast<const char*>(codes[S] + j) + ahead, _MM_HINT_T0), ...);
        Words up[Slots][registers];
        (step8<r>(f, memory, codes, by, less, now, most, before, inverse, noise, up, j, each, slots), ...);
        (dynamic8_pack<nonnegative>(up[S], to[S] + j), ...);
      }
      if constexpr (Slots % 2 == 1) most[Slots] = most[Slots - 1];
      now.reduce(most);
    }
    for (Index old = k < 2 ? 0 : k - 2; old < k; ++old) encode(a, old, held[old & 3], slots);
    return k;
  }
};
