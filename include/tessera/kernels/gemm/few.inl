// Few columns against many lines. Included after tile.inl, once a lane, inside its target region.

/// R lines of `many`, contiguous along the sum, times NV vectors of packed columns. A line's entries are broadcast, so
/// a product's rounding depends on nothing around it.
template <class TM, class T, Index R, Index NV, class = std::make_integer_sequence<Index, R * NV>>
struct FewTile;

template <class TM, class T, Index R, Index NV, Index... I>
struct FewTile<TM, T, R, NV, std::integer_sequence<Index, I...>> {
  using V = Vec<T>;
  using Reg = typename V::Reg;
  static constexpr Index width = NV * V::lanes;
  static constexpr Index line = 64 / static_cast<Index>(sizeof(TM));  // entries of a cache line

  /// Entry (i, j) to c[i * ldc + j], j < cols. `next` is the first of the lines that come after these.
  static void run(const TM* many, Index stride, const TM* next, const T* few, Index k, T alpha, T beta, T* c, Index ldc,
                  Index cols) noexcept {
    Reg sum[R * NV] = {((void)I, V::zero())...};
    const TM *ahead = next, *row_end = next + k;
    for (Index i = 0; i < k; i += line) {
      // As many lines of the next R rows as are read of these, in the order of memory, into the second-level cache.
      for (Index r = 0; r < R; ++r) _mm_prefetch(reinterpret_cast<const char*>(ahead + r * line), _MM_HINT_T1);
      ahead += R * line;
      if (ahead >= row_end) {
        next += stride;
        ahead = next;
        row_end = next + k;
      }
      const Index n = std::min(line, k - i);
      if constexpr (std::is_same_v<TM, T>) {
        steps(sum, many + i, stride, few + i * width, n);
      } else {
        alignas(64) T wide[R * line];
        for (Index r = 0; r < R; ++r)
          for (Index l = 0; l < n; l += V::lanes)
            V::store(wide + r * line + l, l + V::lanes <= n ? V::load(many + r * stride + i + l)
                                                            : V::load(V::first(n - l), many + r * stride + i + l));
        steps(sum, wide, line, few + i * width, n);
      }
    }
    const Reg alphas = V::all(alpha), betas = V::all(beta);
    if (beta == T(0))
      (V::store(V::first(cols - I % NV * V::lanes), c + I / NV * ldc + I % NV * V::lanes, V::mul(alphas, sum[I])), ...);
    else
      (update<I>(sum[I], alphas, betas, c, ldc, cols), ...);
  }

 private:
  static TESSERA_INLINE void steps(Reg (&sum)[R * NV], const T* many, Index stride, const T* few, Index n) {
    const T* row[3] = {many, many + (R > 3 ? 3 * stride : 0), many + (R > 6 ? 6 * stride : 0)};
    Index i = 0;
    for (; i + 4 <= n; i += 4, few += 4 * width) {
      step<0>(sum, row, stride, few);
      step<1>(sum, row, stride, few + width);
      step<2>(sum, row, stride, few + 2 * width);
      step<3>(sum, row, stride, few + 3 * width);
      row[0] += 4;
      row[1] += 4;
      row[2] += 4;
    }
    for (; i < n; ++i, few += width) {
      step<0>(sum, row, stride, few);
      ++row[0];
      ++row[1];
      ++row[2];
    }
  }
  template <Index At>
  static TESSERA_INLINE void step(Reg (&sum)[R * NV], const T* const* row, Index stride, const T* few) {
    static_assert(R <= 9);
    Reg column[NV];
    column[0] = V::load(few);
    if constexpr (NV > 1) column[1] = V::load(few + V::lanes);
    ((sum[I] = V::fma(V::all(row[I / NV / 3][I / NV % 3 * stride + At]), column[I % NV], sum[I])), ...);
  }
  template <Index Z>
  static TESSERA_INLINE void update(Reg sum, Reg alpha, Reg beta, T* c, Index ldc, Index cols) {
    const auto mask = V::first(cols - Z % NV * V::lanes);
    T* p = c + Z / NV * ldc + Z % NV * V::lanes;
    V::store(mask, p, V::fma(beta, V::load(mask, p), V::mul(alpha, sum)));
  }
};

/// What FewGemm asks of a lane.
template <class T>
struct FewOps {
  static constexpr Index rows = Vec<T>::free_masks ? 8 : 6;  // 8 x 2 or 6 x 2 sums
  static constexpr Index lanes = Vec<T>::lanes;

  template <class TX>
  static void pack(const TX* src, Index lane_stride, Index k_stride, Index count, Index width, Index k,
                   T* out) noexcept {
    Pack<TX, T>::run(src, lane_stride, k_stride, count, width, k, out);
  }
  /// The lines that one call takes of `left`.
  static Index take(Index left) noexcept { return left >= rows ? rows : left >= 2 ? 2 : 1; }
  template <class TM>
  static void tile(Index count, const TM* many, Index stride, const TM* next, const T* few, Index k, T alpha, T beta,
                   T* c, Index ldc, Index cols) noexcept {
    const auto run = cols > lanes    ? count == rows ? &FewTile<TM, T, rows, 2>::run
                                       : count == 2  ? &FewTile<TM, T, 2, 2>::run
                                                     : &FewTile<TM, T, 1, 2>::run
                     : count == rows ? &FewTile<TM, T, rows, 1>::run
                     : count == 2    ? &FewTile<TM, T, 2, 1>::run
                                     : &FewTile<TM, T, 1, 1>::run;
    run(many, stride, next, few, k, alpha, beta, c, ldc, cols);
  }
};
