/// Gradients of attention over pairs of keys from the saved log-sum-exp, tile by tile.
#pragma once

#include <array>
#include <utility>

#include <tessera/attention/kronecker.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

/// One head of one piece: the sums over its queries, which are its own rows of dQ and a share of the others.
template <class T>
struct KronBackward {
  Context& ctx;
  KronTiles tiles;
  T scale;
  MatrixView<const T> Q, K1, K2, V1, V2, out, dO;  // (n, d), …
  VectorView<const T> lse;
  MatrixView<T> dQ;                  // (n, d)
  MatrixView<T> dK1, dK2, dV1, dV2;  // (n1, d), … of this piece, gapless and zero

  void run(Index begin, Index end) {
    for (Index i = begin; i < end; i += 16) block(i, std::min<Index>(16, end - i));
  }

 private:
  static const T* at(MatrixView<const T> X, Index i) { return X.data() + i * X.row_stride(); }

  void block(Index begin, Index rows) {
    Workspace::Scope scope(ctx.workspace);
    const Index d = Q.cols(), dv = dO.cols(), pairs = tiles.pairs(), seconds = std::min(tiles.seconds, tiles.n2);
    T* const a = scope.take<T>(pairs * d);
    T* const g = scope.take<T>(pairs * dv);
    T* const p = scope.take<T>(pairs * seconds);
    T* const ds = scope.take<T>(pairs * seconds);
    T* const to_keys = scope.take<T>(pairs * d);
    T* const to_values = scope.take<T>(pairs * dv);
    T* const dq = scope.take<T>(rows * d);
    T* const D = scope.take<T>(rows);
    std::fill_n(dq, rows * d, T(0));
    for (Index i = 0; i < rows; ++i) {
      D[i] = T(0);
      for (Index c = 0; c < dv; ++c) D[i] += dO(begin + i, c) * out(begin + i, c);
    }
    for (Index j = 0; j < tiles.n1 && tiles.n2 > 0; j += tiles.firsts()) {
      const Index firsts = std::min(tiles.firsts(), tiles.n1 - j), m = rows * firsts;
      const MatrixView<T> A(a, m, d), G(g, m, dv), R(to_keys, m, d), S(to_values, m, dv);
      kron_pair_rows<T>(scale, Q.slice(0, begin, rows), K1.slice(0, j, firsts), a);
      kron_pair_rows<T>(T(1), dO.slice(0, begin, rows), V1.slice(0, j, firsts), g);
      for (Index k = 0; k < tiles.n2; k += seconds) {
        const Index cols = std::min(seconds, tiles.n2 - k);
        const MatrixView<T> P(p, m, cols), dS(ds, m, cols);
        const auto keys = K2.slice(0, k, cols), values = V2.slice(0, k, cols);
        gemm<T>(ctx, T(1), A, keys.transposed(), T(0), P);
        gemm<T>(ctx, T(1), G, values.transposed(), T(0), dS);
        for (Index i = 0; i < rows; ++i)
          map(ctx, KronSoftmax<T>{lse[begin + i], D[i]}, VectorView<T>(p + i * firsts * cols, firsts * cols),
              VectorView<T>(ds + i * firsts * cols, firsts * cols));
        gemm<T>(ctx, T(1), dS, keys, k == 0 ? T(0) : T(1), R);
        gemm<T>(ctx, T(1), P, values, k == 0 ? T(0) : T(1), S);
        gemm<T>(ctx, T(1), dS.transposed(), A, T(1), dK2.slice(0, k, cols));
        gemm<T>(ctx, T(1), P.transposed(), G, T(1), dV2.slice(0, k, cols));
      }
      for (Index i = 0; i < rows; ++i)
        for (Index b = 0; b < firsts; ++b) {
          const Index row = i * firsts + b;
          kron_times<true>(scale, at(K1, j + b), to_keys + row * d, dq + i * d, d);
          kron_times<true>(scale, at(Q, begin + i), to_keys + row * d, &dK1(j + b, 0), d);
          kron_times<true>(T(1), at(dO, begin + i), to_values + row * dv, &dV1(j + b, 0), dv);
        }
    }
    for (Index i = 0; i < rows; ++i)
      for (Index c = 0; c < d; ++c) dQ(begin + i, c) = dq[i * d + c];
  }
};

}  // namespace detail

/// dQ, dK1, dK2, dV1, dV2 of out = kron_attention(Q, K1, K2, V1, V2) with its lse, given dO = ∂L/∂out. Overwrites them;
/// they overlap nothing else. 2·n·n1·n2·(3·d + 3·dv) flops a head, memory of at most 16 times the gradients of keys and
/// values. The same bits for any number of threads: queries go by pieces that depend on the shape alone, their sums are
/// added in order. Throws shape_error.
/// J. Alman, Z. Song, "How to Capture Higher-order Correlations? …" (2023), differentiated here.
template <class T>
requires std::floating_point<T>
void kron_attention_backward(Context& ctx, View<const std::type_identity_t<T>, 3> Q,  // (heads, n, d)
                             View<const std::type_identity_t<T>, 3> K1,               // (heads, n1, d)
                             View<const std::type_identity_t<T>, 3> K2,               // (heads, n2, d)
                             View<const std::type_identity_t<T>, 3> V1,               // (heads, n1, dv)
                             View<const std::type_identity_t<T>, 3> V2,               // (heads, n2, dv)
                             View<const std::type_identity_t<T>, 3> out,              // (heads, n, dv)
                             View<const std::type_identity_t<T>, 2> lse,              // (heads, n)
                             View<const std::type_identity_t<T>, 3> dO,               // (heads, n, dv)
                             View<T, 3> dQ,                                           // (heads, n, d)
                             View<std::type_identity_t<T>, 3> dK1,                    // (heads, n1, d)
                             View<std::type_identity_t<T>, 3> dK2,                    // (heads, n2, d)
                             View<std::type_identity_t<T>, 3> dV1,                    // (heads, n1, dv)
                             View<std::type_identity_t<T>, 3> dV2,                    // (heads, n2, dv)
                             KronAttentionOptions options = {}) {
  detail::check_kron("kron_attention_backward", Q, K1, K2, V1, V2, out);
  detail::check_kron<T>("kron_attention_backward", dQ, dK1, dK2, dV1, dV2, dO);
  const Index heads = Q.extent(0), n = Q.extent(1), n1 = K1.extent(1), n2 = K2.extent(1), d = Q.extent(2),
              dv = out.extent(2);
  if (dQ.extents() != Q.extents() || dK1.extents() != K1.extents() || dK2.extents() != K2.extents() ||
      dO.extents() != out.extents() || lse.extent(0) != heads || lse.extent(1) != n)
    throw shape_error(detail::concat(
        "tessera: kron_attention_backward: gradients of ", dQ.extent(1), " queries, ", dK1.extent(1), " and ",
        dK2.extent(1), " keys, ", dO.extent(2), " values wide, lse ", detail::shape_text(lse.extent(0), lse.extent(1)),
        "; expected ", n, ", ", n1, ", ", n2, ", ", dv, " and ", detail::shape_text(heads, n)));
  if (heads == 0) return;
  const detail::KronTiles tiles{n, n1, n2};
  const T scale = static_cast<T>(options.scale.value_or(1 / static_cast<double>(std::max<Index>(d, 1))));
  const Index pieces = std::max<Index>(1, std::min(tiles.blocks(), 16 / heads));  // of a head
  const Index queries = (tiles.blocks() + pieces - 1) / pieces * 16;
  const Index share = (n1 + n2) * (d + dv);
  Workspace::Scope scope(ctx.workspace);
  T* const shares = scope.take<T>(heads * pieces * share);
  std::fill_n(shares, heads * pieces * share, T(0));
  const auto parts = [&](Index piece) {
    T* x = shares + piece * share;
    const auto next = [&x](Index rows, Index cols) {
      return MatrixView<T>(std::exchange(x, x + rows * cols), rows, cols);
    };
    std::array<MatrixView<T>, 4> all{next(n1, d), next(n2, d), next(n1, dv), next(n2, dv)};
    return all;
  };
  for_each_chunk(ctx, heads * pieces, 1, [&](Context& worker, Index piece, Index) {
    const Index h = piece / pieces, begin = piece % pieces * queries;
    const auto [k1, k2, v1, v2] = parts(piece);
    detail::KronBackward<T>{worker, tiles, scale,  Q[h],  K1[h], K2[h], V1[h], V2[h],
                            out[h], dO[h], lse[h], dQ[h], k1,    k2,    v1,    v2}
        .run(std::min(begin, n), std::min(n, begin + queries));
  });
  for (Index h = 0; h < heads; ++h)
    for (Index piece = 0; piece < pieces; ++piece) {
      const auto part = parts(h * pieces + piece);
      const std::array<MatrixView<T>, 4> to{dK1[h], dK2[h], dV1[h], dV2[h]};
      for (std::size_t t = 0; t < 4; ++t)
        for (Index i = 0; i < to[t].rows(); ++i)
          for (Index c = 0; c < to[t].cols(); ++c) to[t](i, c) = (piece == 0 ? T(0) : to[t](i, c)) + part[t](i, c);
    }
}

}  // namespace tessera::inline TESSERA_ABI
