// Packing, and a tile of C in registers. Included once a lane, inside its target region and a namespace of its own
// where `Vec` is the lane's register.

/// `lanes` vectors of k entries as k groups of `width`; a group may spill up to a vector, which the next one
/// overwrites. Lanes from `lanes` to `width` hold anything.
template <class TX, class T>
struct Pack {
  using V = Vec<T>;

  static void run(const TX* src, Index lane_stride, Index k_stride, Index lanes, Index width, Index k,
                  T* out) noexcept {
    if (lane_stride == 1)
      copy(src, k_stride, lanes, width, k, out);
    else if (k_stride == 1)
      transpose(src, lane_stride, lanes, width, k, out);
    else
      for (Index i = 0; i < k; ++i)
        for (Index l = 0; l < lanes; ++l) out[i * width + l] = T(src[l * lane_stride + i * k_stride]);
  }

 private:
  static void copy(const TX* src, Index k_stride, Index lanes, Index width, Index k, T* out) noexcept {
    if (lanes == width && width == 2 * V::lanes) {
      for (Index i = 0; i < k; ++i, src += k_stride, out += width) {
        V::store(out, V::load(src));
        V::store(out + V::lanes, V::load(src + V::lanes));
      }
      return;
    }
    const Index whole = lanes / V::lanes * V::lanes;
    const auto mask = V::first(lanes - whole);
    for (Index i = 0; i < k; ++i, src += k_stride, out += width) {
      for (Index l = 0; l < whole; l += V::lanes) V::store(out + l, V::load(src + l));
      if (whole < lanes) V::store(out + whole, V::load(mask, src + whole));
    }
  }

  static void transpose(const TX* src, Index lane_stride, Index lanes, Index width, Index k, T* out) noexcept {
    for (Index l = (lanes - 1) / V::lanes * V::lanes; l >= 0; l -= V::lanes) {  // last first: it may spill
      const TX* row[V::lanes];
      for (Index r = 0; r < V::lanes; ++r) row[r] = src + std::min(l + r, lanes - 1) * lane_stride;
      const Index used = std::min(V::lanes, lanes - l);
      Index i = 0;
      if constexpr (std::is_same_v<TX, T>) {
        for (; i + V::transposed_k <= k; i += V::transposed_k) V::transpose(row, i, out + i * width + l, width);
        for (; i < k; ++i)
          for (Index r = 0; r < used; ++r) out[i * width + l + r] = row[r][i];
      } else {
        alignas(64) T wide[V::lanes][V::lanes];
        const T* wide_row[V::lanes];
        for (Index r = 0; r < V::lanes; ++r) wide_row[r] = wide[r];
        for (; i < k; i += V::lanes) {
          const Index n = std::min(V::lanes, k - i);
          if (n == V::lanes)
            for (Index r = 0; r < V::lanes; ++r) V::store(wide[r], V::load(row[r] + i));
          else
            for (Index r = 0; r < V::lanes; ++r) V::store(wide[r], V::load(V::first(n), row[r] + i));
          Index t = 0;
          for (; t + V::transposed_k <= n; t += V::transposed_k)
            V::transpose(wide_row, t, out + (i + t) * width + l, width);
          for (; t < n; ++t)
            for (Index r = 0; r < used; ++r) out[(i + t) * width + l + r] = wide[r][t];
        }
      }
    }
  }
};

template <class V, Index R, Index NV, bool InRows, class = std::make_integer_sequence<Index, R * NV>>
struct Tile;

/// R x (NV vectors) of C in registers. InRows: rows of A are contiguous, else the R entries that belong together are.
/// V multiplies entries In, several terms of a sum each where the instruction takes them so, and sums to Out.
template <class V, Index R, Index NV, bool InRows, Index... I>
struct Tile<V, R, NV, InRows, std::integer_sequence<Index, I...>> {
  using In = typename V::In;
  using T = typename V::Out;
  using Reg = typename V::Reg;

  static void run(Index k, const In* a, Index lda, const In* b, Index ldb, T alpha, T beta, T* c, Index ldc,
                  Index cols) noexcept {
    for (Index i = 0; i < R; ++i) {
      _mm_prefetch(reinterpret_cast<const char*>(c + i * ldc), _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(c + i * ldc + cols - 1), _MM_HINT_T0);
    }
    Reg sum[R * NV] = {((void)I, V::zero())...};
    Index i = 0;
    if constexpr (InRows) {
      // A pointer for every third row: the two below it are one and two strides away, which is an addressing mode.
      static_assert(R <= 15);
      const In* row[5] = {a, a + 3 * lda, a + 6 * lda, a + 9 * lda, a + 12 * lda};
      for (; i + 4 <= k; i += 4, b += 4 * ldb) {
        step_rows<0>(sum, row, lda, b);
        step_rows<1>(sum, row, lda, b + ldb);
        step_rows<2>(sum, row, lda, b + 2 * ldb);
        step_rows<3>(sum, row, lda, b + 3 * ldb);
        for (Index g = 0; g < groups; ++g) row[g] += 4;
      }
      for (; i < k; ++i, b += ldb) {
        step_rows<0>(sum, row, lda, b);
        for (Index g = 0; g < groups; ++g) row[g] += 1;
      }
    } else {
      for (; i + 4 <= k; i += 4, a += 4 * lda, b += 4 * ldb) {
        step(sum, a, b);
        step(sum, a + lda, b + ldb);
        step(sum, a + 2 * lda, b + 2 * ldb);
        step(sum, a + 3 * lda, b + 3 * ldb);
      }
      for (; i < k; ++i, a += lda, b += ldb) step(sum, a, b);
    }
    const Reg alphas = V::factor(alpha), betas = V::factor(beta);
    if constexpr (!V::free_masks)
      if (cols == NV * V::lanes) {
        if (beta == T(0) && alpha == T(1))  // the products would take the units of the next tile's
          (V::store(at<I>(c, ldc), sum[I]), ...);
        else if (beta == T(0))
          (V::store(at<I>(c, ldc), V::mul(alphas, sum[I])), ...);
        else
          (V::store(at<I>(c, ldc), V::plus(betas, V::load(at<I>(c, ldc)), V::mul(alphas, sum[I]))), ...);
        return;
      }
    if (beta == T(0))
      (V::store(V::first(cols - I % NV * V::lanes), at<I>(c, ldc), V::mul(alphas, sum[I])), ...);
    else
      (update<I>(sum[I], alphas, betas, c, ldc, cols), ...);
  }

 private:
  static constexpr Index groups = (R + 2) / 3;

  static TESSERA_INLINE void step(Reg (&sum)[R * NV], const In* a, const In* b) {
    decltype(V::load(b)) line[NV];
    line[0] = V::load(b);
    if constexpr (NV > 1) line[1] = V::load(b + V::lanes);
    ((sum[I] = V::fma(V::all(a[I / NV]), line[I % NV], sum[I])), ...);
  }
  template <Index At>
  static TESSERA_INLINE void step_rows(Reg (&sum)[R * NV], const In* const* row, Index lda, const In* b) {
    decltype(V::load(b)) line[NV];
    line[0] = V::load(b);
    if constexpr (NV > 1) line[1] = V::load(b + V::lanes);
    ((sum[I] = V::fma(V::all(row[I / NV / 3][I / NV % 3 * lda + At]), line[I % NV], sum[I])), ...);
  }
  template <Index Z>
  static TESSERA_INLINE T* at(T* c, Index ldc) {
    return c + Z / NV * ldc + Z % NV * V::lanes;
  }
  template <Index Z>
  static TESSERA_INLINE void update(Reg sum, Reg alpha, Reg beta, T* c, Index ldc, Index cols) {
    const auto mask = V::first(cols - Z % NV * V::lanes);
    T* p = at<Z>(c, ldc);
    V::store(mask, p, V::plus(beta, V::load(mask, p), V::mul(alpha, sum)));
  }
};

template <class V>
using TileFunction = void (*)(Index, const typename V::In*, Index, const typename V::In*, Index, typename V::Out,
                              typename V::Out, typename V::Out*, Index, Index) noexcept;

template <class V, Index NV, bool InRows, Index... R>
constexpr std::array<TileFunction<V>, sizeof...(R)> tiles_of(std::integer_sequence<Index, R...>) {
  return {&Tile<V, R + 1, NV, InRows>::run...};
}

/// What BlockedGemm asks of a kernel, but its `tiling`.
template <class T, Index Rows>
struct FmaOps {
  using V = Vec<T>;
  using PackedA = T;
  using PackedB = T;
  static constexpr Index k_unit = 1;
  static Index packed_k(Index k) { return k; }
  static constexpr Index mr = Rows, nr = 2 * V::lanes;

  template <class Args, class TX>
  static void pack_a(const Args&, const TX* src, Index lane_stride, Index k_stride, Index lanes, Index k,
                     T* out) noexcept {
    Pack<TX, T>::run(src, lane_stride, k_stride, lanes, lanes, k, out);
  }
  template <class Args, class TX>
  static void pack_b(const Args&, const TX* src, Index lane_stride, Index k_stride, Index lanes, Index k,
                     T* out) noexcept {
    Pack<TX, T>::run(src, lane_stride, k_stride, lanes, nr, k, out);
  }
  template <class Args>
  static bool in_place_a(const Args& args) noexcept {
    return small_enough_for_a_in_place(args, nr);
  }
  template <class Args>
  static bool in_place_b(const Args& args) noexcept {
    return small_enough_for_b_in_place(args, mr);
  }
  template <class Args>
  static void tile(const Args& args, Index rows, Index cols, Index k, TileA<T> a, const T* b, Index ldb, T beta, T* c,
                   Index ldc) noexcept {
    const bool in_rows = a.row != 1;
    tiles[in_rows][cols > V::lanes][static_cast<std::size_t>(rows - 1)](k, a.data, in_rows ? a.row : a.step, b, ldb,
                                                                        args.alpha, beta, c, ldc, cols);
  }

  /// Of A packed or in rows, by vectors and rows. BlockedGemm calls them directly: `tile` cannot be inlined there.
  using Tiles = std::array<TileFunction<V>, Rows>;
  using Numbers = std::make_integer_sequence<Index, Rows>;
  static constexpr Tiles tiles[2][2] = {{tiles_of<V, 1, false>(Numbers()), tiles_of<V, 2, false>(Numbers())},
                                        {tiles_of<V, 1, true>(Numbers()), tiles_of<V, 2, true>(Numbers())}};
};
