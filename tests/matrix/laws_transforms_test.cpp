// Matrices of shifted sequences, and transforms.
#include <Eigen/LU>
#include <Eigen/SVD>
#include <concepts>
#include <vector>

#include <support/operator_laws.hpp>
#include <tessera/expr/inverse.hpp>
#include <tessera/matrix/circulant.hpp>
#include <tessera/matrix/dft.hpp>
#include <tessera/matrix/hadamard.hpp>
#include <tessera/methods/vsa.hpp>

namespace tessera::test {

/// FFTs spread rounding over all of a result.
template <class A>
struct FftTruth {
  using S = scalar_of<A>;
  static Eigen::MatrixXd value(const A& a) { return to_dense(a).template cast<double>(); }
  static Eigen::MatrixXd magnitude(const A& a) { return value(a).cwiseAbs(); }
  static double roundings(const A& a, Op op) { return static_cast<double>(op == Op::none ? a.cols() : a.rows()) + 9; }
  static double extra(const A& a, Op, Index, VectorView<const S> x) {
    double size = 0, most = std::sqrt(2.0);  // of a transform's entries, times the root of its size
    for (Index i = 0; i < x.extent(0); ++i) size += std::abs(static_cast<double>(x[i]));
    if constexpr (requires { a.sequence(); })
      for (const S v : a.sequence()) most = std::max(most, std::abs(static_cast<double>(v)));
    if constexpr (requires { a.column(); })
      for (const S v : a.column()) most = std::max(most, std::abs(static_cast<double>(v)));
    return gamma<S>(8 * std::log2(static_cast<double>(a.rows() + a.cols()) + 2)) * most * size;
  }
};
template <class S>
struct Truth<Toeplitz<S>> : FftTruth<Toeplitz<S>> {};
template <class S>
struct Truth<Hankel<S>> : FftTruth<Hankel<S>> {};
template <class S>
struct Truth<Circulant<S>> : FftTruth<Circulant<S>> {};
template <class S>
struct Truth<Dft<S>> : FftTruth<Dft<S>> {};
template <class S>
struct Truth<Dct<S>> : FftTruth<Dct<S>> {};
template <class S>
struct Truth<VsaRole<S>> {  // two transforms: rounding scales with norms
  using A = VsaRole<S>;
  static Eigen::MatrixXd value(const A& a) { return to_dense(a).template cast<double>(); }
  static Eigen::MatrixXd magnitude(const A& a) { return Eigen::MatrixXd::Ones(a.rows(), a.rows()); }
  static double roundings(const A& a, Op) { return 4 * std::log2(static_cast<double>(a.rows()) + 1) + 12; }
  static double extra(const A&, Op, Index, VectorView<const S>) { return 0; }
};

namespace TESSERA_TEST_FILE {

template <class S>
struct HadamardCase {
  using Operator = Hadamard<S>;
  static std::vector<Operator> samples() { return {Operator(1), Operator(2), Operator(16), Operator(128)}; }
};
template <class S>
struct RoleCase {
  using Operator = VsaRole<S>;
  static std::vector<Operator> samples() {
    return {Operator(1, "a"), Operator(2, "b"), Operator(16, "c"), Operator(64, "d", 7)};
  }
};
template <class A>
struct ShiftedCase {
  using Operator = A;
  using S = scalar_of<A>;
  static std::vector<Operator> samples() {
    std::vector<Operator> all;
    for (const auto& [m, n] : std::vector<std::pair<Index, Index>>{{1, 1}, {20, 13}, {9, 40}, {64, 64}})
      all.emplace_back(m, n, random_buffer<S>(m + n - 1, 61));
    all.emplace_back(0, 3, Buffer<S>());
    for (std::size_t i = 1; i < 3; ++i) all.push_back(Operator(all[i]).set_method(ConvolutionMethod::fft));
    return all;
  }
};
template <class S>
struct CirculantCase {
  using Operator = Circulant<S>;
  static std::vector<Operator> samples() {
    std::vector<Operator> all;
    for (const Index n : {0, 1, 2, 12, 31}) {
      auto c = random_buffer<S>(n, 62);
      if (n > 0) c[0] += S(12);  // well conditioned
      all.emplace_back(std::move(c));
    }
    all.push_back(Operator(all[3]).set_method(ConvolutionMethod::fft));
    return all;
  }
};
template <class S>
struct BlockCirculantCase {
  using Operator = BlockCirculant<S>;
  static std::vector<Operator> samples() {
    return {Operator(4, 3, 5, random_buffer<S>(60, 63)), Operator(1, 2, 2, random_buffer<S>(4, 64)),
            Operator(0, 2, 3, Buffer<S>()), Operator(3, 8, 1, random_buffer<S>(24, 65))};
  }
};
template <class A>
struct TransformCase {
  using Operator = A;
  static std::vector<Operator> samples() { return {Operator(1), Operator(2), Operator(16), Operator(21)}; }
};

using TransformTypes =
    ::testing::Types<RoleCase<float>, RoleCase<double>, HadamardCase<float>, HadamardCase<double>,
                     ShiftedCase<Toeplitz<float>>, ShiftedCase<Toeplitz<double>>, ShiftedCase<Hankel<float>>,
                     ShiftedCase<Hankel<double>>, CirculantCase<float>, CirculantCase<double>,
                     BlockCirculantCase<float>, BlockCirculantCase<double>, TransformCase<Dft<float>>,
                     TransformCase<Dft<double>>, TransformCase<Dct<float>>, TransformCase<Dct<double>>>;
const bool transforms_laws = OperatorLaws<TransformTypes>::of("Transforms");

TEST(Hadamard, IsItsOwnInverse) {
  const auto H = hadamard<double>(8);
  static_assert(std::same_as<decltype(H * H), Identity<double>>);
  static_assert(std::same_as<decltype(inverse(H)), Hadamard<double>>);
  static_assert(std::same_as<decltype(H.transpose()), Hadamard<double>>);
  EXPECT_THROW(hadamard<float>(12), shape_error);
  for (const Index n : {1, 2, 4, 32}) {
    const Eigen::MatrixXd D = hadamard<double>(n).to_dense();
    EXPECT_NEAR(D.determinant(), hadamard<double>(n).log_determinant().determinant(), 1e-12);
    EXPECT_NEAR(D.trace(), hadamard<double>(n).diagonal_sum(), 1e-12);
    EXPECT_NEAR(D.norm(), hadamard<double>(n).frobenius_norm(), 1e-12);
    EXPECT_NEAR(hadamard<double>(n).eigenvalues().sum(), D.trace(), 1e-12);
  }
}

TEST(Circulant, IsAnAlgebra) {
  const auto all = CirculantCase<double>::samples();
  for (std::size_t i = 1; i < 5; ++i) {
    const auto& C = all[i];
    const Circulant<double> D(random_buffer<double>(C.rows(), 70));
    const Eigen::MatrixXd c = C.to_dense(), d = D.to_dense();
    static_assert(std::same_as<decltype(C * D), Circulant<double>>);
    static_assert(std::same_as<decltype(C + D), Circulant<double>>);
    static_assert(std::same_as<decltype(C.transpose()), Circulant<double>>);
    static_assert(std::same_as<decltype(inverse(C)), Circulant<double>>);
    EXPECT_TRUE((C * D).to_dense().isApprox(c * d, 1e-12));
    EXPECT_TRUE((C + D).to_dense().isApprox(c + d, 1e-14));
    EXPECT_EQ(C.transpose().to_dense(), Eigen::MatrixXd(c.transpose()));
    EXPECT_TRUE(inverse(C).to_dense().isApprox(c.inverse(), 1e-12));
    const auto root = square_root(C);
    EXPECT_TRUE((root * root).to_dense().isApprox(c, 1e-12));
    EXPECT_NEAR(C.log_determinant().log_abs, std::log(std::abs(c.determinant())), 1e-10);
    EXPECT_EQ(C.log_determinant().sign, c.determinant() < 0 ? -1 : 1);
    EXPECT_EQ(D.log_determinant().sign, d.determinant() < 0 ? -1 : 1);
    EXPECT_NEAR(C.frobenius_norm(), c.norm(), 1e-12 * c.norm());
    EXPECT_NEAR(C.diagonal_sum(), c.trace(), 1e-12 * c.norm());
    EXPECT_TRUE(D.singular_values().isApprox(Eigen::JacobiSVD<Eigen::MatrixXd>(d).singularValues(), 1e-10));
    Eigen::MatrixXd power = Eigen::MatrixXd::Identity(d.rows(), d.rows()), sum = power;
    for (int k = 1; k < 60; ++k) sum += (power = Eigen::MatrixXd(power * d / k));
    EXPECT_TRUE(exponential(D).to_dense().isApprox(sum, 1e-9));
  }
}

TEST(ShiftedSequences, ClosedFormsAndRefusals) {
  for (const auto& T : ShiftedCase<Toeplitz<double>>::samples())
    EXPECT_NEAR(T.frobenius_norm(), T.to_dense().norm(), 1e-12 * (1 + T.frobenius_norm()));
  for (const auto& H : ShiftedCase<Hankel<double>>::samples())
    EXPECT_NEAR(H.frobenius_norm(), H.to_dense().norm(), 1e-12 * (1 + H.frobenius_norm()));
  EXPECT_THROW(Toeplitz<float>(3, 4, Buffer<float>(7)), shape_error);
  EXPECT_THROW(BlockCirculant<float>(3, 4, 2, Buffer<float>(7)), shape_error);
  EXPECT_THROW(Dft<float>(0), shape_error);
}

}  // namespace
}  // namespace tessera::test
