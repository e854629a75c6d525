/// Monarch matrices whose blocks are int8 or int4.
#pragma once

#include <string>

#include <tessera/matrix/detail/coded_store.hpp>
#include <tessera/matrix/detail/quantized_structure.hpp>
#include <tessera/matrix/monarch.hpp>

namespace tessera::inline TESSERA_ABI {

/// P L Pᵀ R (M,N) of quantized blocks: F is Integers<8> or Integers<4>, with a scale for each row of a block, 16 rows
/// padded. A quarter or an eighth of the bytes of f32 and as much faster from memory where those were what it waited
/// for; products are of decoded values in f32, a slab of a block at a time, of one to three columns in registers.
/// Immutable; copies share the codes. Monarch as in monarch.hpp.
template <CodedFormat F>
class QuantizedMonarch : public detail::QuantizedStructure<QuantizedMonarch<F>, F> {
 public:
  QuantizedMonarch() = default;
  /// Every row of every block rounded to nearest; see quantize.
  template <class P>
  QuantizedMonarch(Context& ctx, const Monarch<P>& M) : QuantizedMonarch(ctx, MonarchView<P>(M)) {}
  template <class P>
  QuantizedMonarch(Context& ctx, const MonarchView<P>& M)
      : shape_(M.shape()), left_(ctx, M.left()), right_(ctx, M.right()) {}

  Index rows() const { return shape_.rows(); }
  Index cols() const { return shape_.cols(); }
  const MonarchShape& shape() const { return shape_; }

  void apply(Context& ctx, Op op, float alpha, MatrixView<const float> X, float beta, MatrixView<float> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    detail::monarch_stages<float>(ctx, op, shape_, left_.stage(ctx), right_.stage(ctx), alpha, X, beta, Y);
  }
  template <class Visit>
  void for_each_part(Visit&& visit) const {
    visit(left_);
    visit(right_);
  }
  double flops(Index n) const { return 2.0 * static_cast<double>(shape_.parameters()) * static_cast<double>(n); }
  std::string describe() const {
    return detail::concat("QuantizedMonarch<", F::name, ", ", shape_.row_blocks, "x", shape_.col_blocks, "> ",
                          detail::shape_text(rows(), cols()));
  }
  void explain(Context& ctx, Op op, Index n, const KernelSink& sink) const {
    if (shape_.parameters() == 0 || n == 0) return;
    CodedStageArgs<F::bits> args;
    args.op = op;
    args.A = right_.blocks();
    args.B = shape_.in(MatrixView<const float>(nullptr, {cols(), n}, {1, cols()}));
    args.C = shape_.after_right<float>(nullptr, n);
    CodedStageKernels::explain(ctx, args, sink);
  }
  /// The Monarch matrix that it stands for.
  Monarch<float> dequantized() const {
    Monarch<float> M(rows(), cols(), shape_.row_blocks, shape_.col_blocks, shape_.rank);
    left_.decode(M.left());
    right_.decode(M.right());
    return M;
  }

 private:
  MonarchShape shape_;
  detail::CodedStore<F> left_, right_;
};

/// M's blocks in int8 or int4: `auto Q = quantize<Integers<4>>(ctx, M)`. Every row of a block has a scale and rounds to
/// its nearest multiples; one with a value that is not finite becomes NaN. O(parameters).
template <CodedFormat F, class P>
requires std::same_as < accum_t<P>,
float > QuantizedMonarch<F> quantize(Context& ctx, const Monarch<P>& M) { return QuantizedMonarch<F>(ctx, M); }
/// Both of a product, whose inner stages stay apart.
template <CodedFormat F, class P>
requires std::same_as < accum_t<P>,
float > auto quantize(Context& ctx, const MonarchProduct<P>& M) {
  return QuantizedMonarch<F>(ctx, M.left()) * QuantizedMonarch<F>(ctx, M.right());
}

}  // namespace tessera::inline TESSERA_ABI
