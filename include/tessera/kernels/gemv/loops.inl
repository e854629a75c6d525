// Dot products and axpys of the lane whose register is `Vec`. Included once a lane, inside its target region and a
// namespace of its own.

template <class TA, class T, Index R, class = std::make_integer_sequence<Index, R>>
struct Dots;

/// R rows times x. Every row has its own two sums over even and odd vectors, so that its result does not depend on R.
template <class TA, class T, Index R, Index... I>
struct Dots<TA, T, R, std::integer_sequence<Index, I...>> {
  using V = Vec<T>;
  using Reg = typename V::Reg;

  static void run(const TA* a, Index row_stride, const T* x, Index k, T* out) noexcept {
    const TA* row[R] = {a + I * row_stride...};
    Reg even[R] = {((void)I, V::zero())...}, odd[R] = {((void)I, V::zero())...};
    Index i = 0;
    for (; i + 2 * V::lanes <= k; i += 2 * V::lanes) {
      const Reg x0 = V::load(x + i), x1 = V::load(x + i + V::lanes);
      ((even[I] = V::fma(V::load(row[I] + i), x0, even[I])), ...);
      ((odd[I] = V::fma(V::load(row[I] + i + V::lanes), x1, odd[I])), ...);
    }
    if (i + V::lanes <= k) {
      const Reg x0 = V::load(x + i);
      ((even[I] = V::fma(V::load(row[I] + i), x0, even[I])), ...);
      i += V::lanes;
    }
    if (i < k) {
      const auto mask = V::first(k - i);
      const Reg x0 = V::load(mask, x + i);
      ((odd[I] = V::fma(V::load(mask, row[I] + i), x0, odd[I])), ...);
    }
    ((out[I] = V::sum(even[I], odd[I])), ...);
  }
};

template <class TA, class T, Index J, class = std::make_integer_sequence<Index, J>>
struct Axpys;

/// sum += J columns times J entries of x, in order.
template <class TA, class T, Index J, Index... I>
struct Axpys<TA, T, J, std::integer_sequence<Index, I...>> {
  using V = Vec<T>;
  using Reg = typename V::Reg;

  static void run(const TA* a, Index col_stride, const T* x, Index x_stride, Index rows, T* sum) noexcept {
    const TA* col[J] = {a + I * col_stride...};
    const Reg factor[J] = {V::all(x[I * x_stride])...};
    Index i = 0;
    for (; i + V::lanes <= rows; i += V::lanes) {
      Reg s = V::load(sum + i);
      ((s = V::fma(V::load(col[I] + i), factor[I], s)), ...);
      V::store(sum + i, s);
    }
    if (i < rows) {
      const auto mask = V::first(rows - i);
      Reg s = V::load(mask, sum + i);
      ((s = V::fma(V::load(mask, col[I] + i), factor[I], s)), ...);
      V::store(mask, sum + i, s);
    }
  }
};

/// The loops, over whole groups of rows or columns.
template <class TA, class T>
struct Loops {
  static void dots(const TA* a, Index row_stride, const T* x, Index k, Index rows, T* out) noexcept {
    Index i = 0;
    for (; i + 4 <= rows; i += 4) Dots<TA, T, 4>::run(a + i * row_stride, row_stride, x, k, out + i);
    for (; i < rows; ++i) Dots<TA, T, 1>::run(a + i * row_stride, row_stride, x, k, out + i);
  }
  static void axpys(const TA* a, Index col_stride, const T* x, Index x_stride, Index k, Index rows, T* sum) noexcept {
    Index i = 0;
    for (; i + 8 <= k; i += 8)
      Axpys<TA, T, 8>::run(a + i * col_stride, col_stride, x + i * x_stride, x_stride, rows, sum);
    for (; i < k; ++i) Axpys<TA, T, 1>::run(a + i * col_stride, col_stride, x + i * x_stride, x_stride, rows, sum);
  }
};
