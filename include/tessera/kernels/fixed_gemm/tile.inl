// Tiles of fixed-point products. Included once a lane, inside its target region and a namespace of its own, after
// gemm's tile.inl and words.inl; `Lane` multiplies pairs of 16 bits and adds them to int32.

template <class V, Index R, class = std::make_integer_sequence<Index, 2 * R>>
struct ChainTile;

/// R x (2 vectors) of C, in int32 and in f32 at once: both sums stay in registers.
template <class V, Index R, Index... I>
struct ChainTile<V, R, std::integer_sequence<Index, I...>> {
  using Reg = typename V::Reg;
  using Ints = typename V::Ints;

  static void run(Index words, Index chain, const std::uint32_t* a, const std::uint32_t* b, float alpha, float beta,
                  float* c, Index ldc, Index cols) noexcept {
    Reg total[2 * R] = {((void)I, V::zero())...};
    while (words > 0) {
      const Index now = std::min(words, chain);
      words -= now;
      Ints sum[2 * R] = {((void)I, V::none())...};
      Index i = 0;
      for (; i + 4 <= now; i += 4, a += 4 * R, b += 8 * V::lanes) {
        step(sum, a, b);
        step(sum, a + R, b + 2 * V::lanes);
        step(sum, a + 2 * R, b + 4 * V::lanes);
        step(sum, a + 3 * R, b + 6 * V::lanes);
      }
      for (; i < now; ++i, a += R, b += 2 * V::lanes) step(sum, a, b);
      ((total[I] = V::add(total[I], V::floats(sum[I]))), ...);
    }
    const Reg alphas = V::factor(alpha), betas = V::factor(beta);
    if (cols == 2 * V::lanes && beta == 0)
      (V::store(at<I>(c, ldc), V::mul(alphas, total[I])), ...);
    else
      (update<I>(total[I], alphas, betas, beta == 0, c, ldc, cols), ...);
  }

 private:
  static TESSERA_INLINE void step(Ints (&sum)[2 * R], const std::uint32_t* a, const std::uint32_t* b) {
    const Ints line[2] = {V::words(b), V::words(b + V::lanes)};
    ((sum[I] = V::dot(sum[I], V::word(a[I / 2]), line[I % 2])), ...);
  }
  template <Index Z>
  static TESSERA_INLINE float* at(float* c, Index ldc) {
    return c + Z / 2 * ldc + Z % 2 * V::lanes;
  }
  template <Index Z>
  static TESSERA_INLINE void update(Reg total, Reg alpha, Reg beta, bool overwrite, float* c, Index ldc, Index cols) {
    const auto mask = V::first(std::max<Index>(cols - Z % 2 * V::lanes, 0));
    float* p = at<Z>(c, ldc);
    const Reg product = V::mul(alpha, total);
    V::store(mask, p, overwrite ? product : V::fma(beta, V::load(mask, p), product));
  }
};

using ChainFunction = void (*)(Index, Index, const std::uint32_t*, const std::uint32_t*, float, float, float*, Index,
                               Index) noexcept;

template <class V, Index... R>
constexpr std::array<ChainFunction, sizeof...(R)> chain_tiles(std::integer_sequence<Index, R...>) {
  return {&ChainTile<V, R + 1>::run...};
}

/// What BlockedGemm asks of a kernel.
template <class V, Index Rows, Index Mc>
struct ChainOps {
  using PackedA = std::uint32_t;
  using PackedB = std::uint32_t;
  static constexpr GemmTiling tiling{Rows, 2 * V::lanes, Mc, fixed_gemm_kc, 2048};
  static constexpr Index k_unit = fixed_gemm_longest_chain;
  static Index packed_k(Index k) { return (k + 1) / 2; }

  template <class Args>
  static void pack_a(const Args&, const std::int16_t* src, Index lane_stride, Index k_stride, Index lanes, Index k,
                     std::uint32_t* out) noexcept {
    PackWords<std::int16_t>::run(src, lane_stride, k_stride, lanes, lanes, k, 0, out);
  }
  template <class Args>
  static void pack_b(const Args&, const std::int16_t* src, Index lane_stride, Index k_stride, Index lanes, Index k,
                     std::uint32_t* out) noexcept {
    PackWords<std::int16_t>::run(src, lane_stride, k_stride, lanes, tiling.nr, k, 0, out);
  }
  template <class Args>
  static bool in_place_a(const Args&) noexcept {
    return false;
  }
  template <class Args>
  static bool in_place_b(const Args&) noexcept {
    return false;
  }
  template <class Args>
  static void tile(const Args& args, Index rows, Index cols, Index k, TileA<std::uint32_t> a, const std::uint32_t* b,
                   Index, float beta, float* c, Index ldc) noexcept {
    static constexpr auto tiles = chain_tiles<V>(std::make_integer_sequence<Index, Rows>());
    tiles[static_cast<std::size_t>(rows - 1)]((k + 1) / 2, args.chain / 2, a.data, b, args.alpha, beta, c, ldc, cols);
  }
};
