/// Monarch matrices of any order whose blocks are int8 or int4.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include <tessera/matrix/detail/coded_store.hpp>
#include <tessera/matrix/detail/quantized_structure.hpp>
#include <tessera/matrix/monarch_chain.hpp>

namespace tessera::inline TESSERA_ABI {

/// A MonarchChain of quantized blocks, F and its scales as in QuantizedMonarch: rows of blocks are padded to 16, so
/// that axes of 16 and more are worth it. Immutable; copies share the codes.
template <CodedFormat F>
class QuantizedMonarchChain : public detail::QuantizedStructure<QuantizedMonarchChain<F>, F> {
 public:
  QuantizedMonarchChain() = default;
  template <class P>
  QuantizedMonarchChain(Context& ctx, const MonarchChain<P>& M)
      : sizes_(M.sizes().begin(), M.sizes().end()), size_(M.rows()) {
    const P* first = M.parameters().data();
    for (const Index b : sizes_) {
      axes_.emplace_back(ctx, View<const P, 3>(first, {size_ / b, b, b}, {b * b, 1, b}));
      first += size_ * b;
    }
  }

  Index rows() const { return size_; }
  Index cols() const { return size_; }
  std::span<const Index> sizes() const { return sizes_; }

  void apply(Context& ctx, Op op, float alpha, MatrixView<const float> X, float beta, MatrixView<float> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    const Index order = static_cast<Index>(sizes_.size()), n = X.cols();
    const Index most = std::min(n, detail::monarch_columns<float>(2 * size_));
    Workspace::Scope scope(ctx.workspace);
    float* room[2] = {order > 1 ? scope.take<float>(size_ * most) : nullptr,
                      order > 2 ? scope.take<float>(size_ * most) : nullptr};
    for (Index j = 0; j < n; j += most) {
      const Index cols = std::min(most, n - j);
      MatrixView<const float> from = X.slice(1, j, cols);
      for (Index i = 0; i < order; ++i) {
        const bool last = i + 1 == order;
        const MatrixView<float> to = last ? Y.slice(1, j, cols) : MatrixView<float>(room[i % 2], size_, cols);
        if (alpha != 0 || last)
          run_axis(ctx, op == Op::none ? order - 1 - i : i, op, last ? alpha : 1.0f, from, last ? beta : 0.0f, to);
        from = to;
      }
    }
  }
  template <class Visit>
  void for_each_part(Visit&& visit) const {
    for (const auto& axis : axes_) visit(axis);
  }
  double flops(Index n) const {
    double sum = 0;
    for (const Index b : sizes_) sum += static_cast<double>(b);
    return 2.0 * static_cast<double>(size_) * sum * static_cast<double>(n);
  }
  std::string describe() const {
    std::string text = detail::concat("QuantizedMonarchChain<", F::name);
    for (std::size_t i = 0; i < sizes_.size(); ++i) text += detail::concat(i == 0 ? ", " : "x", sizes_[i]);
    return text + "> " + detail::shape_text(size_, size_);
  }
  /// The chain that it stands for.
  MonarchChain<float> dequantized() const {
    MonarchChain<float> M(sizes_);
    float* first = M.parameters().data();
    for (std::size_t i = 0; i < sizes_.size(); ++i) {
      const Index b = sizes_[i];
      axes_[i].decode(View<float, 3>(first, {size_ / b, b, b}, {b * b, 1, b}));
      first += size_ * b;
    }
    return M;
  }

 private:
  /// All blocks of an axis: one run where it is the last one, else one for each position on the axes before it.
  void run_axis(Context& ctx, Index axis, Op op, float alpha, MatrixView<const float> X, float beta,
                MatrixView<float> Y) const {
    const Index b = sizes_[static_cast<std::size_t>(axis)];
    Index inner = 1;
    for (std::size_t i = static_cast<std::size_t>(axis) + 1; i < sizes_.size(); ++i) inner *= sizes_[i];
    const auto& blocks = axes_[static_cast<std::size_t>(axis)].blocks();
    const Index runs = inner == 1 ? 1 : size_ / (b * inner), count = inner == 1 ? size_ / b : inner;
    for (Index r = 0; r < runs; ++r) {
      const auto tensor = [&](const auto& of) {
        const auto part = of.slice(0, r * count * b, count * b);
        const Index row = of.row_stride();
        return View<typename std::remove_cvref_t<decltype(of)>::element_type, 3>(
            part.data(), {count, b, of.cols()},
            {inner == 1 ? b * row : row, inner == 1 ? row : inner * row, of.col_stride()});
      };
      coded_stage(ctx, op, alpha, blocks.some(r * count, count), tensor(X), beta, tensor(Y));
    }
  }

  std::vector<Index> sizes_;
  Index size_ = 0;
  std::vector<detail::CodedStore<F>> axes_;
};

/// M's blocks in int8 or int4, as quantize of a Monarch.
template <CodedFormat F, class P>
requires std::same_as < accum_t<P>,
float > QuantizedMonarchChain<F> quantize(Context& ctx, const MonarchChain<P>& M) {
  return QuantizedMonarchChain<F>(ctx, M);
}

}  // namespace tessera::inline TESSERA_ABI
