/// Gradients of attention of one kv head and its query heads; see attention_backward.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include <tessera/attention/score_mod.hpp>
#include <tessera/core/context.hpp>
#include <tessera/kernels/attention/attention.hpp>
#include <tessera/kernels/attention/draws/list.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/kernels/map/map.hpp>

namespace tessera::inline TESSERA_ABI::nn::detail {

/// to (rows, d + 1; stride ld) = [factor·from, last].
template <class T>
void pack_with_column(MatrixView<const T> from, const T* last, T* to, Index ld, T factor = 1) {
  const Index d = from.cols();
  for (Index i = 0; i < from.rows(); ++i, to += ld) {
    const T* const x = from.data() + i * from.row_stride();
    if (from.col_stride() == 1)
      for (Index j = 0; j < d; ++j) to[j] = factor * x[j];
    else
      for (Index j = 0; j < d; ++j) to[j] = factor * x[j * from.col_stride()];
    to[d] = last == nullptr ? T(1) : last[i];
  }
}

template <class T>
void zero(MatrixView<T> X) {
  for (Index i = 0; X.cols() > 0 && i < X.rows(); ++i)
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

/// x (rows, cols; stride ld), or a copy of it with zeros for rows that hold a NaN or an infinity: what sees them has a
/// NaN to multiply with, what does not has 0.
template <class T>
const T* finite_rows(Workspace::Scope& scope, const T* x, Index rows, Index cols, Index ld) {
  using V = simd::Vec<T, simd::Portable<>>;
  const auto finite = [&](Index i) {
    V sum;
    for (Index j = 0; j < cols; j += V::width)
      sum = fma(V::load(x + i * ld + j, std::min<Index>(V::width, cols - j)), V(T(0)), sum);
    return reduce_add(sum) == 0;
  };
  Index i = 0;
  while (i < rows && finite(i)) ++i;
  if (i == rows) return x;
  T* const copy = scope.take<T>(rows * ld);
  std::memcpy(copy, x, static_cast<std::size_t>(rows * ld) * sizeof(T));
  for (; i < rows; ++i)
    if (!finite(i)) std::fill_n(copy + i * ld, cols, T(0));
  return copy;
}

/// P = exp(log P), dS = P∘(dP - D), in place of log P and dP - D.
struct SoftmaxTile {
  template <class V>
  TESSERA_INLINE void operator()(V& p, V& ds) const {
    p = exp(p);
    ds = p * ds;
  }
};

/// One query head of one sequence.
template <class T>
struct BackwardHead {
  MatrixView<const T> Q, out, dO;         // (n, d), (n, dv), (n, dv)
  VectorView<const T> lse;                // (n)
  MatrixView<T> dQ;                       // (n, d)
  VectorView<const T> entropy, dentropy;  // (n), or no data
};

/// One kv head of one sequence. Without mods a column more on each side brings the softmax's shift into the product:
/// [scale·Q, -lse]·[K, 1]ᵀ = log P and [dO, -D]·[V, 1]ᵀ = dP - D, D_i = dO_i·O_i.
template <class T, class Mods>
struct AttentionBackward {
  static constexpr Index tile = 128;
  Context& ctx;
  const Mods& mods;
  bool causal;
  T scale;
  MatrixView<const T> K, V;  // (m, d), (m, dv)
  MatrixView<T> dK, dV;      // (m, d), (m, dv)
  Index batch, first_head;

  static Index padded(Index d) { return (d + 1 + 15) / 16 * 16; }

  /// Query heads g of the group in turn; `head(g)` gives its BackwardHead.
  template <class Heads>
  void run(Index group, const Heads& head) {
    Workspace::Scope scope(ctx.workspace);
    T* const k = scope.take<T>(K.rows() * padded(K.cols()));
    T* const v = scope.take<T>(K.rows() * padded(V.cols()));
    pack_with_column<T>(K, nullptr, k, padded(K.cols()));
    pack_with_column<T>(V, nullptr, v, padded(V.cols()));
    zero(dK);
    zero(dV);
    const T* const finite = finite_rows(scope, k, K.rows(), K.cols(), padded(K.cols()));
    for (Index g = 0; g < group; ++g) one(head(g), first_head + g, k, finite, v);
  }

 private:
  static MatrixView<const T> rows_of(const T* x, Index begin, Index rows, Index cols, Index stride) {
    return {x + begin * stride, {rows, cols}, {stride, 1}};
  }

  void one(const BackwardHead<T>& h, Index number, const T* k, const T* finite_k, const T* v) {
    const Index n = h.Q.rows(), m = K.rows(), d = K.cols(), dv = V.cols(), ld = padded(d), ldv = padded(dv);
    Workspace::Scope scope(ctx.workspace);
    T* const q = scope.take<T>(n * ld);
    T* const g = scope.take<T>(n * ldv);
    T* const column = scope.take<T>(n);
    T* const p = scope.take<T>(tile * tile);
    T* const ds = scope.take<T>(tile * tile);
    // Derivatives and weights of the mods; scores before them, if any learns.
    T* const turned = scope.take<T>((Mods::count == 0 ? 0 : Mods::learns ? 3 : 2) * tile * tile);
    for (Index i = 0; i < n; ++i) column[i] = -h.lse[i];
    pack_with_column<T>(h.Q, column, q, ld, scale);
    const T* const finite_q = finite_rows(scope, q, n, d, ld);
    for (Index i = 0; i < n; ++i) column[i] = -dot<T>(h.dO.row(i), h.out.row(i));
    pack_with_column<T>(h.dO, column, g, ldv);
    zero(h.dQ);
    const Index column_of_shift = Mods::count == 0 ? 1 : 0;
    for (Index i = 0; i < n; i += tile) {
      const Index rows = std::min(tile, n - i);
      const Index seen = causal ? std::clamp<Index>(m - n + i + rows, 0, m) : m;  // by the last of these rows
      for (Index j = 0; j < seen; j += tile) {
        const Index cols = std::min(tile, seen - j);
        if constexpr (Mods::count > 0) {
          if (mods.block({number, number + 1, i, i + rows, j, j + cols, m - n + i, batch}) == Seen::none) continue;
        }
        const MatrixView<T> P(p, rows, cols), dS(ds, rows, cols);
        gemm<T>(ctx, T(1), rows_of(q, i, rows, d + column_of_shift, ld),
                rows_of(k, j, cols, d + column_of_shift, ld).transposed(), T(0), P);
        gemm<T>(ctx, T(1), rows_of(g, i, rows, dv + column_of_shift, ldv),
                rows_of(v, j, cols, dv + column_of_shift, ldv).transposed(), T(0), dS);
        if constexpr (Mods::count > 0) modify(P, dS, h, number, i, j, column, turned);
        if (h.dentropy.data() != nullptr) add_entropy(P, dS, h, i);
        map(ctx, SoftmaxTile{}, VectorView<T>(p, rows * cols), VectorView<T>(ds, rows * cols));
        if constexpr (Mods::learns) {
          if (causal) hide(P, dS, m - n + i + 1 - j);
          learn(dS, turned, number, i, j, m - n + i);
        }
        if constexpr (Mods::count > 0) {
          for (Index e = 0; e < rows * cols; ++e) {
            ds[e] *= turned[e];
            p[e] *= turned[tile * tile + e];
          }
        }
        if (causal) hide(P, dS, m - n + i + 1 - j);
        gemm<T>(ctx, T(1), P.transposed(), rows_of(g, i, rows, dv, ldv), T(1), dV.slice(0, j, cols));
        gemm<T>(ctx, T(1), dS.transposed(), rows_of(finite_q, i, rows, d, ld), T(1), dK.slice(0, j, cols));
        gemm<T>(ctx, scale, dS, rows_of(finite_k, j, cols, d, ld), T(1), h.dQ.slice(0, i, rows));
      }
    }
  }

  /// Scores and dP to log P and z·dP - D; ∂mods/∂score and the weights z of the tile to `turned`.
  void modify(MatrixView<T> P, MatrixView<T> dS, const BackwardHead<T>& h, Index number, Index i, Index j,
              const T* minus_D, T* turned) const {
    const Index offset = K.rows() - h.Q.rows() + i, cols = P.cols();
    if constexpr (Mods::learns) std::copy_n(P.data(), P.rows() * cols, turned + 2 * tile * tile);
    [[maybe_unused]] DrawRun draw = nullptr;
    if constexpr (Mods::template weighs<T>) draw = DrawKernels::select(ctx, DrawArgs{}).run;
    for (Index r = 0; r < P.rows(); ++r) {
      T* const weights = turned + tile * tile + r * cols;
      std::fill_n(weights, cols, T(1));
      if constexpr (Mods::template weighs<T>)
        mods.weigh_row(
            weights, 1, cols, {number, i + r, 0, offset + r, batch}, [j](Index c) { return j + c; }, draw);
      for (Index c = 0; c < cols; ++c) {
        const ScorePosition at{number, i + r, j + c, offset + r, batch};
        const T raw = P(r, c), score = mods(raw, at), z = weights[c];
        constexpr T none = -std::numeric_limits<T>::infinity();
        const bool seen = score != none && h.lse[i + r] != none;  // a NaN shows
        P(r, c) = seen ? score - h.lse[i + r] : none;
        dS(r, c) = seen ? (z == 0 ? T(0) : z * dS(r, c)) + minus_D[i + r] : T(0);  // 0·NaN of what is not seen is 0
        turned[r * cols + c] = seen ? mods.derivative(raw, at) : T(0);
      }
    }
  }

  /// The gradients of what the mods have learned, from the scores before them and the gradients after them.
  void learn(MatrixView<const T> dS, const T* turned, Index number, Index i, Index j, Index position) const {
    const T* const raw = turned + 2 * tile * tile;
    for (Index r = 0; r < dS.rows(); ++r)
      for (Index c = 0; c < dS.cols(); ++c)
        if (dS(r, c) != 0)  // what is not seen has none
          mods.add_gradients(raw[r * dS.cols() + c], dS(r, c), {number, i + r, j + c, position + r, batch});
  }

  /// ∂H/∂s_j = -p_j·(log p_j + H).
  void add_entropy(MatrixView<T> P, MatrixView<T> dS, const BackwardHead<T>& h, Index i) const {
    for (Index r = 0; r < P.rows(); ++r)
      for (Index c = 0; c < P.cols(); ++c)
        if (P(r, c) > -std::numeric_limits<T>::infinity()) dS(r, c) -= h.dentropy[i + r] * (P(r, c) + h.entropy[i + r]);
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

}  // namespace tessera::inline TESSERA_ABI::nn::detail
