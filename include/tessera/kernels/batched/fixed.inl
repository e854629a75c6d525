// N x N matrices, rows one after another. Included once a lane, inside its target region and a namespace of its own
// where `Vec` is the lane's register.

/// Tiles of 6 rows (the last of 4) x 2 vectors whose strides and steps the compiler knows: gemm's tiles spend as long
/// on their arguments as on 16 terms.
template <class T, Index N>
struct FixedTile {
  using V = Vec<T>;
  using Reg = typename V::Reg;
  static constexpr Index nr = 2 * V::lanes, fours = N % 6 == 0 ? 0 : N % 6 == 4 ? 1 : 2;
  static_assert(N % nr == 0 && N % 4 == 0 && N >= 4 * fours);

  static void run(const T* a, Index a_item, const T* b, Index b_item, T* c, Index c_item, Index count, T alpha,
                  T beta) noexcept {
    for (Index i = 0; i < count; ++i, a += a_item, b += b_item, c += c_item)
      for (Index j = 0; j < N; j += nr) {
        Index r = 0;
        for (; r < N - 4 * fours; r += 6)
          tile(a + r * N, b + j, c + r * N + j, alpha, beta, std::make_integer_sequence<Index, 12>());
        for (; r < N; r += 4)
          tile(a + r * N, b + j, c + r * N + j, alpha, beta, std::make_integer_sequence<Index, 8>());
      }
  }

 private:
  template <Index... I>
  static TESSERA_INLINE void tile(const T* a, const T* b, T* c, T alpha, T beta, std::integer_sequence<Index, I...>) {
    Reg sum[sizeof...(I)] = {((void)I, V::zero())...};
    for (const T* end = a + N; a != end; a += 4, b += 4 * N) {
      step<I...>(sum, a, b);
      step<I...>(sum, a + 1, b + N);
      step<I...>(sum, a + 2, b + 2 * N);
      step<I...>(sum, a + 3, b + 3 * N);
    }
    if (alpha == T(1) && beta == T(0)) {
      (V::store(c + at<I>, sum[I]), ...);
      return;
    }
    const Reg alphas = V::all(alpha), betas = V::all(beta);
    if (beta == T(0))
      (V::store(c + at<I>, V::mul(alphas, sum[I])), ...);
    else
      (V::store(c + at<I>, V::fma(betas, V::load(c + at<I>), V::mul(alphas, sum[I]))), ...);
  }
  template <Index... I>
  static TESSERA_INLINE void step(Reg (&sum)[sizeof...(I)], const T* a, const T* b) {
    const Reg line[2] = {V::load(b), V::load(b + V::lanes)};
    ((sum[I] = V::fma(V::all(a[I / 2 * N]), line[I % 2], sum[I])), ...);
  }
  template <Index I>
  static constexpr Index at = I / 2 * N + I % 2 * V::lanes;
};

struct FixedKernel {
  template <class T>
  static const char* reject(const BatchedArgs<T>& a) {
    const Index n = a.n();
    if (a.m() != n || a.k() != n || (n != 2 * Vec<T>::lanes && n != 16 && n != 32 && n != 64))
      return "matrices are not square of two vectors, 16, 32 or 64 rows";
    return plain(a.A) && plain(a.B) && plain(a.C) ? nullptr : "rows are not one after another";
  }
  template <class T>
  static void run(const BatchedArgs<T>& a, RowRange items) noexcept {
    const auto f = a.n() == 64   ? &FixedTile<T, 64>::run
                   : a.n() == 32 ? &FixedTile<T, 32>::run
                   : a.n() == 16 ? &FixedTile<T, 16>::run
                                 : &FixedTile<T, 2 * Vec<T>::lanes>::run;
    const Index i = items.begin;
    f(a.A.data() + i * a.A.stride(0), a.A.stride(0), a.B.data() + i * a.B.stride(0), a.B.stride(0),
      a.C.data() + i * a.C.stride(0), a.C.stride(0), items.end - i, a.alpha, a.beta);
  }

 private:
  template <class View>
  static bool plain(const View& v) {
    return v.stride(1) == v.extent(2) && v.stride(2) == 1;
  }
};
