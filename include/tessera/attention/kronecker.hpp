/// Attention over pairs of keys: what a token makes of two others at once.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <concepts>
#include <limits>
#include <optional>
#include <type_traits>

#include <tessera/attention/polynomial_features.hpp>
#include <tessera/core/context.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/kernels/map/map.hpp>

namespace tessera::inline TESSERA_ABI {

struct KronAttentionOptions {
  std::optional<double> scale = {};  // of the scores; 1/d unless given
};

namespace detail {

template <class A, class B, class C>
void check_kron(const char* what, const View<A, 3>& Q, const View<A, 3>& K1, const View<A, 3>& K2, const View<B, 3>& V1,
                const View<B, 3>& V2, const View<C, 3>& out) {
  const auto text = [](const auto& x) { return concat('(', x.extent(0), ", ", x.extent(1), ", ", x.extent(2), ')'); };
  const auto fits = [&](const auto& x, Index n, Index d) {
    return x.extent(0) == Q.extent(0) && x.extent(1) == n && x.extent(2) == d;
  };
  const Index n = Q.extent(1), d = Q.extent(2), n1 = K1.extent(1), n2 = K2.extent(1), dv = out.extent(2);
  if (!fits(K1, n1, d) || !fits(K2, n2, d) || !fits(V1, n1, dv) || !fits(V2, n2, dv) || !fits(out, n, dv))
    throw shape_error(concat("tessera: ", what, " of queries ", text(Q), " over keys ", text(K1), " and ", text(K2),
                             ", values ", text(V1), " and ", text(V2), " into ", text(out),
                             ": expected (heads, n, d), (heads, n1, d), (heads, n2, d), (heads, n1, dv), (heads, n2, "
                             "dv), (heads, n, dv)"));
  const auto contiguous = [](const auto& x) { return x.extent(2) <= 1 || x.stride(2) == 1; };
  if (!contiguous(Q) || !contiguous(K1) || !contiguous(K2) || !contiguous(V1) || !contiguous(V2) || !contiguous(out))
    throw shape_error(concat("tessera: ", what, ": strides of d in queries, keys, values and result are ", Q.stride(2),
                             ", ", K1.stride(2), ", ", K2.stride(2), ", ", V1.stride(2), ", ", V2.stride(2), ", ",
                             out.stride(2), "; expected 1"));
}

/// to_c = alpha·x_c·y_c, added to what is there where `add`.
template <bool add, class T>
void kron_times(T alpha, const T* x, const T* y, T* to, Index d) {
  using V = simd::Vec<T, simd::Portable<>>;
  Index c = 0;
  for (; c + V::width <= d; c += V::width) {
    const V product = V(alpha) * V::load(x + c);
    (add ? fma(product, V::load(y + c), V::load(to + c)) : V(product * V::load(y + c))).store(to + c);
  }
  for (; c < d; ++c) to[c] = alpha * x[c] * y[c] + (add ? to[c] : T(0));
}

/// The largest, or the sum, of n numbers, in four registers.
template <bool sum, class T>
T kron_reduced(const T* x, Index n) {
  using V = simd::Vec<T, simd::Portable<>>;
  constexpr Index w = V::width;
  const auto both = [](auto a, auto b) { return sum ? a + b : max(a, b); };
  const V start(sum ? T(0) : -std::numeric_limits<T>::infinity());
  V v[4] = {start, start, start, start};
  Index i = 0;
  for (; i + 4 * w <= n; i += 4 * w)
    for (Index r = 0; r < 4; ++r) v[r] = both(V::load(x + i + r * w), v[r]);
  for (; i + w <= n; i += w) v[0] = both(V::load(x + i), v[0]);
  const V all = both(both(v[0], v[1]), both(v[2], v[3]));
  T result = sum ? reduce_add(all) : reduce_max(all);
  for (; i < n; ++i) result = sum ? result + x[i] : std::max(result, x[i]);
  return result;
}

template <class T>
struct KronExp {  // p = exp(p - shift)
  T shift;
  template <class V>
  TESSERA_INLINE void operator()(V& p) const {
    p = exp(p - V(shift));
  }
};
template <class T>
struct KronSoftmax {  // p = exp(p - lse), ds = p(dp - D), in place of scores and dp
  T lse, D;
  template <class V>
  TESSERA_INLINE void operator()(V& p, V& ds) const {
    p = exp(p - V(lse));
    ds = p * (ds - V(D));
  }
};

/// A tile is `queries` × `firsts` first keys × `seconds` second keys; its products have queries·firsts rows, in which a
/// query's lie together: for a first key j, scores over the second keys are (Q ∘ K1_j) K2ᵀ and sums V1_j ∘ (P V2).
struct KronTiles {
  static constexpr Index rows = 128, seconds = 128;
  Index n, n1, n2;
  Index queries() const { return std::min<Index>(n, 16); }
  Index firsts() const { return std::min(n1, std::max<Index>(1, rows / std::max<Index>(1, queries()))); }
  Index pairs() const { return queries() * firsts(); }
  Index blocks() const { return (n + 15) / 16; }
};

/// to (queries·firsts, d) = alpha·X_i ∘ Y_j
template <class T>
void kron_pair_rows(T alpha, MatrixView<const T> X, MatrixView<const T> Y, T* to) {
  const Index d = X.cols();
  for (Index i = 0; i < X.rows(); ++i)
    for (Index j = 0; j < Y.rows(); ++j, to += d)
      kron_times<false>(alpha, X.data() + i * X.row_stride(), Y.data() + j * Y.row_stride(), to, d);
}

/// One head: queries [begin, begin + rows).
template <class T>
void kron_forward(Context& ctx, const KronTiles& tiles, T scale, MatrixView<const T> Q, MatrixView<const T> K1,
                  MatrixView<const T> K2, MatrixView<const T> V1, MatrixView<const T> V2, Index begin, Index rows,
                  MatrixView<T> out, VectorView<T> lse) {
  Workspace::Scope scope(ctx.workspace);
  const Index d = Q.cols(), dv = out.cols(), seconds = std::min(tiles.seconds, tiles.n2);
  T* const a = scope.take<T>(tiles.pairs() * d);
  T* const p = scope.take<T>(tiles.pairs() * seconds);
  T* const r = scope.take<T>(tiles.pairs() * dv);
  T* const sums = scope.take<T>(rows * dv);
  T* const total = scope.take<T>(rows);
  T* const top = scope.take<T>(rows);
  std::fill_n(sums, rows * dv, T(0));
  std::fill_n(total, rows, T(0));
  std::fill_n(top, rows, -std::numeric_limits<T>::infinity());
  for (Index k = 0; k < tiles.n2; k += seconds) {
    const Index cols = std::min(seconds, tiles.n2 - k);
    for (Index j = 0; j < tiles.n1; j += tiles.firsts()) {
      const Index firsts = std::min(tiles.firsts(), tiles.n1 - j), pairs = rows * firsts;
      kron_pair_rows<T>(scale, Q.slice(0, begin, rows), K1.slice(0, j, firsts), a);
      gemm<T>(ctx, T(1), MatrixView<T>(a, pairs, d), K2.slice(0, k, cols).transposed(), T(0),
              MatrixView<T>(p, pairs, cols));
      for (Index i = 0; i < rows; ++i) {
        const VectorView<T> scores(p + i * firsts * cols, firsts * cols);
        const T most = std::max(top[i], kron_reduced<false>(scores.data(), firsts * cols));
        const T shift = most == -std::numeric_limits<T>::infinity() ? T(0) : most;
        const T keep = std::exp(top[i] - shift);
        top[i] = most;
        for (Index c = 0; c < dv; ++c) sums[i * dv + c] *= keep;
        map(ctx, KronExp<T>{shift}, scores);
        total[i] = total[i] * keep + kron_reduced<true>(scores.data(), firsts * cols);
      }
      gemm<T>(ctx, T(1), MatrixView<T>(p, pairs, cols), V2.slice(0, k, cols), T(0), MatrixView<T>(r, pairs, dv));
      for (Index i = 0; i < rows; ++i)
        for (Index b = 0; b < firsts; ++b)
          kron_times<true>(T(1), V1.data() + (j + b) * V1.row_stride(), r + (i * firsts + b) * dv, sums + i * dv, dv);
    }
  }
  for (Index i = 0; i < rows; ++i) {
    for (Index c = 0; c < dv; ++c) out(begin + i, c) = total[i] == T(0) ? T(0) : sums[i * dv + c] / total[i];
    if (lse.data() != nullptr) lse[begin + i] = top[i] + std::log(total[i]);
  }
}

}  // namespace detail

/// out_i = Σ_jk softmax_jk(scale Σ_c Q_ic K1_jc K2_kc) V1_j ∘ V2_k, the softmax over all n1·n2 pairs: D⁻¹A(V1 ⊙ V2)
/// with A = exp(scale·Q (K1 ⊙ K2)ᵀ), ⊙ the Kronecker product column by column. Any strides, d contiguous; values may
/// have a width of their own. No pairs give zeros and lse = -inf. Writes lse_i = log Σ_jk exp(score) where `lse` has
/// data. out overlaps no input. Exact: kron_attention_flops, two tiles of 128² a thread; the same bits for any number
/// of threads. Throws shape_error. J. Alman, Z. Song, "How to Capture Higher-order Correlations? Generalizing Matrix
/// Softmax Attention to Kronecker Computation" (2023).
template <class T>
requires std::floating_point<T>
void kron_attention(Context& ctx, View<const std::type_identity_t<T>, 3> Q,  // (heads, n, d)
                    View<const std::type_identity_t<T>, 3> K1,               // (heads, n1, d)
                    View<const std::type_identity_t<T>, 3> K2,               // (heads, n2, d)
                    View<const std::type_identity_t<T>, 3> V1,               // (heads, n1, dv)
                    View<const std::type_identity_t<T>, 3> V2,               // (heads, n2, dv)
                    View<T, 3> out,                                          // (heads, n, dv)
                    KronAttentionOptions options = {},                       //
                    View<std::type_identity_t<T>, 2> lse = {}) {             // (heads, n), or {}
  detail::check_kron("kron_attention", Q, K1, K2, V1, V2, out);
  if (lse.data() != nullptr && (lse.extent(0) != Q.extent(0) || lse.extent(1) != Q.extent(1)))
    throw shape_error(detail::concat("tessera: kron_attention: lse is ", detail::shape_text(Q.extent(0), Q.extent(1)),
                                     ", the destination is ", detail::shape_text(lse.extent(0), lse.extent(1))));
  const detail::KronTiles tiles{Q.extent(1), K1.extent(1), K2.extent(1)};
  const T scale = static_cast<T>(options.scale.value_or(1 / static_cast<double>(std::max<Index>(Q.extent(2), 1))));
  for_each_chunk(ctx, Q.extent(0) * tiles.blocks(), 1, [&](Context& worker, Index piece, Index) {
    const Index h = piece / tiles.blocks(), begin = piece % tiles.blocks() * 16;
    detail::kron_forward<T>(worker, tiles, scale, Q[h], K1[h], K2[h], V1[h], V2[h], begin,
                            std::min<Index>(16, tiles.n - begin), out[h],
                            lse.data() == nullptr ? VectorView<T>() : lse[h]);
  });
}

/// Flops of kron_attention: 2·n·n1·n2·(d + dv) a head and what pairs of a query and a first key cost.
inline double kron_attention_flops(Index heads, Index n, Index n1, Index n2, Index d, Index dv) {
  const auto real = [](Index x) { return static_cast<double>(x); };
  return real(heads) * real(n) * real(n1) * (2 * real(n2) * (real(d) + real(dv)) + real(d) + 2 * real(dv));
}

/// kron_attention with e^x replaced by a polynomial: A ≈ U1 (U2 ⊙ U3)ᵀ with r = C(d + degree, degree) features, so that
/// A (V1 ⊙ V2) ≈ U1 ((U2ᵀ V1) ∘ (U3ᵀ V2)). kron_attention_poly_flops, linear in n + n1 + n2, and O(r·dv) memory.
/// Good where scores are small (o(log n), entries o(∛log n)): past that the error is the polynomial's, and rows of A
/// may sum to less than nothing: returns false if some did, or to nothing or NaN, in which case `out` is what the
/// division gave. The same bits for any number of threads. Throws shape_error, unsupported_error (also for r > 2^18).
/// J. Alman, Z. Song (2023), as kron_attention.
template <class T>
requires std::floating_point<T>
bool kron_attention_poly(Context& ctx, View<const std::type_identity_t<T>, 3> Q,  // (heads, n, d)
                         View<const std::type_identity_t<T>, 3> K1,               // (heads, n1, d)
                         View<const std::type_identity_t<T>, 3> K2,               // (heads, n2, d)
                         View<const std::type_identity_t<T>, 3> V1,               // (heads, n1, dv)
                         View<const std::type_identity_t<T>, 3> V2,               // (heads, n2, dv)
                         View<T, 3> out,                                          // (heads, n, dv)
                         ExpPolynomial polynomial, KronAttentionOptions options = {}) {
  detail::check_kron("kron_attention_poly", Q, K1, K2, V1, V2, out);
  const Index d = Q.extent(2), dv = out.extent(2);
  const double scale = options.scale.value_or(1 / static_cast<double>(std::max<Index>(d, 1)));
  const detail::PolynomialFeatures features("kron_attention_poly", d, polynomial, scale);
  const bool none = K1.extent(1) == 0 || K2.extent(1) == 0;
  Workspace::Scope scope(ctx.workspace);
  const Index r = features.count();
  const MatrixView<T> M1(scope.take<T>(r * (dv + 1)), r, dv + 1), M2(scope.take<T>(r * (dv + 1)), r, dv + 1);
  std::atomic<bool> positive = true;
  for (Index h = 0; h < Q.extent(0); ++h) {
    const auto with_one = [dv](MatrixView<const T> V) {
      return [V, dv](Index i, T* to) {
        std::copy_n(V.data() + i * V.row_stride(), dv, to);
        to[dv] = T(1);
      };
    };
    features.gather<T>(ctx, K1[h], true, M1, with_one(V1[h]));
    features.gather<T>(ctx, K2[h], false, M2, with_one(V2[h]));
    detail::kron_times<false>(T(1), M1.data(), M2.data(), M1.data(), r * (dv + 1));
    features.scatter<T>(ctx, Q[h], M1, [&](Index i, const T* y) {
      if (!(y[dv] > T(0)) && !none) positive.store(false, std::memory_order_relaxed);
      for (Index c = 0; c < dv; ++c) out(h, i, c) = none ? T(0) : y[c] / y[dv];
    });
  }
  return positive;
}

/// Flops of kron_attention_poly.
inline double kron_attention_poly_flops(Index heads, Index n, Index n1, Index n2, Index d, Index dv, Index degree) {
  const auto real = [](Index x) { return static_cast<double>(x); };
  const double r = real(detail::PolynomialFeatures::count_of(d, degree));
  return real(heads) * r * ((real(n) + real(n1) + real(n2)) * (2 * real(dv) + 3) + 3 * (real(dv) + 1));
}

}  // namespace tessera::inline TESSERA_ABI
