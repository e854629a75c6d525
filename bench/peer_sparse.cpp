#include <peer_sparse.hpp>

#include <Eigen/SparseCore>

namespace peers {

void eigen_sparse(std::ptrdiff_t m, std::ptrdiff_t k, std::ptrdiff_t nnz, const std::int32_t* row_ptr,
                  const std::int32_t* col_idx, const float* values, const float* x, float* y, std::ptrdiff_t n) {
  using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Eigen::Map<const Eigen::SparseMatrix<float, Eigen::RowMajor, std::int32_t>> a(m, k, nnz, row_ptr, col_idx,
                                                                                      values);
  if (n == 1)
    Eigen::Map<Eigen::VectorXf>(y, m).noalias() = a * Eigen::Map<const Eigen::VectorXf>(x, k);
  else
    Eigen::Map<Rows>(y, m, n).noalias() = a * Eigen::Map<const Rows>(x, k, n);
}

}  // namespace peers
