/// Gradients of attention from the saved log-sum-exp, tile by tile: no buffer of queries × keys exists.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include <tessera/core/context.hpp>
#include <tessera/kernels/attention/attention.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/kernels/map/map.hpp>

namespace tessera::inline TESSERA_ABI::nn {

namespace detail {

template <class A, class B, class C, class D>
void check_batches(const View<A, 4>& Q, const View<B, 4>& K, const View<C, 4>& V, const View<D, 4>& out) {
  const auto text = [](const auto& x) {
    return tessera::detail::concat('(', x.extent(0), ", ", x.extent(1), ", ", x.extent(2), ", ", x.extent(3), ')');
  };
  const bool kv = K.extents() == V.extents() && K.extent(0) == Q.extent(0) && K.extent(3) == Q.extent(3);
  const bool groups = K.extent(1) == 0 ? Q.extent(1) == 0 : Q.extent(1) % K.extent(1) == 0;
  if (!kv || !groups || out.extents() != Q.extents())
    throw shape_error(tessera::detail::concat(
        "tessera: attention of queries ", text(Q), " over keys ", text(K), " and values ", text(V), " into ", text(out),
        ": expected (batch, heads, n, d), twice (batch, kv_heads, m, d) with kv_heads dividing heads, and ", text(Q)));
}

/// to (rows, d + 1; stride ld) = [from, last].
template <class T>
void pack_with_column(MatrixView<const T> from, const T* last, T* to, Index ld) {
  const Index d = from.cols();
  for (Index i = 0; i < from.rows(); ++i, to += ld) {
    const T* const x = from.data() + i * from.row_stride();
    if (from.col_stride() == 1)
      std::memcpy(to, x, static_cast<std::size_t>(d) * sizeof(T));
    else
      for (Index j = 0; j < d; ++j) to[j] = x[j * from.col_stride()];
    to[d] = last == nullptr ? T(1) : last[i];
  }
}

template <class T>
void zero(MatrixView<T> X) {
  for (Index i = 0; i < X.rows(); ++i)
    if (X.col_stride() == 1)
      std::memset(&X(i, 0), 0, static_cast<std::size_t>(X.cols()) * sizeof(T));
    else
      for (Index j = 0; j < X.cols(); ++j) X(i, j) = T(0);
}

/// Σ_j a_j·b_j; short, so the portable vectors will do.
template <class T>
T dot(VectorView<const T> a, VectorView<const T> b) {
  using V = simd::Vec<T, simd::Portable<>>;
  const Index d = a.extent(0);
  V even, odd;
  Index j = 0;
  if (a.stride(0) == 1 && b.stride(0) == 1)
    for (; j + 2 * V::width <= d; j += 2 * V::width) {
      even = fma(V::load(a.data() + j), V::load(b.data() + j), even);
      odd = fma(V::load(a.data() + j + V::width), V::load(b.data() + j + V::width), odd);
    }
  T total = reduce_add(even + odd);
  for (; j < d; ++j) total += a[j] * b[j];
  return total;
}

/// P = exp(log P), dS = P∘(dP - D), in place of log P and dP - D.
struct SoftmaxTile {
  template <class V>
  TESSERA_INLINE void operator()(V& p, V& ds) const {
    p = exp(p);
    ds = p * ds;
  }
};

/// One kv head of one sequence. A column more on each side brings the softmax's shift into the product:
/// scale·[Q, -lse/scale]·[K, 1]ᵀ = log P and [dO, -D]·[V, 1]ᵀ = dP - D, D_i = dO_i·O_i.
template <class T>
struct AttentionBackward {
  static constexpr Index tile = 128;
  Context& ctx;
  bool causal;
  T scale;
  MatrixView<const T> K, V;  // (m, d)
  MatrixView<T> dK, dV;      // (m, d)

  Index d() const { return K.cols(); }
  Index ld() const { return (d() + 1 + 15) / 16 * 16; }

  /// Query heads g of the group in turn; `head(g)` gives its Q, out, lse, dO, dQ.
  template <class Heads>
  void run(Index group, const Heads& head) {
    Workspace::Scope scope(ctx.workspace);
    T* const k = scope.take<T>(K.rows() * ld());
    T* const v = scope.take<T>(K.rows() * ld());
    pack_with_column<T>(K, nullptr, k, ld());
    pack_with_column<T>(V, nullptr, v, ld());
    zero(dK);
    zero(dV);
    for (Index g = 0; g < group; ++g) one(head(g), k, v);
  }

 private:
  static MatrixView<T> rows_of(T* x, Index begin, Index rows, Index cols, Index stride) {
    return {x + begin * stride, {rows, cols}, {stride, 1}};
  }

  template <class Head>
  void one(const Head& h, T* k, T* v) {
    const Index n = h.Q.rows(), m = K.rows();
    Workspace::Scope scope(ctx.workspace);
    T* const q = scope.take<T>(n * ld());
    T* const g = scope.take<T>(n * ld());
    T* const column = scope.take<T>(n);
    T* const p = scope.take<T>(tile * tile);
    T* const ds = scope.take<T>(tile * tile);
    const T alpha = scale == T(0) ? T(1) : scale;  // of a product that is 0 either way
    for (Index i = 0; i < n; ++i) column[i] = -h.lse[i] / alpha;
    pack_with_column<T>(h.Q, column, q, ld());
    if (scale == T(0)) zero(rows_of(q, 0, n, d(), ld()));
    for (Index i = 0; i < n; ++i) column[i] = -dot<T>(h.dO.row(i), h.out.row(i));
    pack_with_column<T>(h.dO, column, g, ld());
    zero(h.dQ);
    for (Index i = 0; i < n; i += tile) {
      const Index rows = std::min(tile, n - i);
      const Index seen = causal ? std::clamp<Index>(m - n + i + rows, 0, m) : m;  // by the last of these rows
      for (Index j = 0; j < seen; j += tile) {
        const Index cols = std::min(tile, seen - j);
        const MatrixView<T> P(p, rows, cols), dS(ds, rows, cols);
        gemm<T>(ctx, alpha, rows_of(q, i, rows, d() + 1, ld()), rows_of(k, j, cols, d() + 1, ld()).transposed(), T(0),
                P);
        gemm<T>(ctx, T(1), rows_of(g, i, rows, d() + 1, ld()), rows_of(v, j, cols, d() + 1, ld()).transposed(), T(0),
                dS);
        map(ctx, SoftmaxTile{}, VectorView<T>(p, rows * cols), VectorView<T>(ds, rows * cols));
        if (causal) hide(P, dS, m - n + i + 1 - j);
        gemm<T>(ctx, T(1), P.transposed(), rows_of(g, i, rows, d(), ld()), T(1), dV.slice(0, j, cols));
        gemm<T>(ctx, alpha, dS.transposed(), rows_of(q, i, rows, d(), ld()), T(1), dK.slice(0, j, cols));
        gemm<T>(ctx, scale, dS, rows_of(k, j, cols, d(), ld()), T(1), h.dQ.slice(0, i, rows));
      }
    }
  }

  /// Row r sees only the first `visible + r` columns of its tile.
  static void hide(MatrixView<T> P, MatrixView<T> dS, Index visible) {
    for (Index r = 0; r < P.rows() && visible + r < P.cols(); ++r) {
      const Index from = std::max<Index>(visible + r, 0);
      std::memset(&P(r, from), 0, static_cast<std::size_t>(P.cols() - from) * sizeof(T));
      std::memset(&dS(r, from), 0, static_cast<std::size_t>(P.cols() - from) * sizeof(T));
    }
  }
};

}  // namespace detail

/// dQ, dK, dV of out = attention(Q, K, V) with its lse, given dO = ∂L/∂out. Overwrites them; they overlap nothing else.
/// Kv heads of sequences are independent pieces: the same bits for any number of threads. Throws shape_error.
/// 10·n·m·d flops a head (half if causal), O(n·d) memory a thread.
/// T. Dao, "FlashAttention-2" (2023), algorithm 2.
template <class T>
void attention_backward(Context& ctx, std::type_identity_t<View<const T, 4>> Q,  // (batch, heads, n, d)
                        std::type_identity_t<View<const T, 4>> K,                // (batch, kv_heads, m, d)
                        std::type_identity_t<View<const T, 4>> V,                // (batch, kv_heads, m, d)
                        std::type_identity_t<View<const T, 4>> out,              // (batch, heads, n, d)
                        std::type_identity_t<View<const T, 3>> lse,              // (batch, heads, n)
                        std::type_identity_t<View<const T, 4>> dO,               // (batch, heads, n, d)
                        View<T, 4> dQ,                                           // (batch, heads, n, d)
                        std::type_identity_t<View<T, 4>> dK,                     // (batch, kv_heads, m, d)
                        std::type_identity_t<View<T, 4>> dV,                     // (batch, kv_heads, m, d)
                        AttentionOptions options = {}) {
  detail::check_batches(Q, K, V, out);
  detail::check_batches(dO, dK, dV, dQ);
  detail::check_batches(Q, dK, dV, dQ);
  const Index heads = Q.extent(1), kv_heads = K.extent(1), d = Q.extent(3);
  if (lse.extent(0) != Q.extent(0) || lse.extent(1) != heads || lse.extent(2) != Q.extent(2) ||
      K.extents() != dK.extents())
    throw shape_error(tessera::detail::concat("tessera: attention_backward: lse (", lse.extent(0), ", ", lse.extent(1),
                                              ", ", lse.extent(2), "), keys of ", K.extent(2),
                                              " and their gradient of ", dK.extent(2), " tokens: expected (",
                                              Q.extent(0), ", ", heads, ", ", Q.extent(2), ") and equal lengths"));
  if (kv_heads == 0) return;
  const Index group = heads / kv_heads;
  const T scale =
      static_cast<T>(options.scale ? *options.scale : 1 / std::sqrt(static_cast<double>(std::max<Index>(d, 1))));
  struct Head {
    MatrixView<const T> Q, out, dO;
    VectorView<const T> lse;
    MatrixView<T> dQ;
  };
  for_each_chunk(ctx, Q.extent(0) * kv_heads, 1, [&](Context& worker, Index piece, Index) {
    const Index b = piece / kv_heads, kv = piece % kv_heads;
    detail::AttentionBackward<T> work{worker, options.causal, scale, K[b][kv], V[b][kv], dK[b][kv], dV[b][kv]};
    work.run(group, [&](Index g) {
      const Index h = kv * group + g;
      return Head{Q[b][h], out[b][h], dO[b][h], lse[b][h], dQ[b][h]};
    });
  });
}

}  // namespace tessera::inline TESSERA_ABI::nn
