// A matrix type of one's own: rows(), cols(), apply and for_each_buffer make it an operator like any other.
#include <Eigen/IterativeLinearSolvers>
#include <cstdio>

#include <tessera/matrix/eigen_adaptor.hpp>
#include <tessera/matrix/identity.hpp>

/// The second difference on n points, 2 on the diagonal and -1 beside it: no memory at all.
class SecondDifference : public tessera::OperatorBase<SecondDifference> {
 public:
  using Scalar = double;
  static constexpr std::string_view type_name = "SecondDifference";

  explicit SecondDifference(tessera::Index n) : n_(n) {}
  tessera::Index rows() const { return n_; }
  tessera::Index cols() const { return n_; }

  /// Y (n,m) = alpha * A * X (n,m) + beta * Y. A is symmetric, so op changes nothing; beta == 0 never reads Y.
  void apply(tessera::Context& ctx, tessera::Op op, double alpha, tessera::MatrixView<const double> X, double beta,
             tessera::MatrixView<double> Y) const {
    tessera::check_apply(*this, op, X, Y);
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

int main() {
  const tessera::Index n = 100;
  const SecondDifference A(n);
  const Eigen::VectorXd b = Eigen::VectorXd::LinSpaced(n, -1, 1);

  // In expressions, with every other operator and Eigen.
  const Eigen::VectorXd smooth = b - 0.25 * (A * b);
  const Eigen::VectorXd sharp = (tessera::identity<double>(n) + 0.25 * A) * b;
  if (!(smooth + sharp).isApprox(2 * b)) return 1;

  // In Eigen's iterative solvers, without a matrix.
  Eigen::ConjugateGradient<tessera::EigenOperator<SecondDifference>, Eigen::Lower | Eigen::Upper,
                           Eigen::IdentityPreconditioner>
      cg;
  const auto matrix_free = tessera::as_eigen(A);
  cg.compute(matrix_free);
  const Eigen::VectorXd x = cg.solve(b);
  const Eigen::VectorXd residual = A * x - b;
  std::printf("solved %s in %d steps, residual %.1e\n", tessera::describe(A).c_str(), static_cast<int>(cg.iterations()),
              residual.norm());
  return residual.norm() <= 1e-9 ? 0 : 1;
}
