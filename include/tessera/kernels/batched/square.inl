// A in rows times a square B of one vector's columns, B in registers. Included once a lane, inside its target region
// and a namespace of its own where `Vec` is the lane's register.

template <class T, class = std::make_integer_sequence<Index, Vec<T>::lanes>>
struct SquareTile;

template <class T, Index... K>
struct SquareTile<T, std::integer_sequence<Index, K...>> {
  using V = Vec<T>;
  using Reg = typename V::Reg;

  static void run(const T* a, Index a_item, Index lda, const T* b, Index b_item, Index ldb, T* c, Index c_item,
                  Index ldc, Index m, Index count, T alpha, T beta) noexcept {
    const Reg alphas = V::all(alpha), betas = V::all(beta);
    for (Index i = 0; i < count; ++i, a += a_item, b += b_item, c += c_item) {
      const Reg line[V::lanes] = {V::load(b + K * ldb)...};
      for (Index r = 0; r < m; ++r) {
        const T* row = a + r * lda;
        Reg sum = V::zero();
        ((sum = V::fma(V::all(row[K]), line[K], sum)), ...);
        sum = V::mul(alphas, sum);
        T* out = c + r * ldc;
        V::store(out, beta == T(0) ? sum : V::fma(betas, V::load(out), sum));
      }
    }
  }
};

struct SquareKernel {
  template <class T>
  static const char* reject(const BatchedArgs<T>& a) {
    if (a.n() != Vec<T>::lanes || a.k() != Vec<T>::lanes) return "B is not square of one vector's columns";
    return a.A.stride(2) == 1 && a.B.stride(2) == 1 && a.C.stride(2) == 1 ? nullptr : "rows are not contiguous";
  }
  template <class T>
  static void run(const BatchedArgs<T>& a, RowRange items) noexcept {
    const Index i = items.begin;
    SquareTile<T>::run(a.A.data() + i * a.A.stride(0), a.A.stride(0), a.A.stride(1), a.B.data() + i * a.B.stride(0),
                       a.B.stride(0), a.B.stride(1), a.C.data() + i * a.C.stride(0), a.C.stride(0), a.C.stride(1),
                       a.m(), items.end - i, a.alpha, a.beta);
  }
};
