#include <peer_attention.hpp>

#include <Eigen/Core>
#include <cmath>
#include <limits>

namespace peers {
namespace {
using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
}  // namespace

void eigen_attention(const float* q, const float* k, const float* v, float* out, std::ptrdiff_t n, std::ptrdiff_t m,
                     std::ptrdiff_t d, bool causal) {
  const Eigen::Map<const Rows> Q(q, n, d), K(k, m, d), V(v, m, d);
  Eigen::Map<Rows> O(out, n, d);
  const float scale = 1 / std::sqrt(static_cast<float>(d));
  if (n == 1) {
    Eigen::RowVectorXf scores = scale * (K * Q.row(0).transpose()).transpose();
    scores = (scores.array() - scores.maxCoeff()).exp().matrix();
    O.noalias() = scores * V / scores.sum();
    return;
  }
  Rows scores = scale * (Q * K.transpose());
  for (std::ptrdiff_t i = 0; causal && i < n; ++i)
    scores.row(i).tail(n - 1 - i).setConstant(-std::numeric_limits<float>::infinity());
  const Eigen::VectorXf top = scores.rowwise().maxCoeff();
  scores = (scores.colwise() - top).array().exp().matrix();
  const Eigen::VectorXf total = scores.rowwise().sum();
  O.noalias() = scores * V;
  O.array().colwise() /= total.array();
}

}  // namespace peers
