/// Sums of Kronecker products whose terms are multiplied together, and the same in training: two operators of one's
/// own.
#pragma once

#include <algorithm>
#include <span>
#include <string_view>
#include <tessera/expr/expr.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/matrix/dense.hpp>
#include <tessera/project/kronecker.hpp>

#include "model.hpp"

namespace lm {

using tessera::Context;
using tessera::Op;

/// Σ_r A_r ⊗ B_r with A_r (m1,n1), B_r (m2,n2). Of x as (n1,n2) all x B_rᵀ are one product, T (n1, terms, m2), and
/// Σ_r A_r (x B_rᵀ) another: two of a useful size where a sum of terms has two tiny ones a term.
/// 2·terms·n1·m2·(n2 + m1) flops a column.
class StackedKronecker : public tessera::OperatorBase<StackedKronecker> {
 public:
  using Scalar = float;
  static constexpr std::string_view type_name = "StackedKronecker";

  StackedKronecker(Index m1, Index n1, Index m2, Index n2, Index terms)
      : m1_(m1), n1_(n1), m2_(m2), n2_(n2), terms_(terms), left_(m1 * n1 * terms), right_(terms * m2 * n2) {}
  Index rows() const { return m1_ * m2_; }
  Index cols() const { return n1_ * n2_; }
  /// (m1, n1, terms): A_r(i, j) at (i, j, r).
  Buffer<float>& left() { return left_; }
  /// (terms, m2, n2)
  Buffer<float>& right() { return right_; }
  std::size_t bytes() const { return left_.bytes() + right_.bytes(); }
  double flops(Index n) const { return 2.0 * static_cast<double>(terms_ * n1_ * m2_ * (n2_ + m1_) * n); }

  void apply(Context& ctx, Op op, float alpha, MatrixView<const float> X, float beta, MatrixView<float> Y) const {
    tessera::check_apply(*this, op, X, Y);
    constexpr Index most = 8;  // columns, whose T stays in the second-level cache
    const bool turned = op == Op::transpose;
    const MatrixView<const float> A(left_.data(), m1_, n1_ * terms_), B(right_.data(), terms_ * m2_, n2_);
    tessera::for_each_chunk(ctx, X.cols(), most, [&](Context& worker, Index begin, Index end) {
      tessera::Workspace::Scope scope(worker.workspace);
      const Index n = end - begin, in = X.rows(), out = Y.rows(), between = n1_ * terms_ * m2_;
      float* const x = scope.take<float>(n * in);
      for (Index c = 0; c < n; ++c)
        for (Index k = 0; k < in; ++k) x[c * in + k] = X(k, begin + c);
      float* const T = scope.take<float>(n * between);
      float* const y = scope.take<float>(n * out);
      const auto by_left = [&](Index c) {  // of T (n1·terms, m2)
        const MatrixView<float> t(T + c * between, n1_ * terms_, m2_);
        if (turned)
          tessera::gemm<float>(worker, alpha, A.transposed(), MatrixView<const float>(x + c * in, m1_, m2_), 0.0f, t);
        else
          tessera::gemm<float>(worker, alpha, A, t, 0.0f, MatrixView<float>(y + c * out, m1_, m2_));
      };
      const MatrixView<float> t(T, n * n1_, terms_ * m2_);
      if (turned) {
        for (Index c = 0; c < n; ++c) by_left(c);
        tessera::gemm<float>(worker, 1.0f, t, B, 0.0f, MatrixView<float>(y, n * n1_, n2_));
      } else {
        tessera::gemm<float>(worker, 1.0f, MatrixView<const float>(x, n * n1_, n2_), B.transposed(), 0.0f, t);
        for (Index c = 0; c < n; ++c) by_left(c);
      }
      for (Index c = 0; c < n; ++c)
        for (Index i = 0; i < out; ++i)
          Y(i, begin + c) = beta == 0 ? y[c * out + i] : y[c * out + i] + beta * Y(i, begin + c);
    });
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    f(tessera::ByteRange{left_.begin(), left_.end()});
    f(tessera::ByteRange{right_.begin(), right_.end()});
  }

 private:
  Index m1_, n1_, m2_, n2_, terms_;
  Buffer<float> left_, right_;
};

/// The same while it is trained: with W rearranged so that block (i1, j1) is row i1·n1 + j1, R(W) = U Vᵀ with the
/// terms' factors as columns. Products are those of the dense W, which costs next to nothing beside a batch; the
/// gradient of W, rearranged, is that of U and V.
class KroneckerInTraining : public tessera::OperatorBase<KroneckerInTraining> {
 public:
  using Scalar = float;
  static constexpr std::string_view type_name = "KroneckerInTraining";

  explicit KroneckerInTraining(const tessera::KroneckerSum2<float>& sum) {
    const auto& first = sum.terms().front();
    m1_ = first.factor<0>().rows();
    n1_ = first.factor<0>().cols();
    m2_ = first.factor<1>().rows();
    n2_ = first.factor<1>().cols();
    terms_ = static_cast<Index>(sum.terms().size());
    left_ = Buffer<float>(m1_ * n1_ * terms_);
    right_ = Buffer<float>(m2_ * n2_ * terms_);
    dense_ = Buffer<float>(rows() * cols());
    for (Index r = 0; r < terms_; ++r) {
      const auto A = sum.terms()[static_cast<std::size_t>(r)].factor<0>().view();
      const auto B = sum.terms()[static_cast<std::size_t>(r)].factor<1>().view();
      for (Index i = 0; i < m1_ * n1_; ++i) left_[i * terms_ + r] = A(i / n1_, i % n1_);
      for (Index i = 0; i < m2_ * n2_; ++i) right_[i * terms_ + r] = B(i / n2_, i % n2_);
    }
    changed();
  }
  Index rows() const { return m1_ * m2_; }
  Index cols() const { return n1_ * n2_; }
  std::span<float> left() { return left_; }    // U (m1·n1, terms)
  std::span<float> right() { return right_; }  // V (m2·n2, terms)

  /// W = what U and V say. To be called when they were written.
  void changed() {
    Buffer<float> R(rows() * cols());
    tessera::gemm<float>(tessera::default_context(), 1.0f, U(), V().transposed(), 0.0f,
                         MatrixView<float>(R.data(), m1_ * n1_, m2_ * n2_));
    for_each_entry([&](Index at, Index rearranged) { dense_[at] = R[rearranged]; });
  }
  StackedKronecker stacked() const {
    StackedKronecker made(m1_, n1_, m2_, n2_, terms_);
    std::copy(left_.begin(), left_.end(), made.left().begin());
    for (Index r = 0; r < terms_; ++r)
      for (Index i = 0; i < m2_ * n2_; ++i) made.right()[r * m2_ * n2_ + i] = right_[i * terms_ + r];
    return made;
  }

  void apply(Context& ctx, Op op, float alpha, MatrixView<const float> X, float beta, MatrixView<float> Y) const {
    tessera::DenseView<float>(MatrixView<const float>(dense_.data(), rows(), cols())).apply(ctx, op, alpha, X, beta, Y);
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    for (const auto* b : {&left_, &right_, &dense_}) f(tessera::ByteRange{b->begin(), b->end()});
  }

  Index parameter_count() const { return left_.size() + right_.size(); }
  void grad(Context& ctx, MatrixView<const float> X, MatrixView<const float> dY, float beta,
            std::span<float> dparams) const {
    tessera::detail::check_grad(*this, X, dY, dparams);
    tessera::Workspace::Scope scope(ctx.workspace);
    float* const dW = scope.take<float>(rows() * cols());
    float* const R = scope.take<float>(rows() * cols());
    tessera::gemm<float>(ctx, 1.0f, dY, X.transposed(), 0.0f, MatrixView<float>(dW, rows(), cols()));
    for_each_entry([&](Index at, Index rearranged) { R[rearranged] = dW[at]; });
    const MatrixView<const float> D(R, m1_ * n1_, m2_ * n2_);
    tessera::gemm<float>(ctx, 1.0f, D, V(), beta, MatrixView<float>(dparams.data(), m1_ * n1_, terms_));
    tessera::gemm<float>(ctx, 1.0f, D.transposed(), U(), beta,
                         MatrixView<float>(dparams.data() + left_.size(), m2_ * n2_, terms_));
  }

 private:
  MatrixView<const float> U() const { return {left_.data(), m1_ * n1_, terms_}; }
  MatrixView<const float> V() const { return {right_.data(), m2_ * n2_, terms_}; }
  /// f(where in W, where in R(W)), both row-major.
  template <class F>
  void for_each_entry(F&& f) const {
    for (Index i1 = 0; i1 < m1_; ++i1)
      for (Index i2 = 0; i2 < m2_; ++i2)
        for (Index j1 = 0; j1 < n1_; ++j1)
          for (Index j2 = 0; j2 < n2_; ++j2)
            f(((i1 * m2_ + i2) * n1_ + j1) * n2_ + j2, ((i1 * n1_ + j1) * m2_ + i2) * n2_ + j2);
  }

  Index m1_ = 0, n1_ = 0, m2_ = 0, n2_ = 0, terms_ = 0;
  Buffer<float> left_, right_, dense_;
};

}  // namespace lm
