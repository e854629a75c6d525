#include <peer_sparse.hpp>

#include <Eigen/SparseCore>

#ifdef TESSERA_BENCH_GRAPHBLAS
#include <graphblas.hpp>
#include <memory>
#endif

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

#ifdef TESSERA_BENCH_GRAPHBLAS
namespace {
struct Product {
  GraphMatrix A, X, Y;
};
std::unique_ptr<Product> product;
}  // namespace

void make_graphblas(std::ptrdiff_t m, std::ptrdiff_t k, const std::int32_t* row_ptr, const std::int32_t* col_idx,
                    const float* values, std::ptrdiff_t n) {
  use_graphblas(1);
  const auto rows = static_cast<GrB_Index>(m), inner = static_cast<GrB_Index>(k), columns = static_cast<GrB_Index>(n);
  product.reset(new Product{{GrB_FP32, rows, inner}, {GrB_FP32, inner, columns}, {GrB_FP32, rows, columns}});
  const Places places(m, row_ptr, col_idx);
  check(GrB_Matrix_build_FP32(product->A.of, places.row.data(), places.col.data(), values, places.row.size(),
                              GrB_PLUS_FP32));
  check(GrB_Matrix_assign_FP32(product->X.of, nullptr, nullptr, 0.5f, GrB_ALL, inner, GrB_ALL, columns, nullptr));
  check(GrB_Matrix_wait(product->X.of, GrB_MATERIALIZE));
}
void graphblas_sparse() {
  check(GrB_mxm(product->Y.of, nullptr, nullptr, GrB_PLUS_TIMES_SEMIRING_FP32, product->A.of, product->X.of, nullptr));
  check(GrB_Matrix_wait(product->Y.of, GrB_MATERIALIZE));
}
#endif

}  // namespace peers
