/// Products of the kept rows of a matrix where they lie, and their gradients.
/// T. Wang et al., "LeMo: Enabling LEss Token Involvement for MOre Context Fine-tuning" (2025).
#pragma once

#include <algorithm>
#include <concepts>
#include <type_traits>

#include <tessera/attention/token_elimination.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/sparse/gather.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

inline constexpr Index token_in_place = 64;  // a segment of as many rows is a product of its own

/// f(at, count) for the kept rows [at, at + count): long segments each by itself, those between them by tiles.
template <class F>
void for_each_token_group(const KeptTokens& kept, bool whole, F&& f) {
  if (!whole) return f(0, kept.kept());
  Index done = 0, at = 0;
  const auto flush = [&] {
    for (; done < at; done += std::min(token_tile, at - done)) f(done, std::min(token_tile, at - done));
  };
  for (const auto& s : kept.segments()) {
    if (s.count >= token_in_place) {
      flush();
      f(at, s.count);
      done = at + s.count;
    }
    at += s.count;
  }
  flush();
}

/// Kept rows of a matrix of all tokens, or of the kept alone: in place where they are neighbours, else in a tile.
template <class T>
class TokenRows {
  using S = std::remove_const_t<T>;

 public:
  TokenRows(Workspace::Scope& scope, const KeptTokens& kept, MatrixView<T> X)
      : kept_(kept), X_(X), whole_(X.rows() != kept.kept()) {
    if (whole_ && kept.segments().size() > 1) tile_ = scope.take<S>(token_tile * X.cols());
  }
  bool whole() const { return whole_; }

  MatrixView<const S> read(Context& ctx, Index at, Index count) const {
    return neighbours(at, count) ? in_place(at, count) : gather(ctx, at, count);
  }
  /// product(beta, C): C = … + beta·C.
  template <class F>
  void write(Context& ctx, Index at, Index count, S beta, F&& product) const {
    if (neighbours(at, count)) return product(beta, in_place(at, count));
    const MatrixView<S> C = beta == S(0) ? MatrixView<S>(tile_, count, X_.cols()) : gather(ctx, at, count);
    product(beta, C);
    const Index* const rows = kept_.rows().data() + at;
    for (Index r = 0; r < count; ++r) {
      if (X_.col_stride() == 1)
        std::copy_n(&C(r, 0), C.cols(), X_.data() + rows[r] * X_.row_stride());
      else
        for (Index j = 0; j < C.cols(); ++j) X_(rows[r], j) = C(r, j);
    }
  }

 private:
  bool neighbours(Index at, Index count) const {
    const Index* const rows = kept_.rows().data() + at;
    return !whole_ || count == 0 || rows[count - 1] - rows[0] + 1 == count;
  }
  MatrixView<T> in_place(Index at, Index count) const {
    return X_.slice(0, whole_ && count > 0 ? kept_.rows()[static_cast<std::size_t>(at)] : at, count);
  }
  MatrixView<S> gather(Context& ctx, Index at, Index count) const {
    const MatrixView<S> to(tile_, count, X_.cols());
    gather_rows<S, Index>(ctx, X_, kept_.rows().subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(count)),
                          to);
    return to;
  }
  const KeptTokens& kept_;
  MatrixView<T> X_;
  bool whole_;
  S* tile_ = nullptr;
};

template <class A, class B, class C>
void check_token_product(const char* what, const KeptTokens& kept, const MatrixView<A>& X, const MatrixView<B>& W,
                         const MatrixView<C>& Y) {
  const auto fits = [&](Index rows) { return rows == kept.tokens() || rows == kept.kept(); };
  if (!fits(X.rows()) || !fits(Y.rows()) || X.cols() != W.rows() || Y.cols() != W.cols())
    throw shape_error(concat("tessera: ", what, " of (", shape_text(X.rows(), X.cols()), ") * (",
                             shape_text(W.rows(), W.cols()), ") and (", shape_text(Y.rows(), Y.cols()), ") with ",
                             kept.kept(), " of ", kept.tokens(), " tokens kept: expected ", kept.tokens(), " or ",
                             kept.kept(), " rows on both sides, ", W.rows(), " and ", W.cols(), " columns"));
}

}  // namespace detail

/// Y[kept] = alpha·X[kept] W + beta·Y[kept]. X and Y each have a row for every token, of which the kept are read or
/// written where they lie, or rows of the kept alone (shapes tell; both may be either). One gemm for a segment of at
/// least 64 rows, in place; what lies between such segments goes through a tile of 128 rows that stays in cache. No
/// permuted copy: scratch 128·(d + d') beside gemm's, whatever n. 2·kept·d·d' flops; the same bits for any number of
/// threads. Y must not overlap X or W. Throws shape_error. LeMo's permutation-free kernel. dX of dY is this with Wᵀ.
template <std::floating_point T>
void segment_gather_gemm(Context& ctx, std::type_identity_t<T> alpha,
                         std::type_identity_t<MatrixView<const T>> X,                          // (n or kept, d)
                         const KeptTokens& kept, std::type_identity_t<MatrixView<const T>> W,  // (d, d')
                         std::type_identity_t<T> beta, MatrixView<T> Y) {                      // (n or kept, d')
  detail::check_token_product("segment_gather_gemm", kept, X, W, Y);
  Workspace::Scope scope(ctx.workspace);
  const detail::TokenRows<const T> from(scope, kept, X);
  const detail::TokenRows<T> to(scope, kept, Y);
  detail::for_each_token_group(kept, from.whole() || to.whole(), [&](Index at, Index count) {
    const auto x = from.read(ctx, at, count);
    to.write(ctx, at, count, beta, [&](T b, MatrixView<T> C) { gemm<T>(ctx, alpha, x, W, b, C); });
  });
}

/// Of Y[kept] = X[kept] W and dY: dX[kept] = dY[kept] Wᵀ + beta_dx·dX[kept] where dX has data (other rows are left
/// alone), and dW = X[kept]ᵀ dY[kept] + beta_dw·dW where dW has, segment after segment. Each of X, dY, dX has a row for
/// every token or for the kept alone. 4·kept·d·d' flops, scratch 128·(2·d + d'). None may overlap what is written.
/// Throws shape_error.
template <std::floating_point T>
void segment_gather_gemm_backward(Context& ctx, std::type_identity_t<MatrixView<const T>> X,  // (n or kept, d)
                                  const KeptTokens& kept,                                     //
                                  std::type_identity_t<MatrixView<const T>> W,                // (d, d')
                                  std::type_identity_t<MatrixView<const T>> dY,               // (n or kept, d')
                                  std::type_identity_t<T> beta_dx, MatrixView<T> dX,          // (n or kept, d)
                                  std::type_identity_t<T> beta_dw,                            //
                                  std::type_identity_t<MatrixView<T>> dW) {                   // (d, d')
  detail::check_token_product("segment_gather_gemm_backward", kept, X, W, dY);
  if (dX.data() != nullptr) detail::check_token_product("segment_gather_gemm_backward into dX", kept, dX, W, dY);
  if (dW.data() != nullptr) detail::check_token_product("segment_gather_gemm_backward into dW", kept, X, dW, dY);
  Workspace::Scope scope(ctx.workspace);
  const detail::TokenRows<const T> x(scope, kept, X), dy(scope, kept, dY);
  const detail::TokenRows<T> dx(scope, kept, dX.data() == nullptr ? MatrixView<T>(nullptr, kept.kept(), 0) : dX);
  if (kept.kept() == 0 && dW.data() != nullptr)
    gemm<T>(ctx, T(1), X.slice(0, 0, 0).transposed(), dY.slice(0, 0, 0), beta_dw, dW);
  detail::for_each_token_group(kept, x.whole() || dy.whole() || dx.whole(), [&](Index at, Index count) {
    if (count == 0) return;
    const auto g = dy.read(ctx, at, count);
    if (dW.data() != nullptr) gemm<T>(ctx, T(1), x.read(ctx, at, count).transposed(), g, at == 0 ? beta_dw : T(1), dW);
    if (dX.data() != nullptr)
      dx.write(ctx, at, count, beta_dx, [&](T b, MatrixView<T> C) { gemm<T>(ctx, T(1), g, W.transposed(), b, C); });
  });
}

}  // namespace tessera::inline TESSERA_ABI
