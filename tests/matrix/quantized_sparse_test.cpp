// Pruned weights in int8: what follows their products is what follows dense ones, rounding, stores, and what is
// refused.
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <io/io_test.hpp>
#include <support/amx_emulator.hpp>
#include <support/oracle.hpp>
#include <support/sparse_patterns.hpp>
#include <tessera/compress/n_of_m.hpp>
#include <tessera/matrix/quantized_sparse.hpp>

namespace tessera::test {
namespace TESSERA_TEST_FILE {

Eigen::MatrixXf random_matrix(Index rows, Index cols, std::uint64_t seed) {
  const auto values = random_buffer<float>(rows * cols, seed);
  return Eigen::Map<const Eigen::MatrixXf>(values.data(), rows, cols);
}
template <class T>
Buffer<T> random_bytes(Index size, std::uint64_t seed) {
  Buffer<T> all(size);
  const Philox draws(seed);
  for (Index i = 0; i < size; ++i) all[i] = static_cast<T>(draws.below(static_cast<std::uint64_t>(i), 256));
  return all;
}
/// The largest of each 4×1 block in magnitude decides: half the blocks stay.
Csr<float> pruned_blocks(const Eigen::MatrixXf& W) {
  Mask mask(W.rows(), W.cols(), false);
  for (Index i = 0; i < W.rows(); ++i)
    for (Index j = 0; j < W.cols(); ++j) mask.set(i * W.cols() + j, (i / 4 * 7 + j * 3) % 4 < 2);
  return masked_csr(mask, view(W));
}
template <class A>
Buffer<std::int8_t> dense_codes(const A& W) {
  const Eigen::MatrixXf dense = W.codes().to_dense();
  Buffer<std::int8_t> all(dense.size());
  for (Index i = 0; i < dense.rows(); ++i)
    for (Index j = 0; j < dense.cols(); ++j) all[i * dense.cols() + j] = static_cast<std::int8_t>(dense(i, j));
  return all;
}

/// A layer of bytes: scale, bias, GELU, residual, to int8; the same steps as after the dense product, to the bit.
template <class A>
void expect_as_dense(Context& ctx, const A& W, Index N = 35) {
  const Index M = W.rows(), K = W.cols();
  const auto codes = dense_codes(W);
  const auto x = random_bytes<std::uint8_t>(K * N, 3);
  const auto b = random_buffer<float>(M, 4), r = random_buffer<float>(M * N, 5);
  const VectorView<const float> bias(b.data(), M);
  const MatrixView<const std::int8_t> dense(codes.data(), M, K);
  for (const bool columns : {false, true}) {
    using Strides = MatrixView<float>::Shape;
    const Strides strides = columns ? Strides{1, M} : Strides{N, 1};
    const MatrixView<const std::uint8_t> X(x.data(), {K, N}, columns ? Strides{1, K} : Strides{N, 1});
    const MatrixView<const float> R(r.data(), {M, N}, strides);
    const auto steps = epilogue::scale_per_row(W.scales()) | epilogue::scale(0.01f) | epilogue::bias_per_row(bias) |
                       epilogue::gelu() | epilogue::residual(R) | epilogue::scale(40.0f) | epilogue::requantize(-3);
    Buffer<std::int8_t> ours(M * N), theirs(M * N);
    W.multiply_to(ctx, X, steps, MatrixView<std::int8_t>(ours.data(), {M, N}, strides), 77);
    gemm_to(ctx, 1, dense, X, steps, MatrixView<std::int8_t>(theirs.data(), {M, N}, strides), {.zero_b = 77});
    int apart = 0;
    for (Index i = 0; i < M * N; ++i) {
      ASSERT_EQ(ours[i], theirs[i]) << columns << ' ' << i;
      apart += ours[i] != ours[0];
    }
    EXPECT_GT(apart, M * N / 2);
    const auto relu = epilogue::scale_per_row(W.scales()) | epilogue::relu();
    Buffer<float> f(M * N), g(M * N);
    W.multiply_to(ctx, X, relu, MatrixView<float>(f.data(), {M, N}, strides), 77);
    gemm_to(ctx, 1, dense, X, relu, MatrixView<float>(g.data(), {M, N}, strides), {.zero_b = 77});
    for (Index i = 0; i < M * N; ++i) ASSERT_EQ(f[i], g[i]);
  }
}

TEST(QuantizedSparse, WhatFollowsIsWhatFollowsADenseProduct) {
  Context ctx, threads = Context::with_threads(2);
  const Eigen::MatrixXf W = random_matrix(70, 90, 1);
  expect_as_dense(ctx, pack_block_sparse(pruned_blocks(W), 4));
  expect_as_dense(threads, pack_block_sparse(pruned_blocks(W), 16));
  expect_as_dense(ctx, pack_n_of_m(masked_csr(nm_mask(view(W), 2, 4), view(W)), 2, 4));
  expect_as_dense(ctx, quantize_sparse(pruned_blocks(W)));
  expect_as_dense(ctx, pack_block_sparse(pruned_blocks(W.topRows(20)), 4),
                  530);  // more columns than are packed at once

  // More rows than a thread's piece has.
  const Eigen::MatrixXf tall = random_matrix(600, 40, 7), X = random_matrix(40, 19, 8), Z = random_matrix(600, 2, 9);
  const auto expect_alike = [&](const auto& A) {
    for (const auto mode : {Activations::int8, Activations::exact}) {
      const auto of = A.activations(mode);
      Eigen::MatrixXf y[2] = {Eigen::MatrixXf(600, 19), Eigen::MatrixXf(600, 19)},
                      z[2] = {X.leftCols(2), X.leftCols(2)};
      Context* const contexts[2] = {&ctx, &threads};
      for (const int which : {0, 1}) {
        of.apply(*contexts[which], Op::none, 2, view(X), 0, view(y[which]));
        of.apply(*contexts[which], Op::transpose, 2, view(Z), 1, view(z[which]));
      }
      EXPECT_TRUE(y[0] == y[1] && z[0] == z[1]);
    }
  };
  expect_alike(pack_block_sparse(pruned_blocks(tall), 4));
  expect_alike(pack_n_of_m(masked_csr(nm_mask(view(tall), 2, 4), view(tall)), 2, 4));
  expect_alike(quantize_sparse(pruned_blocks(tall)));
}

TEST(QuantizedSparse, WhatFollowsTilesIsThatToo) {
  const AmxEmulation amx;
  if (!active_isa().has(Isa::amx_int8) || !active_isa().has(Isa::avx512_vnni))
    GTEST_SKIP() << "needs amx_int8 and avx512_vnni";
  Context ctx, threads = Context::with_threads(2);
  for (Context* const context : {&ctx, &threads}) context->force("bsr_int8:amx_int8");
  const Eigen::MatrixXf W = random_matrix(70, 90, 1);
  expect_as_dense(ctx, pack_block_sparse(pruned_blocks(W), 4));
  expect_as_dense(threads, pack_block_sparse(pruned_blocks(W), 16));
  expect_as_dense(ctx, pack_block_sparse(pruned_blocks(W.topRows(20)), 4), 530);

  const auto Q = pack_block_sparse(pruned_blocks(W), 16);
  const Eigen::MatrixXf X = random_matrix(90, 21, 2);
  Eigen::MatrixXf y(70, 21), expected(70, 21);
  Context reference;
  reference.force("bsr_int8:ref");
  Q.apply(ctx, Op::none, 2, view(X), 0, view(y));
  Q.apply(reference, Op::none, 2, view(X), 0, view(expected));
  EXPECT_EQ(y, expected);
}

TEST(QuantizedSparse, RowsAreRoundedToNearest) {
  const Eigen::MatrixXf W = random_matrix(33, 40, 2);
  const auto A = pruned_blocks(W);
  const auto Q = quantize_sparse(A);
  const Eigen::MatrixXf kept = A.to_dense(), rounded = Q.to_dense();
  for (Index i = 0; i < 33; ++i) {
    const float most = kept.row(i).cwiseAbs().maxCoeff();
    EXPECT_FLOAT_EQ(Q.scales()[i], most / 127);
    EXPECT_LE((kept.row(i) - rounded.row(i)).cwiseAbs().maxCoeff(), 0.5001f * most / 127);
  }
  EXPECT_EQ(pack_block_sparse(A, 4).to_dense(), rounded);
  EXPECT_EQ(pack_block_sparse(A, 16).to_dense(), rounded);
  const auto all = pack_n_of_m(A, 4, 4);
  EXPECT_EQ(all.to_dense(), rounded);
  EXPECT_EQ(pack_block_sparse(A, 4).bytes(),  // 1 byte a code, 4 a block and a row
            static_cast<std::size_t>(A.nnz() / 33 * 36 + A.nnz() / 33 * 9 * 4 + 10 * 4 + 33 * 4));

  Csr<float> bad = A;
  bad.values()[0] = std::numeric_limits<float>::infinity();
  const auto marked = pack_block_sparse(bad, 4);
  const Eigen::VectorXf y = marked * Eigen::VectorXf::Ones(40);
  EXPECT_TRUE(std::isnan(y[0]));
  EXPECT_FALSE(std::isnan(y[1]));
}

TEST(QuantizedSparse, ProductsOfFloatsStayWithinTheBound) {
  Context ctx;
  for (const auto& [name, list] : sparse_patterns<float>()) {
    SCOPED_TRACE(name);
    const auto A = csr_from_coo<float>(list);
    const auto plain = quantize_sparse(A);
    EXPECT_EQ(plain.activations(), Activations::exact);
    const auto rows = plain.activations(Activations::int8);
    const auto blocks = pack_block_sparse(A, 4);
    const auto groups = pack_n_of_m(A, 4, 4);
    Eigen::MatrixXf X = random_matrix(A.cols(), 3, 6);
    const Eigen::MatrixXd exact = rows.to_dense().cast<double>() * X.cast<double>();
    const Eigen::MatrixXf y = rows * X;
    EXPECT_EQ(Eigen::MatrixXf(blocks * X), y);
    EXPECT_EQ(Eigen::MatrixXf(groups * X), y);
    const Eigen::MatrixXf z = plain * X, other = blocks.activations(Activations::exact) * X;
    for (Index i = 0; i < A.rows(); ++i)
      for (Index j = 0; j < 3; ++j) {
        const VectorView<const float> x(X.data() + j * A.cols(), A.cols());
        EXPECT_LE(std::abs(static_cast<double>(y(i, j)) - exact(i, j)), rows.error_bound(i, x));
        EXPECT_LE(std::abs(static_cast<double>(z(i, j)) - exact(i, j)), plain.error_bound(i, x));
        EXPECT_LE(std::abs(static_cast<double>(other(i, j)) - exact(i, j)), plain.error_bound(i, x));
      }
    if (X.size() == 0) continue;
    X(0, 1) = std::numeric_limits<float>::quiet_NaN();
    const Eigen::MatrixXf w = blocks * X;
    for (Index i = 0; i < A.rows(); ++i) {
      EXPECT_EQ(w(i, 0), y(i, 0));
      EXPECT_TRUE(std::isnan(w(i, 1)));
      EXPECT_EQ(w(i, 2), y(i, 2));
    }
  }
}

TEST(QuantizedSparse, LargeScalesOverflowOnlyWithTheResult) {
  Eigen::MatrixXf dense = Eigen::MatrixXf::Zero(4, 8);
  dense(0, 0) = dense(0, 4) = 1.27e38f;  // a scale of 1e36
  dense(3, 3) = 1;
  Context ctx;
  const auto W = pack_block_sparse(pruned_blocks(dense), 4);
  const Eigen::VectorXf x = Eigen::VectorXf::Constant(8, 1e-3f);
  Eigen::VectorXf y = Eigen::VectorXf::Ones(4);
  for (const float alpha : {1.0f, 0.25f, 3.0f}) {
    W.apply(ctx, Op::none, alpha, view(x), 0, view(y));
    EXPECT_NEAR(y[0], alpha * 2.54e35f, alpha * 1e31f);
    EXPECT_NEAR(y[3], alpha * 1e-3f, alpha * 1e-8f);
  }
}

TEST(QuantizedSparse, WrongPartsAreRefused) {
  EXPECT_REFUSED(
      masked_csr(Mask(0, (Index{1} << 31) + 1, false), MatrixView<const float>(nullptr, 0, (Index{1} << 31) + 1)),
      format_error, "2147483648 columns after the first do not fit");
  EXPECT_REFUSED(QuantizedSparse<Csr<Int8Code>>(Csr<Int8Code>(3, 4), Buffer<float>(2)), shape_error,
                 "with 2 scales: expected 3");
  EXPECT_REFUSED(QuantizedSparse<Bsr<Int8Code>>(bsr_from_csr(Csr<Int8Code>(3, 4), 4, 2), Buffer<float>(3)),
                 format_error, "Bsr<4x2> 3x4): expected blocks of one column");
  EXPECT_REFUSED(pack_block_sparse(Csr<float>(3, 4), 65), format_error, "blocks of 65x1");
  EXPECT_REFUSED(pack_n_of_m(pruned_blocks(Eigen::MatrixXf::Ones(4, 8)), 1, 4), format_error,
                 "row 0 has 2 nonzeros in group 0; expected 1 of 4");
  const auto W = pack_block_sparse(Csr<float>(3, 4), 4);
  Context ctx;
  Buffer<std::uint8_t> x(20);
  Buffer<float> y(20);
  EXPECT_REFUSED(W.multiply_to(ctx, MatrixView<const std::uint8_t>(x.data(), 5, 2), epilogue::relu(),
                               MatrixView<float>(y.data(), 3, 2)),
                 shape_error, "(3x4) * (5x2)");
  EXPECT_REFUSED(
      W.multiply_to(ctx, MatrixView<const std::uint8_t>(x.data(), 4, 2),
                    epilogue::bias_per_row(VectorView<const float>(y.data(), 4)), MatrixView<float>(y.data(), 3, 2)),
      shape_error, "bias of 4 entries");
}

TEST(QuantizedSparse, RowsWhoseSumsDoNotFitAreRefused) {
  const Index K = most_int8_codes + 1;
  Buffer<std::int32_t> row_ptr(2), col_idx(K);
  Buffer<float> ones(K);
  row_ptr[1] = static_cast<std::int32_t>(K);
  for (Index k = 0; k < K; ++k) {
    col_idx[k] = static_cast<std::int32_t>(k);
    ones[k] = 1;
  }
  const auto W = pack_block_sparse(Csr<float>(1, K, std::move(row_ptr), std::move(col_idx), std::move(ones)), 1);
  const Eigen::VectorXf x = Eigen::VectorXf::Ones(K);
  EXPECT_THROW(Eigen::VectorXf(W * x), unsupported_error);
  EXPECT_NEAR(Eigen::VectorXf(W.activations(Activations::exact) * x)[0], static_cast<float>(K), 1);
}

}  // namespace
}  // namespace tessera::test
