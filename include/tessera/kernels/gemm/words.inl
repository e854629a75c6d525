// Packing for instructions that take 32-bit words of several neighbouring terms of a sum. Included after tile.inl, once
// a lane, inside its target region; `Vec<float>` moves the words.

/// Words of `per` neighbours along k, `lanes` of them to a group of `width`. What a word lacks at the end of k is
/// `pad`. A group may spill up to 16 words, which the next one overwrites.
template <class E>
struct PackWords {
  static constexpr Index per = 4 / static_cast<Index>(sizeof(E));
  using V = Vec<float>;

  static void run(const E* src, Index lane_stride, Index k_stride, Index lanes, Index width, Index k, E pad,
                  std::uint32_t* out) noexcept {
    if (k_stride == 1)
      transpose(src, lane_stride, lanes, width, k, pad, out);
    else if (lane_stride == 1)
      interleave(src, k_stride, lanes, width, k, pad, out);
    else
      for (Index i = 0; i < k; i += per)
        for (Index l = 0; l < lanes; ++l)
          out[i / per * width + l] = word(src + l * lane_stride + i * k_stride, k_stride, k - i, pad);
  }

 private:
  static std::uint32_t word(const E* src, Index stride, Index left, E pad) {
    E part[per];
    for (Index e = 0; e < per; ++e) part[e] = e < left ? src[e * stride] : pad;
    std::uint32_t bits;
    __builtin_memcpy(&bits, part, 4);
    return bits;
  }

  static void transpose(const E* src, Index lane_stride, Index lanes, Index width, Index k, E pad,
                        std::uint32_t* out) noexcept {
    const Index words = k / per;
    for (Index l = (lanes - 1) / V::lanes * V::lanes; l >= 0; l -= V::lanes) {  // last first: it may spill
      const float* row[V::lanes];
      for (Index r = 0; r < V::lanes; ++r)
        row[r] = reinterpret_cast<const float*>(src + std::min(l + r, lanes - 1) * lane_stride);
      Index i = 0;
      for (; i + V::transposed_k <= words; i += V::transposed_k)
        V::transpose(row, i, reinterpret_cast<float*>(out) + i * width + l, width);
      for (; i * per < k; ++i)
        for (Index r = 0; r < std::min(V::lanes, lanes - l); ++r)
          out[i * width + l + r] = word(src + (l + r) * lane_stride + i * per, 1, k - i * per, pad);
    }
  }

  static void interleave(const E* src, Index k_stride, Index lanes, Index width, Index k, E pad,
                         std::uint32_t* out) noexcept {
    constexpr Index each = 16 / static_cast<Index>(sizeof(E));  // lanes of a 128-bit register
    for (Index i = 0; i < k; i += per)
      for (Index l = 0; l < lanes; l += each) {
        E part[per][each];
        __m128i row[per];
        for (Index e = 0; e < per; ++e) {
          const E* from = src + (i + e) * k_stride + l;
          if (i + e < k && l + each <= lanes) {
            row[e] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
          } else {
            for (Index n = 0; n < each; ++n) part[e][n] = i + e < k && l + n < lanes ? from[n] : pad;
            row[e] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(part[e]));
          }
        }
        auto* to = reinterpret_cast<__m128i*>(out + i / per * width + l);
        if constexpr (per == 2) {
          _mm_storeu_si128(to, _mm_unpacklo_epi16(row[0], row[1]));
          _mm_storeu_si128(to + 1, _mm_unpackhi_epi16(row[0], row[1]));
        } else {
          const __m128i low01 = _mm_unpacklo_epi8(row[0], row[1]), high01 = _mm_unpackhi_epi8(row[0], row[1]);
          const __m128i low23 = _mm_unpacklo_epi8(row[2], row[3]), high23 = _mm_unpackhi_epi8(row[2], row[3]);
          _mm_storeu_si128(to, _mm_unpacklo_epi16(low01, low23));
          _mm_storeu_si128(to + 1, _mm_unpackhi_epi16(low01, low23));
          _mm_storeu_si128(to + 2, _mm_unpacklo_epi16(high01, high23));
          _mm_storeu_si128(to + 3, _mm_unpackhi_epi16(high01, high23));
        }
      }
  }
};

/// What the operations on words share; V multiplies them.
template <class W, Index Rows>
struct WordOps {
  using PackedA = std::uint32_t;
  using PackedB = std::uint32_t;
  using T = typename W::Out;
  static constexpr Index mr = Rows, nr = 2 * W::lanes;

  template <class Args>
  static bool in_place_a(const Args&) noexcept {
    return false;
  }
  template <class Args>
  static bool in_place_b(const Args&) noexcept {
    return false;
  }

 protected:
  static void multiply(Index rows, Index cols, Index words, const std::uint32_t* a, const std::uint32_t* b, T alpha,
                       T beta, T* c, Index ldc) noexcept {
    using Numbers = std::make_integer_sequence<Index, Rows>;
    static constexpr std::array<TileFunction<W>, Rows> tiles[2] = {tiles_of<W, 1, false>(Numbers()),
                                                                   tiles_of<W, 2, false>(Numbers())};
    tiles[cols > W::lanes][static_cast<std::size_t>(rows - 1)](words, a, rows, b, nr, alpha, beta, c, ldc, cols);
  }
};
