#include <gtest/gtest.h>

#include <cmath>
#include <tessera/nn/gdn.hpp>

#include "nn/gradient_check.hpp"
#include "support/oracle.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

using test::random_buffer;

TEST(Gdn, IsItsDefinitionWithItsGradient) {
  Context ctx;
  for (const auto kind : {nn::Gdn::forward, nn::Gdn::inverse})
    for (const Index C : {1, 3, 17}) {
      const Index n = 6;
      auto X = random_buffer<double>(n * C, 1), b = random_buffer<double>(C, 2), g = random_buffer<double>(C * C, 3);
      auto dY = random_buffer<double>(n * C, 4);
      for (auto& v : b) v = 0.3 + std::abs(v);
      for (auto& v : g) v = 0.2 * std::abs(v);
      Buffer<double> Y(n * C), dX(n * C), db(C), dg(C * C);
      const auto matrix = [](Buffer<double>& x, Index rows) {
        return MatrixView<double>(x.data(), rows, x.size() / rows);
      };
      const auto vector = [](Buffer<double>& x) { return VectorView<double>(x.data(), x.size()); };
      const auto loss = [&] {
        nn::gdn<double>(ctx, matrix(X, n), vector(b), matrix(g, C), matrix(Y, n), kind);
        return test::inner(dY, Y);
      };
      loss();
      for (Index t = 0; t < n; ++t)
        for (Index i = 0; i < C; ++i) {
          double s = b[i];
          for (Index j = 0; j < C; ++j) s += g[i * C + j] * X[t * C + j] * X[t * C + j];
          const double factor = kind == nn::Gdn::inverse ? std::sqrt(s) : 1 / std::sqrt(s);
          EXPECT_NEAR(Y[t * C + i], X[t * C + i] * factor, 1e-12);
        }
      const auto backward = [&](double keep) {
        nn::gdn_backward<double>(ctx, matrix(X, n), vector(b), matrix(g, C), matrix(dY, n), matrix(dX, n), keep,
                                 vector(db), matrix(dg, C), kind);
      };
      backward(0);
      test::expect_gradient("X", X, dX, loss);
      test::expect_gradient("beta", b, db, loss);
      test::expect_gradient("gamma", g, dg, loss);
      const double once = dg[0];
      backward(1);
      EXPECT_NEAR(dg[0], 2 * once, 1e-12 * std::abs(once));
    }
}

TEST(Gdn, TakesStridesAndWritesInPlace) {
  Context ctx, threads = Context::with_threads(2);
  const Index n = 300, C = 20;
  auto memory = random_buffer<double>(n * (C + 3), 1);
  const auto g = random_buffer<double>(C * C, 2);
  Buffer<double> positive = g, beta(C), plain(n * C), copy = memory;
  for (auto& v : positive) v = std::abs(v);
  for (auto& v : beta) v = 1;
  const MatrixView<double> X(memory.data(), {n, C}, {C + 3, 1}), turned(copy.data(), {n, C}, {C + 3, 1});
  const MatrixView<double> Y(plain.data(), n, C);
  const VectorView<const double> b(beta.data(), C);
  const MatrixView<const double> gamma(positive.data(), C, C);
  nn::gdn<double>(ctx, X, b, gamma, Y);
  nn::gdn<double>(threads, turned, b, gamma, turned);
  for (Index t = 0; t < n; ++t)
    for (Index i = 0; i < C; ++i) EXPECT_EQ(Y(t, i), turned(t, i));
  EXPECT_EQ(memory[C], copy[C]);  // between the rows nothing changes
  EXPECT_THROW(nn::gdn<double>(ctx, X, b, gamma.slice(0, 0, 3), Y), shape_error);
}

}  // namespace
}  // namespace tessera
