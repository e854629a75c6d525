// Rows of sums of sign planes, multiplied or decoded. Included once a lane, inside its target region and a namespace of
// its own, after `Lane`: eight floats. A row takes the same additions in whatever tile it is.

struct SignPlanesRows {
  static void run(const SignPlanesArgs& a, RowRange range) noexcept {
    if (a.n == 0) {
      for (Index i = range.begin; i < range.end; ++i) decode(a, i);
      return;
    }
    const Index each = a.planes * a.rank * 8 * a.bytes;
    for (Index c = 0; c < a.n; ++c) {
      Index i = range.begin;
      for (; i + 4 <= range.end; i += 4) rows<4>(a, i, c, a.rows + c * each);
      for (; i < range.end; ++i) rows<1>(a, i, c, a.rows + c * each);
    }
  }

 private:
  template <int M>
  static void rows(const SignPlanesArgs& a, Index i, Index c, const float* z) noexcept {
    float total[M] = {};
    for (Index p = 0; p < a.planes; ++p) {
      const std::uint8_t* signs = a.plane[p].signs + i * a.bytes;
      const float* u = a.plane[p].u + i * a.rank;
      Index r = 0;
      for (; r + 2 <= a.rank; r += 2) tile<M, 2>(a, signs, u + r, z + (p * a.rank + r) * 8 * a.bytes, total);
      if (r < a.rank) tile<M, 1>(a, signs, u + r, z + (p * a.rank + r) * 8 * a.bytes, total);
    }
    for (int m = 0; m < M; ++m) {
      float& y = a.Y(i + m, c);
      y = a.beta == 0 ? a.alpha * total[m] : a.alpha * total[m] + a.beta * y;
    }
  }

  /// total[m] += Σ_r u(m, r) Σ_j S(m, j) z_r[j]
  template <int M, int R>
  static TESSERA_INLINE void tile(const SignPlanesArgs& a, const std::uint8_t* signs, const float* u, const float* z,
                                  float (&total)[M]) noexcept {
    typename Lane::Reg sum[M][R];
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r) sum[m][r] = Lane::zero();
    for (Index b = 0; b < a.bytes; ++b) {
      typename Lane::Reg x[R];
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r) x[r] = Lane::load(z + (r * a.bytes + b) * 8);
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) {
        const float* sign = detail::byte_signs.of[signs[m * a.bytes + b]];
#pragma GCC unroll 2
        for (int r = 0; r < R; ++r) sum[m][r] = Lane::fma(x[r], Lane::load(sign), sum[m][r]);
      }
    }
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r) total[m] += u[m * a.rank + r] * Lane::sum(sum[m][r]);
  }

  static void decode(const SignPlanesArgs& a, Index i) noexcept {
    float* to = a.out + i * 8 * a.bytes;
    for (Index b = 0; b < a.bytes; ++b) {
      auto w = Lane::zero();
      const float* v = a.rows + 8 * b;
      for (Index p = 0; p < a.planes; ++p) {
        const float* u = a.plane[p].u + i * a.rank;
        auto size = Lane::zero();
        for (Index r = 0; r < a.rank; ++r, v += 8 * a.bytes) size = Lane::fma(Lane::all(u[r]), Lane::load(v), size);
        w = Lane::fma(size, Lane::load(detail::byte_signs.of[a.plane[p].signs[i * a.bytes + b]]), w);
      }
      Lane::store(to + 8 * b, w);
    }
  }
};
