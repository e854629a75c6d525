/// An attention block in which only some tokens take part, forward and backward.
#pragma once

#include <span>

#include <tessera/attention/detail/parts.hpp>
#include <tessera/attention/segment_gather_gemm.hpp>
#include <tessera/nn/attention.hpp>
#include <tessera/nn/rope.hpp>

namespace tessera::inline TESSERA_ABI::nn {

struct EliminatedBlockShape {
  Index channels, heads, kv_heads, width;  // width: of a head

  Index projected() const { return (heads + 2 * kv_heads) * width; }
  /// Throws shape_error unless kv heads divide heads.
  Index parameter_count() const {
    detail::check_sizes("EliminatedBlockShape", {channels, heads, kv_heads, width});
    detail::check_sizes("EliminatedBlockShape", {heads * width});
    if (heads % kv_heads != 0)
      throw shape_error(tessera::detail::concat("tessera: EliminatedBlockShape of ", heads, " heads and ", kv_heads,
                                                " kv heads: expected a divisor"));
    return (projected() + heads * width) * channels;
  }
};

/// Parameters, or their gradients, in one span in this order.
template <class T>
struct EliminatedBlockParameters {
  MatrixView<T> Wqkv, Wo;  // ((heads + 2·kv_heads)·width, channels): of q, k, v; (channels, heads·width)

  /// Throws shape_error.
  EliminatedBlockParameters(const EliminatedBlockShape& s, std::span<T> all) {
    detail::Parts<T> parts("EliminatedBlockParameters", all, s.parameter_count());
    Wqkv = parts.matrix(s.projected(), s.channels);
    Wo = parts.matrix(s.channels, s.heads * s.width);
  }
};

template <class T>
struct EliminatedBlockOptions {
  bool causal = true;                  // in the tokens' own order, which the kept ones keep
  const RopeTable<T>* rope = nullptr;  // turns q and k by the tokens' own positions
};

/// What the backward pass needs, of kept tokens alone.
template <class T>
class KeptActivations {
 public:
  MatrixView<T> X, QKV, O;  // (kept, channels), (kept, (heads + 2·kv_heads)·width) turned, (kept, heads·width)
  View<T, 3> lse;           // (1, heads, kept)

  KeptActivations() = default;
  KeptActivations(KeptActivations&&) noexcept = default;
  KeptActivations& operator=(KeptActivations&&) noexcept = default;

  std::size_t bytes() const { return memory_.bytes(); }
  bool fits(const EliminatedBlockShape& s, Index kept) const {
    return X.rows() == kept && X.cols() == s.channels && heads_ == s.heads && kv_heads_ == s.kv_heads &&
           width_ == s.width;
  }
  View<T, 4> q() const { return of(QKV, 0, heads_); }
  View<T, 4> k() const { return of(QKV, heads_, kv_heads_); }
  View<T, 4> v() const { return of(QKV, heads_ + kv_heads_, kv_heads_); }
  /// Heads [first, first + count) of X as (1, count, kept, width).
  View<T, 4> of(MatrixView<T> from, Index first, Index count) const {
    return split_heads(from.slice(1, first * width_, count * width_), 1, count);
  }
  Index turned() const { return (heads_ + kv_heads_) * width_; }

  /// Memory is kept where the sizes are those of before.
  void fit(const EliminatedBlockShape& s, Index kept) {
    heads_ = s.heads;
    kv_heads_ = s.kv_heads;
    width_ = s.width;
    const Index row = s.channels + s.projected() + s.heads * s.width + s.heads;
    if (kept > (Index{1} << 60) / row)
      throw shape_error(tessera::detail::concat("tessera: KeptActivations of ", kept, " tokens of ", row, " numbers"));
    if (memory_.size() != kept * row) memory_ = Buffer<T>(kept * row, uninitialized);
    T* at = memory_.data();
    const auto next = [&](Index cols) {
      at += kept * cols;
      return MatrixView<T>(at - kept * cols, kept, cols);
    };
    X = next(s.channels);
    QKV = next(s.projected());
    O = next(s.heads * s.width);
    lse = {at, {1, s.heads, kept}};
  }

 private:
  Buffer<T> memory_;
  Index heads_ = 0, kv_heads_ = 0, width_ = 0;
};

/// Y[kept] += attention(X[kept] Wqkvᵀ) Woᵀ, queries of kept tokens over kept tokens, heads side by side; rows of tokens
/// that are not kept are neither read nor written: they pass through. X is what the projections read (a norm of the
/// residual rows, or Y itself), Y the residual rows. Fills `saved`: sizeof(T)·kept·(channels + 2·(heads + kv_heads)·
/// width + heads) bytes. 2·kept·channels·(2·heads + 2·kv_heads)·width + 4·kept²·heads·width flops (the last half if
/// causal). Throws shape_error. T. Wang et al., "LeMo" (2025), without its MLP.
template <class T>
void token_eliminated_block(Context& ctx, const EliminatedBlockShape& shape,
                            std::type_identity_t<std::span<const T>> parameters,
                            std::type_identity_t<MatrixView<const T>> X,  // (n, channels)
                            const KeptTokens& kept, MatrixView<T> Y,      // (n, channels)
                            KeptActivations<T>& saved, const EliminatedBlockOptions<T>& options = {}) {
  const EliminatedBlockParameters<const T> w(shape, parameters);
  if (X.rows() != kept.tokens() || X.cols() != shape.channels || Y.extents() != X.extents())
    throw shape_error(tessera::detail::concat(
        "tessera: token_eliminated_block of (", tessera::detail::shape_text(X.rows(), X.cols()), ") into (",
        tessera::detail::shape_text(Y.rows(), Y.cols()), ") with a mask of ", kept.tokens(), " tokens: expected (",
        tessera::detail::shape_text(kept.tokens(), shape.channels), ") twice"));
  saved.fit(shape, kept.kept());
  if (kept.kept() == 0) return;
  gather_rows<T, Index>(ctx, X, kept.rows(), saved.X);  // X may be Y, which is about to change
  gemm<T>(ctx, T(1), saved.X, w.Wqkv.transposed(), T(0), saved.QKV);
  if (options.rope != nullptr) rope<T>(ctx, *options.rope, saved.QKV.slice(1, 0, saved.turned()), kept.rows());
  attention<T>(ctx, saved.q(), saved.k(), saved.v(), saved.of(saved.O, 0, shape.heads),
               AttentionOptions{.scale = {}, .causal = options.causal}, saved.lse);
  segment_gather_gemm<T>(ctx, T(1), saved.O, kept, w.Wo.transposed(), T(1), Y);
}

/// dX[kept] += the gradient of the block for dY = ∂L/∂Y, dparameters = beta·dparameters + ∂L/∂parameters; rows that
/// were not kept are not touched. dX may be dY: where Y was X, the gradient of the whole then stands in its place.
/// Twice the forward pass's flops and a half more, scratch O(kept·(channels + heads·width)). Throws shape_error.
template <class T>
void token_eliminated_block_backward(Context& ctx, const EliminatedBlockShape& shape,
                                     std::type_identity_t<std::span<const T>> parameters, const KeptTokens& kept,
                                     const KeptActivations<T>& saved,
                                     std::type_identity_t<MatrixView<const T>> dY,  // (n, channels)
                                     MatrixView<T> dX,                              // (n, channels)
                                     std::type_identity_t<T> beta, std::type_identity_t<std::span<T>> dparameters,
                                     const EliminatedBlockOptions<T>& options = {}) {
  const EliminatedBlockParameters<const T> w(shape, parameters);
  const EliminatedBlockParameters<T> grads(shape, dparameters);
  if (dY.rows() != kept.tokens() || dY.cols() != shape.channels || dX.extents() != dY.extents() ||
      !saved.fits(shape, kept.kept()))
    throw shape_error(tessera::detail::concat(
        "tessera: token_eliminated_block_backward of (", tessera::detail::shape_text(dY.rows(), dY.cols()), ") into (",
        tessera::detail::shape_text(dX.rows(), dX.cols()), ") with ", kept.kept(), " of ", kept.tokens(),
        " tokens kept and activations of ", saved.X.rows(), ": expected (",
        tessera::detail::shape_text(kept.tokens(), shape.channels), ") twice and what the forward pass saved"));
  Workspace::Scope scope(ctx.workspace);
  const Index k = kept.kept();
  const MatrixView<T> dO(scope.take<T>(saved.O.size()), k, saved.O.cols());
  const MatrixView<T> dQKV(scope.take<T>(saved.QKV.size()), k, saved.QKV.cols());
  segment_gather_gemm_backward<T>(ctx, saved.O, kept, w.Wo.transposed(), dY, T(0), dO, beta, grads.Wo.transposed());
  if (k > 0)
    attention_backward<T>(ctx, saved.q(), saved.k(), saved.v(), saved.of(saved.O, 0, shape.heads), saved.lse,
                          saved.of(dO, 0, shape.heads), saved.of(dQKV, 0, shape.heads),
                          saved.of(dQKV, shape.heads, shape.kv_heads),
                          saved.of(dQKV, shape.heads + shape.kv_heads, shape.kv_heads),
                          AttentionOptions{.scale = {}, .causal = options.causal});
  if (options.rope != nullptr) rope_backward<T>(ctx, *options.rope, dQKV.slice(1, 0, saved.turned()), kept.rows());
  segment_gather_gemm_backward<T>(ctx, saved.X, kept, w.Wqkv.transposed(), dQKV, T(1), dX, beta,
                                  grads.Wqkv.transposed());
}

}  // namespace tessera::inline TESSERA_ABI::nn
