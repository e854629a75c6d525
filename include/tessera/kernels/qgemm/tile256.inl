// Included inside a target region and a namespace of its own: a template belongs to the region that defines it.

/// Tiles of 8 rows on 256-bit registers; `Dot` sums a block.
template <class Dot>
struct QgemmTile256 {
  /// A product that is not fused with the sum it goes into.
  TESSERA_INLINE static __m256 product(__m256 a, __m256 b) {
    __m256 v = _mm256_mul_ps(a, b);
    __asm__("" : "+x"(v));
    return v;
  }
  TESSERA_INLINE static __m256 half(const std::uint16_t* side) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(side)));
  }

  template <class F>
  static void tile(const QgemmTile& t) noexcept {
    for (Index row = 0; row < panel_rows; row += 8) {
      Index c = 0;
      for (; c + 4 <= t.width; c += 4) columns<F, 4>(t, c, row);
      for (; c + 2 <= t.width; c += 2) columns<F, 2>(t, c, row);
      for (; c < t.width; ++c) columns<F, 1>(t, c, row);
    }
  }

  template <class F, int W>
  static void columns(const QgemmTile& t, Index first, Index row) noexcept {
    using P = PanelLayout<F>;
    __m256 y[W];
#pragma GCC unroll 8
    for (int c = 0; c < W; ++c) y[c] = _mm256_setzero_ps();
    const std::uint8_t* codes = t.codes + 4 * row;
    const std::uint16_t* side = t.side + row;
    const std::int8_t* x = t.x + first * block_values;
    const float* scale = t.scale + first;
    const std::int32_t* sum = t.sum + first;
    const bool streamed = t.streamed && first == 0 && row == 0;
    for (Index b = 0; b < t.blocks; ++b) {
      if (streamed) prefetch_panel<F>(codes, side);
      __m256i code[8];
      Dot::template load<F>(codes, code);
      const __m256 d = half(side);
#pragma GCC unroll 8
      for (int c = 0; c < W; ++c) {
        const __m256i dot = Dot::template block<F>(code, x + c * block_values, sum[c]);
        const __m256 step = _mm256_set1_ps(scale[c]);
        y[c] = _mm256_add_ps(y[c], product(product(d, step), _mm256_cvtepi32_ps(dot)));
        if constexpr (F::has_minimum)
          y[c] = _mm256_add_ps(
              y[c], product(product(half(side + panel_rows), step), _mm256_set1_ps(static_cast<float>(sum[c]))));
      }
      codes += P::codes;
      side += P::side;
      x += t.width * block_values;
      scale += t.width;
      sum += t.width;
    }
#pragma GCC unroll 8
    for (int c = 0; c < W; ++c) _mm256_storeu_ps(t.out + (first + c) * panel_rows + row, y[c]);
  }
};
