/// Khatri–Rao products of quantized matrices.
#pragma once

#include <algorithm>
#include <concepts>
#include <string>
#include <utility>

#include <tessera/matrix/detail/quantized_part.hpp>
#include <tessera/matrix/detail/quantized_structure.hpp>
#include <tessera/matrix/khatri_rao.hpp>

namespace tessera::inline TESSERA_ABI {

/// A (M,K) ⊙ B (N,K) = (M·N, K) with A and B in codes of F along their rows. A product decodes A once, M·K floats, and
/// multiplies B as it lies by A diag(x) for each column x; the transposed one decodes squares of B. Immutable; copies
/// share the codes. Khatri–Rao as in khatri_rao.hpp.
template <PanelFormat F>
class QuantizedKhatriRao : public detail::QuantizedStructure<QuantizedKhatriRao<F>, F> {
 public:
  /// See quantize.
  template <class P>
  QuantizedKhatriRao(Context& ctx, const KhatriRao<P>& A, Activations mode)
      : a_(detail::quantized_part<F>(ctx, A.left(), Activations::exact)),
        b_(detail::quantized_part<F>(ctx, A.right(), mode)) {}

  Index rows() const { return a_.rows() * b_.rows(); }
  Index cols() const { return a_.cols(); }
  const auto& left() const { return a_; }
  const auto& right() const { return b_; }

  void apply(Context& ctx, Op op, float alpha, MatrixView<const float> X, float beta, MatrixView<float> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    const Index M = a_.rows(), K = cols();
    Workspace::Scope shared(ctx.workspace);
    const MatrixView<float> A(shared.take<float>(M * K), M, K);
    a_.decode(0, 0, A);
    for_each_chunk(ctx, X.cols(), 4, [&](Context& worker, Index begin, Index end) {
      Workspace::Scope scope(worker.workspace);
      const MatrixView<float> T(scope.take<float>(M * K), M, K);
      for (Index j = begin; j < end; ++j) {
        if (op == Op::none) {
          for (Index m = 0; m < M; ++m)
            for (Index k = 0; k < K; ++k) T(m, k) = A(m, k) * X(k, j);
          b_.apply(worker, Op::none, alpha, T.transposed(), beta, folded(Y, j).transposed());
        } else {
          b_.apply(worker, Op::transpose, 1.0f, folded(X, j).transposed(), 0.0f, T.transposed());
          for (Index k = 0; k < K; ++k) {
            float sum = 0;
            for (Index m = 0; m < M; ++m) sum += A(m, k) * T(m, k);
            Y(k, j) = beta == 0 ? alpha * sum : alpha * sum + beta * Y(k, j);
          }
        }
      }
    });
  }
  template <class Visit>
  void for_each_part(Visit&& visit) const {
    visit(a_);
    visit(b_);
  }
  double flops(Index n) const {
    return static_cast<double>(n) * static_cast<double>(a_.rows()) * static_cast<double>(cols()) *
           (1 + 2 * static_cast<double>(b_.rows()));
  }
  std::string describe() const {
    return detail::concat("QuantizedKhatriRao<", F::name, "> ", detail::shape_text(rows(), cols()), " (",
                          detail::shape_text(a_.rows(), a_.cols()), ", ", detail::shape_text(b_.rows(), b_.cols()),
                          ")");
  }
  void explain(Context& ctx, Op op, Index n, const KernelSink& sink) const {
    if (n > 0) b_.explain(ctx, op, a_.rows(), sink);
  }
  /// The product that it stands for.
  KhatriRao<float> dequantized() const { return {Dense<float>(a_.to_dense()), Dense<float>(b_.to_dense())}; }

 private:
  /// Column j (M·N) as (M,N).
  template <class T>
  MatrixView<T> folded(MatrixView<T> m, Index j) const {
    const Index N = b_.rows(), step = m.row_stride();
    return {m.data() + j * m.col_stride(), {a_.rows(), N}, {N * step, step}};
  }
  detail::QuantizedPart<F> a_, b_;
};

/// A and B in blocks of F, or with a scale a row: `auto Q = quantize<Q8_0>(ctx, khatri_rao(A, B))`. `mode` as in
/// Quantized, of what B multiplies. O(parameters).
template <PanelFormat F, DenseElement P>
requires std::same_as < accum_t<P>,
float > QuantizedKhatriRao<F> quantize(Context& ctx, const KhatriRao<P>& A, Activations mode = Activations::int8) {
  return {ctx, A, mode};
}

}  // namespace tessera::inline TESSERA_ABI
