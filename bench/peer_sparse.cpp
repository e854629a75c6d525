#include <peer_sparse.hpp>

#include <Eigen/SparseCore>

#ifdef TESSERA_BENCH_GRAPHBLAS
#include <graphblas.hpp>
#include <memory>
#endif

namespace peers {

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Compressed = Eigen::Map<const Eigen::SparseMatrix<float, Eigen::RowMajor, std::int32_t>>;

void eigen_sparse(std::ptrdiff_t m, std::ptrdiff_t k, std::ptrdiff_t nnz, const std::int32_t* row_ptr,
                  const std::int32_t* col_idx, const float* values, const float* x, float* y, std::ptrdiff_t n) {
  const Compressed a(m, k, nnz, row_ptr, col_idx, values);
  if (n == 1)
    Eigen::Map<Eigen::VectorXf>(y, m).noalias() = a * Eigen::Map<const Eigen::VectorXf>(x, k);
  else
    Eigen::Map<Rows>(y, m, n).noalias() = a * Eigen::Map<const Rows>(x, k, n);
}

void eigen_sparse_transposed(std::ptrdiff_t m, std::ptrdiff_t k, std::ptrdiff_t nnz, const std::int32_t* row_ptr,
                             const std::int32_t* col_idx, const float* values, const float* x, float* y,
                             std::ptrdiff_t n) {
  const Compressed a(m, k, nnz, row_ptr, col_idx, values);
  if (n == 1)
    Eigen::Map<Eigen::VectorXf>(y, k).noalias() = a.transpose() * Eigen::Map<const Eigen::VectorXf>(x, m);
  else
    Eigen::Map<Rows>(y, k, n).noalias() = a.transpose() * Eigen::Map<const Rows>(x, m, n);
}

void eigen_solve_lower(std::ptrdiff_t m, std::ptrdiff_t nnz, const std::int32_t* row_ptr, const std::int32_t* col_idx,
                       const float* values, float* y, std::ptrdiff_t n) {
  Eigen::Map<Rows> solved(y, m, n);
  Compressed(m, m, nnz, row_ptr, col_idx, values).triangularView<Eigen::Lower>().solveInPlace(solved);
}

void eigen_sddmm(std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t k, const std::int32_t* row_ptr,
                 const std::int32_t* col_idx, const float* x, const float* y, float* out) {
  const Eigen::Map<const Rows> X(x, m, k), Y(y, n, k);
  for (std::ptrdiff_t i = 0; i < m; ++i)
    for (std::int32_t e = row_ptr[i]; e < row_ptr[i + 1]; ++e) out[e] = X.row(i).dot(Y.row(col_idx[e]));
}

void eigen_gemv(std::ptrdiff_t k, std::ptrdiff_t n, const float* w, const float* x, float* y) {
  Eigen::Map<Eigen::VectorXf>(y, n).noalias() =
      Eigen::Map<const Rows>(w, k, n).transpose() * Eigen::Map<const Eigen::VectorXf>(x, k);
}

void gather(const float* x, const std::int32_t* ids, std::ptrdiff_t count, std::ptrdiff_t d, float* y) {
  for (std::ptrdiff_t e = 0; e < count; ++e)
    for (std::ptrdiff_t c = 0; c < d; ++c) y[e * d + c] = x[ids[e] * d + c];
}
void scatter(const float* y, const std::int32_t* ids, std::ptrdiff_t count, std::ptrdiff_t d, float* x) {
  for (std::ptrdiff_t e = 0; e < count; ++e)
    for (std::ptrdiff_t c = 0; c < d; ++c) x[ids[e] * d + c] += y[e * d + c];
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
void graphblas_sparse(bool min_plus) {
  check(GrB_mxm(product->Y.of, nullptr, nullptr, min_plus ? GrB_MIN_PLUS_SEMIRING_FP32 : GrB_PLUS_TIMES_SEMIRING_FP32,
                product->A.of, product->X.of, nullptr));
  check(GrB_Matrix_wait(product->Y.of, GrB_MATERIALIZE));
}
#endif

}  // namespace peers
