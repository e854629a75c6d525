#include <Eigen/Core>
#include <cstddef>

namespace peers {

/// y (m,n) = w (m,k) row-major * x (k,n), columns one after another: the f32 product that quantization replaces.
void eigen_product(const float* w, const float* x, float* y, std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t k) {
  const Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>> W(w, m, k);
  if (n == 1)
    Eigen::Map<Eigen::VectorXf>(y, m).noalias() = W * Eigen::Map<const Eigen::VectorXf>(x, k);
  else
    Eigen::Map<Eigen::MatrixXf>(y, m, n).noalias() = W * Eigen::Map<const Eigen::MatrixXf>(x, k, n);
}

}  // namespace peers
