/// Dynamic fixed point: 16-bit integers that share one power of two, chosen anew for each tensor.
/// D. Das et al., "Mixed Precision Training of Convolutional Neural Networks using Integer Operations" (2018), §2-3.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include <tessera/core/buffer.hpp>
#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/expr/expr.hpp>
#include <tessera/kernels/fixed_gemm/fixed_gemm.hpp>
#include <tessera/kernels/fixed_round/list.hpp>

namespace tessera::inline TESSERA_ABI {

/// Values mantissa * 2^exponent; `largest` is the magnitude of the largest mantissa, by which products know how many of
/// them fit in an int32. An exponent of `not_finite` says that a value was none: products are NaN.
struct FixedPointView {
  static constexpr int not_finite = std::numeric_limits<int>::max();
  MatrixView<const std::int16_t> mantissas;
  int exponent = 0;
  std::int32_t largest = 0;

  FixedPointView transposed() const { return {mantissas.transposed(), exponent, largest}; }
  float value(Index i, Index j) const {
    if (exponent == not_finite) return std::numeric_limits<float>::quiet_NaN();
    return std::ldexp(static_cast<float>(mantissas(i, j)), exponent);
  }
};

/// X rounded to the nearest mantissas of `bits` bits, sign included, into Q of X's shape; the exponent is the least
/// that takes its largest value. |error| <= 2^(exponent - 1). Two passes over X. 16 bits leave room for few products in
/// an int32; a bit less doubles the step and makes room for four times as many (the paper shifts operands before it
/// multiplies). Throws shape_error, and unsupported_error unless 2 <= bits <= 16.
inline FixedPointView to_fixed_point(Context& ctx, MatrixView<const float> X, int bits, MatrixView<std::int16_t> Q) {
  if (bits < 2 || bits > 16)
    throw unsupported_error(detail::concat("tessera: fixed point of ", bits, " bits; expected 2 to 16"));
  if (X.rows() != Q.rows() || X.cols() != Q.cols())
    throw shape_error(detail::concat("tessera: fixed point of (", detail::shape_text(X.rows(), X.cols()), ") into (",
                                     detail::shape_text(Q.rows(), Q.cols()), ")"));
  FixedPointView result{Q, 0, 0};
  if (X.empty()) return result;
  const bool turned = X.row_stride() == 1 && X.col_stride() != 1;
  FixedRoundArgs args;
  args.X = turned ? X.transposed() : X;
  args.Q = turned ? Q.transposed() : Q;
  const Index lines = args.X.rows(), grain = std::max<Index>(1, 32768 / args.X.cols());
  Workspace::Scope scope(ctx.workspace);
  args.largest = scope.take<std::uint32_t>(lines);
  const auto& kernel = FixedRoundKernels::select(ctx, args);
  launch(ctx, kernel, args, lines, grain);
  const float most = std::bit_cast<float>(*std::max_element(args.largest, args.largest + lines));
  const int top = (1 << (bits - 1)) - 1;
  if (!(most <= std::numeric_limits<float>::max())) {
    result.exponent = FixedPointView::not_finite;
  } else if (most > 0) {
    const auto scaled = [&] { return std::nearbyint(std::ldexp(static_cast<double>(most), -result.exponent)); };
    result.exponent = std::ilogb(most) + 2 - bits;
    if (scaled() > top) ++result.exponent;
    result.largest = static_cast<std::int32_t>(scaled());
  }
  if (result.largest == 0) {
    for (Index i = 0; i < Q.rows(); ++i)
      for (Index j = 0; j < Q.cols(); ++j) Q(i, j) = 0;
    return result;
  }
  args.largest = nullptr;
  const int first = std::min(-result.exponent, 100);  // of subnormal values one factor alone would be infinite
  args.factor[0] = std::ldexp(1.0f, first);
  args.factor[1] = std::ldexp(1.0f, -result.exponent - first);
  launch(ctx, kernel, args, lines, grain);
  return result;
}

/// C = alpha*A*B + beta*C in f32: mantissas are multiplied in integers, exponents added. The chain of products that
/// share an int32 is the longest that cannot overflow. Any strides. The same bits for any number of threads.
/// 2*M*N*K operations. Throws shape_error.
template <class = void>
void fixed_point_gemm(Context& ctx, float alpha, const FixedPointView& A,
                      const FixedPointView& B,            // (M,K), (K,N)
                      float beta, MatrixView<float> C) {  // (M,N)
  if (alpha == 0 || (A.exponent != FixedPointView::not_finite && B.exponent != FixedPointView::not_finite)) {
    const double scale = alpha == 0 ? 0 : std::ldexp(static_cast<double>(alpha), A.exponent + B.exponent);
    const float factor = static_cast<float>(scale);
    const Index chain = fixed_gemm_chain(std::max(A.largest, 1), std::max(B.largest, 1));
    if (alpha == 0 || std::isnormal(factor)) return fixed_gemm(ctx, factor, A.mantissas, B.mantissas, beta, C, chain);
    // The scale alone leaves f32's range.
    Workspace::Scope scope(ctx.workspace);
    const MatrixView<float> sums(scope.take<float>(C.size()), C.rows(), C.cols());
    fixed_gemm(ctx, 1.0f, A.mantissas, B.mantissas, 0.0f, sums, chain);
    for (Index i = 0; i < C.rows(); ++i)
      for (Index j = 0; j < C.cols(); ++j) {
        const float product = static_cast<float>(scale * static_cast<double>(sums(i, j)));
        C(i, j) = beta == 0 ? product : beta * C(i, j) + product;
      }
    return;
  }
  fixed_gemm(ctx, 0.0f, A.mantissas, B.mantissas, beta, C, 2);  // checks shapes
  for (Index i = 0; i < C.rows(); ++i)
    for (Index j = 0; j < C.cols(); ++j) C(i, j) = std::numeric_limits<float>::quiet_NaN();
}

/// (M,K) in dynamic fixed point; W * X rounds X to as many bits, with an exponent of its own, and multiplies integers.
/// 2·M·K bytes. Deviation from the paper: the exponent of a result is chosen from its f32 sums, not carried over from
/// the iteration before.
class FixedPointMatrix : public OperatorBase<FixedPointMatrix> {
 public:
  using Scalar = float;
  static constexpr std::string_view type_name = "FixedPoint";

  /// Throws unsupported_error unless 2 <= bits <= 16.
  FixedPointMatrix(Context& ctx, MatrixView<const float> X, int bits = 15)
      : rows_(X.rows()), cols_(X.cols()), bits_(bits), mantissas_(X.size(), uninitialized) {
    assign(ctx, X);
  }
  /// Rounds other values of the same shape, without allocating. Throws shape_error.
  void assign(Context& ctx, MatrixView<const float> X) {
    const auto rounded = to_fixed_point(ctx, X, bits_, MatrixView<std::int16_t>(mantissas_.data(), rows_, cols_));
    exponent_ = rounded.exponent;
    largest_ = rounded.largest;
  }

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  int bits() const { return bits_; }
  int exponent() const { return exponent_; }
  FixedPointView view() const { return {{mantissas_.data(), rows_, cols_}, exponent_, largest_}; }
  std::size_t bytes() const { return mantissas_.bytes() + sizeof exponent_; }
  template <class F>
  void for_each_buffer(F&& f) const {
    f(ByteRange{mantissas_.begin(), mantissas_.end()});
  }

  /// Y (M,N) = alpha * op(W) * X (K,N) + beta * Y.
  template <class = void>
  void apply(Context& ctx, Op op, float alpha, MatrixView<const float> X, float beta, MatrixView<float> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    Workspace::Scope scope(ctx.workspace);
    auto* memory = scope.take<std::int16_t>(X.size());
    MatrixView<std::int16_t> Q(memory, X.rows(), X.cols());
    if (X.row_stride() == 1) Q = MatrixView<std::int16_t>(memory, X.cols(), X.rows()).transposed();  // X's own order
    const auto rounded = to_fixed_point(ctx, X, bits_, Q);
    fixed_point_gemm(ctx, alpha, op == Op::none ? view() : view().transposed(), rounded, beta, Y);
  }

 private:
  Index rows_, cols_;
  int bits_;
  int exponent_ = 0;
  std::int32_t largest_ = 0;
  Buffer<std::int16_t> mantissas_;
};

}  // namespace tessera::inline TESSERA_ABI
