// Operators in expressions: dense, low-rank, diagonal and permuted matrices among Eigen's objects.
#include <cstdio>
#include <iostream>

#include <tessera/matrix/dense.hpp>
#include <tessera/matrix/low_rank.hpp>
#include <tessera/matrix/permutation.hpp>

int main() {
  using namespace tessera;
  const Eigen::Index n = 512, d = 64, r = 8;
  const Eigen::MatrixXf q = Eigen::MatrixXf::Random(n, d), k = Eigen::MatrixXf::Random(n, d);
  const Eigen::MatrixXf U = Eigen::MatrixXf::Random(n, r), V = Eigen::MatrixXf::Random(n, r);
  const Eigen::VectorXf x = Eigen::VectorXf::Random(n);
  const DenseView Q(view(q)), K(view(k));  // operators over Eigen's own memory

  // Written as mathematics; no n x n matrix is ever formed, and nothing is copied.
  Eigen::VectorXf y = Q * (K.transpose() * x) + low_rank(U, V) * x;
  const Eigen::VectorXf expected = q * (k.transpose() * x) + U * (V.transpose() * x);
  if (!y.isApprox(expected, 1e-4f)) return 1;

  // What runs, what was passed over and why.
  std::cout << explain(Q * (K.transpose() * x) + low_rank(U, V) * x);

  // +=, -=, parts of matrices, and y on both sides.
  const Eigen::VectorXf before = y;
  y += 0.5f * (Q * (K.transpose() * y));
  if (!y.isApprox(before + 0.5f * (q * (k.transpose() * before)), 1e-4f)) return 1;

  // Rules know types: a diagonal times a low-rank matrix is of low rank, a permutation's transpose is its inverse.
  const auto scaled = diagonal(x) * low_rank(U, V);
  static_assert(std::same_as<decltype(scaled), const LowRank<Dense<float>, DenseView<float>>>);
  std::printf("%s holds %zu bytes, dense it would be %zu\n", describe(scaled).c_str(), scaled.bytes(),
              sizeof(float) * n * n);

  // Mistakes say what would be right.
  try {
    y = Q * x;
  } catch (const shape_error& e) {
    std::puts(e.what());
    return 0;
  }
  return 1;
}
