// A scale for each row or for the whole matrix; formats whose products are not of small integers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tessera/matrix/block_circulant.hpp>
#include <tessera/matrix/khatri_rao.hpp>
#include <tessera/matrix/ldu.hpp>
#include <tessera/matrix/quantized_block_circulant.hpp>
#include <tessera/matrix/quantized_khatri_rao.hpp>
#include <tessera/matrix/quantized_rows.hpp>
#include <tessera/matrix/quantized_structures.hpp>
#include <tessera/matrix/quantized_triangular.hpp>
#include <tessera/matrix/triangular.hpp>
#include <type_traits>
#include <utility>
#include <vector>

#include "matrix/quantized_support.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

/// A scale for each row or for all, with minima and without: half a step of error, and lawful products.
template <class F>
void expect_rows(double most_lost, bool range) {
  SCOPED_TRACE(F::name);
  Context ctx;
  auto w = test::random_buffer<float>(50 * 300, 1);
  for (float& v : w) v += range ? 3.0f : 0.0f;
  const MatrixView<const float> W(w.data(), 50, 300);
  const Eigen::Map<const Eigen::Matrix<float, -1, -1, Eigen::RowMajor>> dense(w.data(), 50, 300);
  for (const auto of : {ScaleOf::row, ScaleOf::tensor}) {
    const auto Q = quantize_rows<F>(ctx, W, of, range);
    EXPECT_LT((Q.to_dense() - dense).norm(), most_lost * static_cast<double>(dense.norm()));
    test::expect_products(ctx, Q);
    const Index floats = (of == ScaleOf::row ? 50 : 1) * (range ? 2 : 1);
    EXPECT_EQ(Q.bytes(), static_cast<std::size_t>(64 * 320 * F::bits / 8 + 4 * floats));
  }
}

TEST(QuantizedRows, Lawful) {
  expect_rows<Integers<8>>(0.01, false);
  expect_rows<Integers<4>>(0.05, true);
  expect_rows<FP8_E4M3>(0.04, false);
}

TEST(QuantizedRows, NonFiniteRowsConstantRowsAndMistakes) {
  Context ctx;
  auto w = test::random_buffer<float>(20 * 40, 1);
  w[3 * 40 + 7] = std::numeric_limits<float>::infinity();
  w[5 * 40 + 39] = std::numeric_limits<float>::quiet_NaN();
  for (Index j = 0; j < 40; ++j) w[6 * 40 + j] = 0.25f;
  const MatrixView<const float> W(w.data(), 20, 40);
  const auto Q = quantize_rows<Integers<3>>(ctx, W, ScaleOf::row, true);
  const Eigen::VectorXf y = Q * Eigen::VectorXf(Eigen::VectorXf::Ones(40));
  for (Index i = 0; i < 20; ++i) EXPECT_EQ(std::isfinite(y[i]), i != 3 && i != 5) << i;
  EXPECT_EQ(Q.to_dense().row(6), Eigen::MatrixXf::Constant(1, 40, 0.25f));
  EXPECT_NEAR(y[6], 10, 1e-4);
  for (Index i = 0; i < 20; ++i)
    EXPECT_TRUE(std::isnan(quantize_rows<Integers<3>>(ctx, W, ScaleOf::tensor).to_dense()(i, 0)));
  const auto codes = quantize<Integers<3>>(ctx, W);
  const std::vector<float> scales(19, 1.0f);
  EXPECT_THROW((ScaledRows<Integers<3>>(codes, scales)), shape_error);
  const ScaledRows<Integers<3>> none;
  EXPECT_EQ(none.rows(), 0);
  EXPECT_EQ(quantize_rows<Integers<3>>(ctx, W.slice(0, 0, 0)).cols(), 40);
}

TEST(QuantizedRows, OfNothingAreZeros) {
  Context ctx;
  for (const auto& [m, k] : std::vector<std::pair<Index, Index>>{{0, 5}, {5, 0}, {1, 0}, {0, 0}}) {
    const Eigen::MatrixXf nothing = Eigen::MatrixXf::Zero(m, k);  // no memory, columns that follow each other
    for (const auto of : {ScaleOf::row, ScaleOf::tensor}) {
      const auto Q = quantize_rows<Integers<3>>(ctx, view(nothing), of, true);
      EXPECT_EQ(Q.to_dense(), nothing);
      EXPECT_EQ(Eigen::VectorXf(Q * Eigen::VectorXf(Eigen::VectorXf::Ones(k))), Eigen::VectorXf::Zero(m));
    }
  }
}

template <class F>
void expect_lawful(Index m, Index k) {
  SCOPED_TRACE(F::name);
  Context ctx;
  const auto w = test::random_buffer<float>(m * k, 1);
  test::expect_products(ctx, quantize<F>(ctx, MatrixView<const float>(w.data(), m, k)));
}

TEST(QuantizedNumbers, Lawful) {
  expect_lawful<NVFP4>(50, 300);
  expect_lawful<MXFP8_E4M3>(50, 300);
  expect_lawful<NF4>(50, 300);
  expect_lawful<NF4Double<16>>(20, 1500);
}

/// What is quantized is near what it was made of, applied both ways.
template <class Q, class A>
void expect_near(const Q& quantized, const A& a, float most_lost) {
  const Eigen::MatrixXf D = a.to_dense(), E = to_dense(quantized);
  EXPECT_LT((E - D).norm(), most_lost * D.norm()) << describe(a);
  const Eigen::VectorXf x = Eigen::VectorXf::Random(D.cols()), z = Eigen::VectorXf::Random(D.rows());
  EXPECT_LE((quantized * x - D * x).eval().norm(), 2 * most_lost * D.norm() * x.norm()) << describe(a);
  EXPECT_LE((quantized.transpose() * z - D.transpose() * z).eval().norm(), 2 * most_lost * D.norm() * z.norm());
}

Dense<float> drawn(Index rows, Index cols) {
  return Dense<float>(Eigen::MatrixXf(Eigen::MatrixXf::Random(rows, cols)));
}

TEST(QuantizedStructures, ListsSumsAndDiagonalsPlusLowRank) {
  Context ctx;
  std::vector<Dense<float>> factors;
  for (const Index size : {5, 6, 7}) factors.push_back(drawn(size, size + 1));
  const auto list = kronecker(std::move(factors));
  expect_near(quantize<Integers<8>>(ctx, list), list, 0.03f);
  std::vector<Kronecker<Dense<float>, Dense<float>>> terms;
  for (int i = 0; i < 3; ++i) terms.push_back(kronecker(drawn(6, 5), drawn(7, 9)));
  const auto sum = sum_of(std::move(terms));
  expect_near(quantize<Integers<8>>(ctx, sum), sum, 0.02f);
  const DiagonalPlusLowRank<float> A(Diagonal<float>(test::random_buffer<float>(40, 1)), drawn(40, 6), drawn(40, 6));
  expect_near(quantize<Integers<8>>(ctx, A, Activations::exact), A, 0.02f);
}

TEST(QuantizedStructures, ProductsOfLdu) {
  Context ctx;
  const Eigen::MatrixXf W = drawn(40, 33).to_dense(), low = W.leftCols(5) * W.topRows(5);
  const auto A = ldu_decompose(W), B = ldu_decompose(low, 5);
  expect_near(quantize<Integers<8>>(ctx, A, Activations::exact), A, 0.02f);
  expect_near(quantize<Q8_0>(ctx, B, Activations::exact), B, 0.02f);
  expect_near(quantize<Q8_0>(ctx, Ldu<bf16>(B), Activations::exact), B, 0.02f);
  Loldu<float> adapted(W, 4);
  adapted.alpha() = -2;
  expect_near(quantize<Integers<8>>(ctx, adapted, Activations::exact), adapted, 0.02f);
  const auto Q = quantize<Integers<4>>(ctx, adapted);
  EXPECT_LT(3 * bytes(Q), 2 * bytes(adapted));
}

template <class F, Shape shape>
void expect_triangle(const Dense<float>& W, float most_lost) {
  Context ctx;
  const auto A = triangular<shape>(W.view());
  const auto Q = quantize<F>(ctx, A, Activations::exact);
  expect_near(Q, A, most_lost);
  const Eigen::MatrixXf D = Q.to_dense(), B = Eigen::MatrixXf::Random(A.rows(), 3);
  for (Index i = 0; i < D.rows(); ++i)
    for (Index j = A.is_lower ? i + 1 : 0; j < (A.is_lower ? D.cols() : i); ++j) ASSERT_EQ(D(i, j), 0) << i << ' ' << j;
  EXPECT_EQ(Q.diagonal(), Eigen::VectorXf(D.diagonal()));
  EXPECT_EQ(Q.log_determinant().log_abs == 0, A.is_unit);
  for (const Op op : {Op::none, Op::transpose}) {
    Eigen::MatrixXf X = B;
    Q.solve(ctx, op, view(B), view(X));
    const Eigen::MatrixXf AT = D.transpose(), AX = (op == Op::none ? D : AT) * X;
    EXPECT_LT((AX - B).norm(), 1e-4f * B.norm()) << describe(Q);
  }
}

TEST(QuantizedStructures, TrianglesStayTriangles) {
  Dense<float> W = drawn(300, 300);
  for (Index i = 0; i < 300; ++i)
    for (Index j = 0; j < 300; ++j) W(i, j) = W(i, j) / 64 + (i == j ? 2.0f : 0.0f);
  expect_triangle<Integers<8>, Shape::upper>(W, 0.02f);
  expect_triangle<Q8_0, Shape::unit_lower>(W, 0.02f);
  expect_triangle<IQ4_NL, Shape::lower>(W, 0.1f);     // has no 0
  expect_triangle<Q4_K, Shape::unit_upper>(W, 0.1f);  // blocks of 256 with minima
  const Triangular<bf16, Shape::lower> half(W.view());
  Context ctx;
  const auto Q = quantize<Q8_0>(ctx, half);
  expect_near(Q, half, 0.02f);
  EXPECT_LT(2.5 * static_cast<double>(bytes(Q)), static_cast<double>(bytes(triangular<Shape::lower>(W.view()))));
  EXPECT_EQ((quantize<Q8_0>(ctx, Triangular<float, Shape::upper>())).to_dense().size(), 0);
}

TEST(QuantizedStructures, KhatriRaoAndBlockCirculant) {
  Context ctx;
  const KhatriRao<float> K(drawn(9, 70), drawn(40, 70));
  expect_near(quantize<Integers<8>>(ctx, K), K, 0.02f);
  expect_near(quantize<Q8_0>(ctx, KhatriRao<bf16>(Dense<bf16>(K.left().view()), Dense<bf16>(K.right().view()))), K,
              0.02f);
  Buffer<float> blocks = test::random_buffer<float>(13 * 10 * 7, 4);
  const BlockCirculant<float> B(13, 10, 7, std::move(blocks));
  auto Q = quantize<Q8_0>(ctx, B);
  expect_near(Q, B, 0.02f);
  expect_near(Q.set_method(ConvolutionMethod::fft), B, 0.02f);
  const auto four = quantize<Integers<4>>(ctx, BlockCirculant<float>(B).set_method(ConvolutionMethod::direct));
  expect_near(four, B, 0.15f);
  EXPECT_LT(4 * bytes(four), bytes(B));
  const BlockCirculant<float> none(0, 2, 3, Buffer<float>());
  EXPECT_EQ(quantize<Q8_0>(ctx, none).to_dense().size(), 0);
  EXPECT_LT(quantize<Q8_0>(ctx, K, Calibration::from_gram(Eigen::MatrixXd::Identity(70, 70), 70)).report.weight_error,
            0.02);
}

template <class Q, class A>
constexpr bool same_forms = detail::any_forms<Q> == detail::any_forms<A>;
static_assert(same_forms<QuantizedTriangular<Q8_0, Shape::lower>, Triangular<float, Shape::lower>>);
static_assert(same_forms<QuantizedBlockCirculant<Q8_0>, QuantizedKhatriRao<Q8_0>>);

/// A type of bf16 parameters is what the type of f32 ones is that holds the same numbers.
template <class Half, class Full>
void expect_alike(const Half& half, const Full& full) {
  Context ctx;
  EXPECT_LT(3 * bytes(half), 2 * bytes(full)) << describe(half);
  EXPECT_EQ(Eigen::MatrixXf(half.to_dense()), Eigen::MatrixXf(full.to_dense())) << describe(half);
  const Eigen::MatrixXf X = Eigen::MatrixXf::Random(half.cols(), 3), Z = Eigen::MatrixXf::Random(half.rows(), 3);
  const auto applied = [&](const auto& a, Op op) {
    Eigen::MatrixXf Y = op == Op::none ? Z : X;
    a.apply(ctx, op, 0.5f, view(op == Op::none ? X : Z), -1.0f, view(Y));
    return Y;
  };
  for (const Op op : {Op::none, Op::transpose})
    EXPECT_TRUE(applied(half, op).isApprox(applied(full, op), 1e-5f)) << describe(half);
  std::vector<float> g(static_cast<std::size_t>(half.parameter_count())), exact(g.size());
  half.grad(ctx, view(X), view(Z), 0.0f, g);
  full.grad(ctx, view(X), view(Z), 0.0f, exact);
  for (std::size_t i = 0; i < g.size(); ++i) EXPECT_NEAR(g[i], exact[i], 1e-4) << describe(half);
  if constexpr (Solvable<Half>) {
    if (half.rows() != half.cols()) return;
    Eigen::MatrixXf x = Z, y = Z;
    half.solve(ctx, Op::transpose, view(Z), view(x));
    full.solve(ctx, Op::transpose, view(Z), view(y));
    EXPECT_TRUE(x.isApprox(y, 1e-3f)) << describe(half);
  }
}

TEST(HalfParameters, AreThoseNumbersInF32) {
  const auto drawn = [](Index rows, Index cols) {
    const Dense<bf16> half(Eigen::MatrixXf(Eigen::MatrixXf::Random(rows, cols)));
    return std::pair(half, Dense<float>(half.view()));
  };
  const auto numbers = [](const auto& dense) {
    using T = typename std::remove_cvref_t<decltype(dense)>::Element;
    Buffer<T> all(dense.rows() * dense.cols());
    std::copy(dense.parameters().begin(), dense.parameters().end(), all.data());
    return all;
  };
  const auto [u, u32] = drawn(130, 5);
  const auto [v, v32] = drawn(130, 5);
  const auto [w, w32] = drawn(9, 5);
  const auto [square, square32] = drawn(130, 130);
  expect_alike(KhatriRao<bf16>(u, w), KhatriRao<float>(u32, w32));
  EXPECT_NEAR(KhatriRao<bf16>(u, w).frobenius_norm(), KhatriRao<float>(u32, w32).frobenius_norm(), 1e-4);
  EXPECT_TRUE(KhatriRao<bf16>(u, w).gram().to_dense().isApprox(KhatriRao<float>(u32, w32).gram().to_dense(), 1e-5f));
  expect_alike(BlockCirculant<bf16>(13, 10, 5, numbers(u)), BlockCirculant<float>(13, 10, 5, numbers(u32)));
  Dense<float> dominant(130, 130);  // well conditioned
  for (Index i = 0; i < 130; ++i)
    for (Index j = 0; j < 130; ++j) dominant(i, j) = square32(i, j) / 64 + (i == j ? 2.0f : 0.0f);
  const Dense<bf16> of_solutions(dominant.view());
  const Dense<float> of_solutions32(of_solutions.view());
  expect_alike(Triangular<bf16, Shape::lower>(of_solutions.view()),
               Triangular<float, Shape::lower>(of_solutions32.view()));
  expect_alike(Triangular<bf16, Shape::unit_upper>(of_solutions.view()),
               Triangular<float, Shape::unit_upper>(of_solutions32.view()));
  Buffer<bf16> blocks(4 * 5 * 5);
  for (Index i = 0; i < blocks.size(); ++i)
    blocks[i] = static_cast<bf16>(static_cast<float>(u(i, 0)) / 4 + (i < 25 && i % 6 == 0 ? 2.0f : 0.0f));
  Buffer<float> blocks32(blocks.size());
  std::copy(blocks.begin(), blocks.end(), blocks32.data());
  expect_alike(BlockCirculant<bf16>(4, 5, 5, blocks).set_method(ConvolutionMethod::fft),
               BlockCirculant<float>(4, 5, 5, blocks32).set_method(ConvolutionMethod::fft));
  Buffer<float> twos(130);
  for (float& x : twos) x = 2;
  const Diagonal<float> d(twos);
  expect_alike(DiagonalPlusLowRank<bf16>(d, u, v), DiagonalPlusLowRank<float>(d, u32, v32));
  const auto L = ldu_decompose(of_solutions32.to_dense());
  const Ldu<bf16> half(L);
  expect_alike(half,
               Ldu<float>(half.P(), Dense<float>(half.L().view()), half.d(), Dense<float>(half.U().view()), half.Q()));
  const Eigen::MatrixXf W = square32.to_dense();
  const Loldu<bf16> adapted(W, 4);
  EXPECT_LE((adapted.to_dense() - W).cwiseAbs().maxCoeff(), W.cwiseAbs().maxCoeff() / 16);
}

}  // namespace
}  // namespace tessera
