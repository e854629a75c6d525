/// The row operations over vectors V of any lane. Rows that are not contiguous are copied to scratch and back.
/// Sums run in four interleaved accumulators; every row is summed alone, so threads change nothing.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include <tessera/kernels/rows/args.hpp>
#include <tessera/simd/math.hpp>

namespace tessera::inline TESSERA_ABI::detail {

struct RowKernel {
  template <class Args>
  static const char* reject(const Args&) {
    return nullptr;
  }
  template <class Args>
  static std::size_t scratch(const Args& a) {
    return a.scratch_needed();
  }
};

template <class T>
TESSERA_FLAT const T* row_in(const MatrixView<const T>& X, Index i, T* copy) {
  const T* x = X.data() + i * X.row_stride();
  if (X.col_stride() == 1) return x;
  for (Index j = 0; j < X.cols(); ++j) copy[j] = x[j * X.col_stride()];
  return copy;
}

template <class T>
TESSERA_FLAT T* row_out(const MatrixView<T>& Y, Index i, T* copy) {
  return Y.col_stride() == 1 ? Y.data() + i * Y.row_stride() : copy;
}

template <class T>
TESSERA_FLAT void row_done(const MatrixView<T>& Y, Index i, const T* copy) {
  if (Y.col_stride() == 1) return;
  T* y = Y.data() + i * Y.row_stride();
  for (Index j = 0; j < Y.cols(); ++j) y[j * Y.col_stride()] = copy[j];
}

/// -inf for no elements; NaN is passed over.
template <class V, class T>
TESSERA_FLAT T row_max(const T* x, Index n) {
  constexpr Index w = V::width;
  const V low(-std::numeric_limits<T>::infinity());
  V a = low, b = low, c = low, d = low;
  Index j = 0;
  for (; j + 4 * w <= n; j += 4 * w) {
    a = max(V::load(x + j), a);
    b = max(V::load(x + j + w), b);
    c = max(V::load(x + j + 2 * w), c);
    d = max(V::load(x + j + 3 * w), d);
  }
  for (; j + w <= n; j += w) a = max(V::load(x + j), a);
  if (j < n) a = max(V::load(x + j, n - j, -std::numeric_limits<T>::infinity()), a);
  return reduce_max(max(max(a, b), max(c, d)));
}

/// y = exp(x - shift), its sum returned; `next` is a row that will be wanted soon, or null.
template <bool store, class V, class T>
TESSERA_FLAT T row_exp(const T* x, T shift, T* y, Index n, const T* next) {
  constexpr Index w = V::width;
  const V m(shift);
  V a(T(0)), b(T(0));
  Index j = 0;
  for (; j + 2 * w <= n; j += 2 * w) {
    if (next != nullptr) __builtin_prefetch(next + j, 0, 2);
    if (next != nullptr && w * sizeof(T) == cache_line) __builtin_prefetch(next + j + w, 0, 2);
    const V e = exp(V::load(x + j) - m), f = exp(V::load(x + j + w) - m);
    if constexpr (store) {
      e.store(y + j);
      f.store(y + j + w);
    }
    a = a + e;
    b = b + f;
  }
  for (; j < n; j += w) {
    const Index some = n - j < w ? n - j : w;
    const V e = exp(V::load(x + j, some, -std::numeric_limits<T>::infinity()) - m);
    if constexpr (store) e.store(y + j, some);
    a = a + e;
  }
  return reduce_add(a + b);
}

/// y = x * scale, past the caches if `stream`.
template <class V, class T>
TESSERA_FLAT void row_scale(const T* x, T scale, T* y, Index n, bool stream) {
  constexpr Index w = V::width;
  const V s(scale);
  Index j = 0;
  if (stream) {
    constexpr std::uintptr_t bytes = static_cast<std::uintptr_t>(w) * sizeof(T);
    const Index head = static_cast<Index>(-reinterpret_cast<std::uintptr_t>(y) % bytes / sizeof(T));
    if (head > 0) (V::load(x, head) * s).store(y, head);
    for (j = head; j + w <= n; j += w) (V::load(x + j) * s).stream(y + j);
  }
  for (; j + 2 * w <= n; j += 2 * w) {
    (V::load(x + j) * s).store(y + j);
    (V::load(x + j + w) * s).store(y + j + w);
  }
  for (; j < n; j += w) {
    const Index some = n - j < w ? n - j : w;
    (V::load(x + j, some) * s).store(y + j, some);
  }
}

// Large results: exp goes to a scratch row that stays in L2, the scaled row past the caches, and the next row of X is
// fetched while exp keeps the arithmetic busy.
template <class V, class T>
TESSERA_FLAT void softmax_run(const SoftmaxArgs<T>& a, RowRange rows) {
  const Index n = a.X.cols();
  T* const xs = reinterpret_cast<T*>(a.scratch_of(rows.worker));
  T* const ys = xs + (a.scratch_bytes == 0 ? 0 : row_pitch<T>(n));
  const bool stream = a.streams();
  for (Index i = rows.begin; i < rows.end; ++i) {
    const T* x = row_in(a.X, i, xs);
    T* y = row_out(a.Y, i, ys);
    T* e = stream ? ys : y;
    const T* next = stream && i + 1 < rows.end ? x + a.X.row_stride() : nullptr;
    const T most = row_max<V>(x, n);
    const T sum = row_exp<true, V>(x, most == -std::numeric_limits<T>::infinity() ? T(0) : most, e, n, next);
    row_scale<V>(e, sum == T(0) ? T(0) : T(1) / sum, y, n, stream);
    row_done(a.Y, i, ys);
  }
  if (stream) V::drain();
}

// In blocks that stay in L1, so that memory is read once.
template <class V, class T>
TESSERA_FLAT void log_sum_exp_run(const RowReduceArgs<T>& a, RowRange rows) {
  constexpr Index block = static_cast<Index>(16384 / sizeof(T));
  constexpr T infinity = std::numeric_limits<T>::infinity();
  T* const xs = reinterpret_cast<T*>(a.scratch_of(rows.worker));
  for (Index i = rows.begin; i < rows.end; ++i) {
    const T* x = row_in(a.X, i, xs);
    T shift = -infinity, sum = 0;
    for (Index j = 0; j < a.X.cols(); j += block) {
      const Index n = a.X.cols() - j < block ? a.X.cols() - j : block;
      const T most = row_max<V>(x + j, n);
      if (most > shift) {
        sum = shift == -infinity ? sum : sum * reduce_max(exp(V(shift - most)));
        shift = most;
      }
      const T finite = shift == -infinity ? T(0) : shift == infinity ? std::numeric_limits<T>::max() : shift;
      sum += row_exp<false, V>(x + j, finite, static_cast<T*>(nullptr), n, static_cast<const T*>(nullptr));
    }
    const T total = reduce_max(log(V(sum)));
    a.out[i] = std::isinf(shift) ? total : shift + total;
  }
}

/// Σ (x - mean)²
template <class V, class T>
TESSERA_FLAT T row_squares(const T* x, T mean, Index n) {
  constexpr Index w = V::width;
  const V m(mean);
  V a(T(0)), b(T(0)), c(T(0)), d(T(0));
  Index j = 0;
  for (; j + 4 * w <= n; j += 4 * w) {
    const V p = V::load(x + j) - m, q = V::load(x + j + w) - m, r = V::load(x + j + 2 * w) - m,
            s = V::load(x + j + 3 * w) - m;
    a = fma(p, p, a);
    b = fma(q, q, b);
    c = fma(r, r, c);
    d = fma(s, s, d);
  }
  for (; j < n; j += w) {
    const V p = V::load(x + j, n - j < w ? n - j : w, mean) - m;
    a = fma(p, p, a);
  }
  return reduce_add((a + b) + (c + d));
}

template <class V, class T>
TESSERA_FLAT T row_sum(const T* x, Index n) {
  constexpr Index w = V::width;
  V a(T(0)), b(T(0)), c(T(0)), d(T(0));
  Index j = 0;
  for (; j + 4 * w <= n; j += 4 * w) {
    a = a + V::load(x + j);
    b = b + V::load(x + j + w);
    c = c + V::load(x + j + 2 * w);
    d = d + V::load(x + j + 3 * w);
  }
  for (; j < n; j += w) a = a + V::load(x + j, n - j < w ? n - j : w);
  return reduce_add((a + b) + (c + d));
}

/// (x - mean)·scale∘weight + bias of `some` <= width elements.
template <class V, class T>
TESSERA_FLAT V row_affine(const T* x, const V& mean, const V& scale, const T* weight, const T* bias, Index some) {
  V y = (V::load(x, some) - mean) * scale;
  if (weight != nullptr) y = y * V::load(weight, some);
  if (bias != nullptr) y = y + V::load(bias, some);
  return y;
}

template <class V, class T>
TESSERA_FLAT void row_normalise(const T* x, T mean, T scale, const T* weight, const T* bias, T* y, Index n,
                                bool stream) {
  constexpr Index w = V::width;
  const V m(mean), s(scale);
  Index j = 0;
  if (stream) {
    constexpr std::uintptr_t bytes = static_cast<std::uintptr_t>(w) * sizeof(T);
    j = static_cast<Index>(-reinterpret_cast<std::uintptr_t>(y) % bytes / sizeof(T));
    if (j > 0) row_affine(x, m, s, weight, bias, j).store(y, j);
    for (; j + w <= n; j += w)
      row_affine(x + j, m, s, weight ? weight + j : nullptr, bias ? bias + j : nullptr, w).stream(y + j);
  } else if (weight != nullptr && bias == nullptr) {
    for (; j + w <= n; j += w) ((V::load(x + j) - m) * s * V::load(weight + j)).store(y + j);
  } else if (weight != nullptr) {
    for (; j + w <= n; j += w) fma((V::load(x + j) - m) * s, V::load(weight + j), V::load(bias + j)).store(y + j);
  }
  for (; j < n; j += w) {
    const Index some = n - j < w ? n - j : w;
    row_affine(x + j, m, s, weight ? weight + j : nullptr, bias ? bias + j : nullptr, some).store(y + j, some);
  }
}

template <class V, class T>
TESSERA_FLAT void row_norms_run(const RowReduceArgs<T>& a, RowRange rows) {
  T* const xs = reinterpret_cast<T*>(a.scratch_of(rows.worker));
  for (Index i = rows.begin; i < rows.end; ++i)
    a.out[i] = std::sqrt(row_squares<V>(row_in(a.X, i, xs), T(0), a.X.cols()));
}

template <class V, class T>
TESSERA_FLAT void rmsnorm_run(const RmsnormArgs<T>& a, RowRange rows) {
  const Index n = a.X.cols();
  T* const xs = reinterpret_cast<T*>(a.scratch_of(rows.worker));
  T* const ys = xs + (a.scratch_bytes == 0 ? 0 : row_pitch<T>(n));
  const bool stream = a.streams();
  for (Index i = rows.begin; i < rows.end; ++i) {
    const T* x = row_in(a.X, i, xs);
    const T inverse = T(1) / std::sqrt(row_squares<V>(x, T(0), n) / static_cast<T>(n) + a.eps);
    row_normalise<V>(x, T(0), inverse, a.weight, static_cast<const T*>(nullptr), row_out(a.Y, i, ys), n, stream);
    row_done(a.Y, i, ys);
    if (a.inv_rms.data()) a.inv_rms[i] = inverse;
  }
  if (stream) V::drain();
}

template <class V, class T>
TESSERA_FLAT void layernorm_run(const LayernormArgs<T>& a, RowRange rows) {
  const Index n = a.X.cols();
  T* const xs = reinterpret_cast<T*>(a.scratch_of(rows.worker));
  T* const ys = xs + (a.scratch_bytes == 0 ? 0 : row_pitch<T>(n));
  const bool stream = a.streams();
  for (Index i = rows.begin; i < rows.end; ++i) {
    const T* x = row_in(a.X, i, xs);
    const T mean = row_sum<V>(x, n) / static_cast<T>(n);
    const T inverse = T(1) / std::sqrt(row_squares<V>(x, mean, n) / static_cast<T>(n) + a.eps);
    row_normalise<V>(x, mean, inverse, a.weight, a.bias, row_out(a.Y, i, ys), n, stream);
    row_done(a.Y, i, ys);
    if (a.mean.data()) a.mean[i] = mean;
    if (a.inv_std.data()) a.inv_std[i] = inverse;
  }
  if (stream) V::drain();
}

}  // namespace tessera::inline TESSERA_ABI::detail
