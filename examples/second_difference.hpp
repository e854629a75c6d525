// The matrix type of 02_own_matrix.cpp, in a header so that tests/matrix/laws_own_matrix_test.cpp can hold it to the
// laws that every type of the library keeps.
#pragma once

#include <string_view>

#include <tessera/expr/expr.hpp>
#include <tessera/expr/properties.hpp>

/// The second difference on n points, 2 on the diagonal and -1 beside it: no memory at all.
class SecondDifference : public tessera::OperatorBase<SecondDifference> {
 public:
  using Scalar = double;
  static constexpr std::string_view type_name = "SecondDifference";
  static constexpr auto properties = tessera::Property::psd;  // solve() takes conjugate gradients

  explicit SecondDifference(tessera::Index n) : n_(n) {}
  tessera::Index rows() const { return n_; }
  tessera::Index cols() const { return n_; }

  /// Y (n,m) = alpha * A * X (n,m) + beta * Y. A is symmetric, so op changes nothing.
  void apply(tessera::Context& ctx, tessera::Op op, double alpha, tessera::MatrixView<const double> X, double beta,
             tessera::MatrixView<double> Y) const {
    if (tessera::only_scales(ctx, *this, op, alpha, X, beta, Y)) return;  // alpha == 0; also checks the shapes
    tessera::for_each_chunk(ctx, n_, 4096, [&](tessera::Context&, tessera::Index begin, tessera::Index end) {
      for (tessera::Index j = 0; j < X.cols(); ++j)
        for (tessera::Index i = begin; i < end; ++i) {
          const double sum = 2 * X(i, j) - (i > 0 ? X(i - 1, j) : 0) - (i + 1 < n_ ? X(i + 1, j) : 0);
          Y(i, j) = alpha * sum + (beta == 0 ? 0 : beta * Y(i, j));
        }
    });
  }
  template <class F>
  void for_each_buffer(F&&) const {}  // reads no memory of its own

  // Optional: what associating products and explain() go by.
  double flops(tessera::Index m) const { return 3.0 * static_cast<double>(n_ * m); }

 private:
  tessera::Index n_;
};
