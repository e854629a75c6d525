/// Weights packed once, for products with many right-hand sides.
#pragma once

#include <concepts>
#include <span>
#include <string_view>

#include <tessera/kernels/gemm/packed.hpp>
#include <tessera/matrix/dense.hpp>

namespace tessera::inline TESSERA_ABI {

/// W (M,K) of float or double as the best gemm kernel's tiles read it: A * X packs nothing but X. Immutable; copies are
/// deep. `bytes()` is what the packed form takes, at most a panel of 32 rows more than W.
template <std::floating_point T>
class Packed : public OperatorBase<Packed<T>> {
 public:
  using Scalar = T;
  static constexpr std::string_view type_name = "Packed";

  Packed() = default;
  /// Copies W (M,K), any strides. Throws unsupported_error if the context forces a kernel that packs nothing.
  explicit Packed(MatrixView<const T> W, const Context& ctx = default_context()) : factor_(ctx, W.transposed()) {}

  Index rows() const { return factor_.cols(); }
  Index cols() const { return factor_.rows(); }
  std::size_t bytes() const { return factor_.bytes(); }

  /// Y (M,N) = alpha * op(W) * X (K,N) + beta * Y; 2·M·K·N flops. Column-major X and Y are fastest. The transpose
  /// unpacks W anew into scratch: pack the transpose where that is the product wanted.
  void apply(Context& ctx, Op op, T alpha, MatrixView<const T> X, T beta, MatrixView<T> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    if (op == Op::none) return factor_.multiply(ctx, alpha, X.transposed(), beta, Y.transposed());
    Workspace::Scope scope(ctx.workspace);
    const MatrixView<T> B(scope.take<T>(rows() * cols()), cols(), rows());
    factor_.unpack(B);
    gemm(ctx, alpha, B, X, beta, Y);
  }

  /// The entries of W, row-major (M,K). They cannot be changed where they are: pack anew after a step.
  Index parameter_count() const { return rows() * cols(); }
  /// dY Xᵀ (M,K)
  void grad(Context& ctx, MatrixView<const T> X, MatrixView<const T> dY, T beta, std::span<T> dparams) const {
    detail::check_grad(*this, X, dY, dparams);
    gemm(ctx, T(1), dY, X.transposed(), beta, MatrixView<T>(dparams.data(), rows(), cols()));
  }

  template <class F>
  void for_each_buffer(F&& f) const {
    f(factor_.byte_range());
  }
  void explain(Context&, Op op, Index, const KernelSink& sink) const {
    sink(factor_.kernel(), "");
    if (op == Op::transpose) sink("unpacked", "");
  }
  Eigen::MatrixX<T> to_dense() const {
    Eigen::MatrixX<T> dense(rows(), cols());
    factor_.unpack(view(dense).transposed());
    return dense;
  }

 private:
  PackedFactor<T> factor_;
};

/// W packed, O(M*K).
template <class T>
requires std::floating_point<std::remove_const_t<T>> Packed<std::remove_const_t<T>> pack(MatrixView<T> W) {
  return Packed<std::remove_const_t<T>>(W);
}
template <std::floating_point T>
Packed<T> pack(const Dense<T>& W) {
  return Packed<T>(W.view());
}
template <std::floating_point T>
Packed<T> pack(const DenseView<T>& W) {
  return Packed<T>(W.view());
}
template <EigenDirect E>
Packed<typename E::Scalar> pack(const E& W) {
  return Packed<typename E::Scalar>(view(W));
}

}  // namespace tessera::inline TESSERA_ABI
