// Sums of f32 numbers at columns of 32 or 16 bits, in 512-bit vectors; included inside a lane's target region, in a
// namespace of its own. On Zen 4 gathers read from memory 1.15 to 1.4 times as fast as loads number by number, and
// vectors of such loads from caches 1.07 to 1.3 times, 0.84 in rows of 10. On Zen 5 such loads are faster everywhere.
// Tried for f64: 0.94 to 1.13 and, from memory, 0.75.

struct ColumnSums {
  static constexpr Index fewest = 16;  // entries of a sum that pay
  static constexpr Index ahead = 512;
  template <class I>
  static float sum(const float* values, const I* columns, const float* x, Index count, bool gathers) {
    return gathers ? gathered(values, columns, x, count) : loaded(values, columns, x, count);
  }

 private:
  static __m512i read(__mmask16 some, const std::int32_t* columns) { return _mm512_maskz_loadu_epi32(some, columns); }
  static __m512i read(__mmask16 some, const std::uint16_t* columns) {
    return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(some, columns));
  }
  template <class I>
  TESSERA_INLINE static __m512 add(__mmask16 some, const float* values, const I* columns, const float* x, __m512 sum) {
    const __m512 numbers = _mm512_mask_i32gather_ps(_mm512_setzero_ps(), some, read(some, columns), x, 4);
    return _mm512_fmadd_ps(_mm512_maskz_loadu_ps(some, values), numbers, sum);
  }
  template <class I>
  static float gathered(const float* values, const I* columns, const float* x, Index count) {
    __m512 first = _mm512_setzero_ps(), second = first;
    Index e = 0;
    for (; e + 32 <= count; e += 32) {
      first = add(0xffff, values + e, columns + e, x, first);
      second = add(0xffff, values + e + 16, columns + e + 16, x, second);
    }
    for (; e < count; e += 16)
      first = add(static_cast<__mmask16>(count - e >= 16 ? 0xffffu : (1u << (count - e)) - 1u), values + e, columns + e,
                  x, first);
    return _mm512_reduce_add_ps(first + second);
  }
  template <class I>
  TESSERA_INLINE static __m256 add(const float* values, const I* c, const float* x, __m256 sum) {
    if constexpr (sizeof(I) == 4) {  // two columns a load, entries asked for 2 KiB ahead
      std::uint64_t c01, c23, c45, c67;
      __builtin_memcpy(&c01, c, 8);
      __builtin_memcpy(&c23, c + 2, 8);
      __builtin_memcpy(&c45, c + 4, 8);
      __builtin_memcpy(&c67, c + 6, 8);
      const __m256 numbers = _mm256_set_ps(
          x[c67 >> 32], x[static_cast<std::uint32_t>(c67)], x[c45 >> 32], x[static_cast<std::uint32_t>(c45)],
          x[c23 >> 32], x[static_cast<std::uint32_t>(c23)], x[c01 >> 32], x[static_cast<std::uint32_t>(c01)]);
      return _mm256_fmadd_ps(_mm256_loadu_ps(values), numbers, sum);
    }
    const __m256 numbers = _mm256_set_ps(x[c[7]], x[c[6]], x[c[5]], x[c[4]], x[c[3]], x[c[2]], x[c[1]], x[c[0]]);
    return _mm256_fmadd_ps(_mm256_loadu_ps(values), numbers, sum);
  }
  template <class I>
  static float loaded(const float* values, const I* columns, const float* x, Index count) {
    __m256 first = _mm256_setzero_ps(), second = first;
    Index e = 0;
    for (; e + 16 <= count; e += 16) {
      __builtin_prefetch(values + e + ahead);
      __builtin_prefetch(columns + e + ahead);
      first = add(values + e, columns + e, x, first);
      second = add(values + e + 8, columns + e + 8, x, second);
    }
    if (e + 8 <= count) {
      first = add(values + e, columns + e, x, first);
      e += 8;
    }
    float rest = 0;
    for (; e < count; ++e) rest += values[e] * x[columns[e]];
    return _mm512_reduce_add_ps(_mm512_zextps256_ps512(first + second)) + rest;
  }
};
