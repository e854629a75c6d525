#include <peer_gemm.hpp>

#include <Eigen/Core>
#include <array>

#if defined(TESSERA_BENCH_OPENBLAS)
#include <cblas-openblas.h>
#endif

namespace peers {
namespace {

template <class T>
using Rows = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
Eigen::Map<const Rows<T>> in(const T* p, std::ptrdiff_t m, std::ptrdiff_t n) {
  return {p, m, n};
}
template <class T>
Eigen::Map<Rows<T>> out(T* p, std::ptrdiff_t m, std::ptrdiff_t n) {
  return {p, m, n};
}

}  // namespace

void eigen_gemm(const float* a, const float* b, float* c, std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t k) {
  out(c, m, n).noalias() = in(a, m, k) * in(b, k, n);
}
void eigen_gemm(const double* a, const double* b, double* c, std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t k) {
  out(c, m, n).noalias() = in(a, m, k) * in(b, k, n);
}
void eigen_gemm_bt(const float* a, const float* b, float* c, std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t k) {
  out(c, m, n).noalias() = in(a, m, k) * in(b, n, k).transpose();
}
void eigen_gemv(const float* a, const float* x, float* y, std::ptrdiff_t m, std::ptrdiff_t k, bool column_major) {
  Eigen::Map<Eigen::VectorXf> result(y, m);
  const Eigen::Map<const Eigen::VectorXf> vector(x, k);
  if (column_major)
    result.noalias() = Eigen::Map<const Eigen::MatrixXf>(a, m, k) * vector;
  else
    result.noalias() = in(a, m, k) * vector;
}

#if defined(TESSERA_BENCH_OPENBLAS)
const char* openblas_name() {
  openblas_set_num_threads(1);
  return openblas_get_corename();
}
void openblas_gemm(const float* a, const float* b, float* c, std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t k) {
  const auto [M, N, K] = std::array<int, 3>{static_cast<int>(m), static_cast<int>(n), static_cast<int>(k)};
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, M, N, K, 1, a, K, b, N, 0, c, N);
}
void openblas_gemm(const double* a, const double* b, double* c, std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t k) {
  const auto [M, N, K] = std::array<int, 3>{static_cast<int>(m), static_cast<int>(n), static_cast<int>(k)};
  cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, M, N, K, 1, a, K, b, N, 0, c, N);
}
void openblas_gemm_bt(const float* a, const float* b, float* c, std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t k) {
  const auto [M, N, K] = std::array<int, 3>{static_cast<int>(m), static_cast<int>(n), static_cast<int>(k)};
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, M, N, K, 1, a, K, b, K, 0, c, N);
}
void openblas_gemv(const float* a, const float* x, float* y, std::ptrdiff_t m, std::ptrdiff_t k, bool column_major) {
  const auto M = static_cast<int>(m), K = static_cast<int>(k);
  cblas_sgemv(column_major ? CblasColMajor : CblasRowMajor, CblasNoTrans, M, K, 1, a, column_major ? M : K, x, 1, 0, y,
              1);
}
#else
const char* openblas_name() { return ""; }
void openblas_gemm(const float*, const float*, float*, std::ptrdiff_t, std::ptrdiff_t, std::ptrdiff_t) {}
void openblas_gemm(const double*, const double*, double*, std::ptrdiff_t, std::ptrdiff_t, std::ptrdiff_t) {}
void openblas_gemm_bt(const float*, const float*, float*, std::ptrdiff_t, std::ptrdiff_t, std::ptrdiff_t) {}
void openblas_gemv(const float*, const float*, float*, std::ptrdiff_t, std::ptrdiff_t, bool) {}
#endif

}  // namespace peers
