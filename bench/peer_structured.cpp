#include <peer_structured.hpp>

#include <Eigen/Core>

namespace peers {
namespace {
using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
Eigen::Map<const Rows> in(const float* p, std::ptrdiff_t m, std::ptrdiff_t n) { return {p, m, n}; }
Eigen::Map<Rows> out(float* p, std::ptrdiff_t m, std::ptrdiff_t n) { return {p, m, n}; }
}  // namespace

void eigen_dense(const float* a, const float* x, float* y, std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t k) {
  if (n == 1)
    Eigen::Map<Eigen::VectorXf>(y, m).noalias() = in(a, m, k) * Eigen::Map<const Eigen::VectorXf>(x, k);
  else
    out(y, m, n).noalias() = in(a, m, k) * in(x, k, n);
}

void eigen_low_rank(const float* u, const float* v, const float* x, float* y, std::ptrdiff_t m, std::ptrdiff_t n,
                    std::ptrdiff_t k, std::ptrdiff_t r) {
  if (n == 1) {
    const Eigen::VectorXf t = in(v, k, r).transpose() * Eigen::Map<const Eigen::VectorXf>(x, k);
    Eigen::Map<Eigen::VectorXf>(y, m).noalias() = in(u, m, r) * t;
  } else {
    const Rows t = in(v, k, r).transpose() * in(x, k, n);
    out(y, m, n).noalias() = in(u, m, r) * t;
  }
}

void eigen_batched(const float* a, const float* b, float* c, std::ptrdiff_t count, std::ptrdiff_t n) {
  for (std::ptrdiff_t i = 0; i < count; ++i) {
    const std::ptrdiff_t at = i * n * n;
    out(c + at, n, n).noalias() = in(a + at, n, n).lazyProduct(in(b + at, n, n));
  }
}

}  // namespace peers
