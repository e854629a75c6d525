// An N x N matrix times others. Included once a lane, inside its target region and a namespace of its own where `Vec`
// is the lane's register.

/// C = A B of an N x N A whose strides the compiler knows, in tiles of 6 rows (the last of 4) x 2 vectors: gemm's tiles
/// spend as long on their arguments as on 16 terms. `Turned` A is stored by columns; B and C have rows anywhere.
template <class T, Index N, bool Turned>
struct FixedTile {
  using V = Vec<T>;
  using Reg = typename V::Reg;
  static constexpr Index nr = 2 * V::lanes, fours = N % 6 == 0 ? 0 : N % 6 == 4 ? 1 : 2;
  static constexpr Index row = Turned ? 1 : N, term = Turned ? N : 1;
  static_assert(N % 4 == 0 && N >= 4 * fours);

  static void run(const T* a, Index a_item, const T* b, Index b_item, Index ldb, T* c, Index c_item, Index ldc,
                  Index columns, Index count, T alpha, T beta) noexcept {
    for (Index i = 0; i < count; ++i, a += a_item, b += b_item, c += c_item)
      for (Index j = 0; j < columns; j += nr) {
        Index r = 0;
        for (; r < N - 4 * fours; r += 6)
          tile(a + r * row, b + j, ldb, c + r * ldc + j, ldc, alpha, beta, std::make_integer_sequence<Index, 12>());
        for (; r < N; r += 4)
          tile(a + r * row, b + j, ldb, c + r * ldc + j, ldc, alpha, beta, std::make_integer_sequence<Index, 8>());
      }
  }

 private:
  template <Index... I>
  static TESSERA_INLINE void tile(const T* a, const T* b, Index ldb, T* c, Index ldc, T alpha, T beta,
                                  std::integer_sequence<Index, I...>) {
    Reg sum[sizeof...(I)] = {((void)I, V::zero())...};
    for (const T* end = a + N * term; a != end; a += 4 * term) {
      step<I...>(sum, a, b);
      step<I...>(sum, a + term, b += ldb);
      step<I...>(sum, a + 2 * term, b += ldb);
      step<I...>(sum, a + 3 * term, b += ldb);
      b += ldb;
    }
    if (alpha == T(1) && beta == T(0)) {
      (V::store(c + I / 2 * ldc + I % 2 * V::lanes, sum[I]), ...);
      return;
    }
    const Reg alphas = V::all(alpha), betas = V::all(beta);
    if (beta == T(0))
      (V::store(c + I / 2 * ldc + I % 2 * V::lanes, V::mul(alphas, sum[I])), ...);
    else
      (V::store(c + I / 2 * ldc + I % 2 * V::lanes,
                V::fma(betas, V::load(c + I / 2 * ldc + I % 2 * V::lanes), V::mul(alphas, sum[I]))),
       ...);
  }
  template <Index... I>
  static TESSERA_INLINE void step(Reg (&sum)[sizeof...(I)], const T* a, const T* b) {
    const Reg line[2] = {V::load(b), V::load(b + V::lanes)};
    ((sum[I] = V::fma(V::all(a[I / 2 * row]), line[I % 2], sum[I])), ...);
  }
};

struct FixedKernel {
  template <class T>
  static const char* reject(const BatchedArgs<T>& a) {
    const Index n = a.m();
    if (a.k() != n || (n != 2 * Vec<T>::lanes && n != 16 && n != 32 && n != 64))
      return "A is not square of two vectors, 16, 32 or 64 rows";
    if (a.n() % (2 * Vec<T>::lanes) != 0) return "columns are not a multiple of two vectors";
    if (!by_rows(a) && !(a.A.stride(1) == 1 && a.A.stride(2) == n))
      return "neither rows nor columns of A follow one another";
    return a.B.stride(2) == 1 && a.C.stride(2) == 1 ? nullptr : "rows of B or C are not contiguous";
  }
  template <class T>
  static void run(const BatchedArgs<T>& a, RowRange items) noexcept {
    const auto f = by_rows(a) ? choose<T, false>(a.m()) : choose<T, true>(a.m());
    const Index i = items.begin;
    f(a.A.data() + i * a.A.stride(0), a.A.stride(0), a.B.data() + i * a.B.stride(0), a.B.stride(0), a.B.stride(1),
      a.C.data() + i * a.C.stride(0), a.C.stride(0), a.C.stride(1), a.n(), items.end - i, a.alpha, a.beta);
  }

 private:
  template <class T>
  static bool by_rows(const BatchedArgs<T>& a) {
    return a.A.stride(1) == a.m() && a.A.stride(2) == 1;
  }
  template <class T, bool Turned>
  static auto choose(Index n) {
    return n == 64   ? &FixedTile<T, 64, Turned>::run
           : n == 32 ? &FixedTile<T, 32, Turned>::run
           : n == 16 ? &FixedTile<T, 16, Turned>::run
                     : &FixedTile<T, 2 * Vec<T>::lanes, Turned>::run;
  }
};
