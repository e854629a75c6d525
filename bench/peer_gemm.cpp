#include <peer_gemm.hpp>

#include <Eigen/Core>
#include <array>
#include <string>

#if defined(TESSERA_BENCH_OPENBLAS)
#include <cblas-openblas.h>
#endif

#if defined(TESSERA_BENCH_ONEDNN)
#include <dnnl.hpp>
#include <map>
#endif

#if defined(TESSERA_BENCH_LIBXSMM)
#include <libxsmm.h>
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

namespace {

template <int N, class T>
void fixed(const T* a, const T* b, T* c, std::ptrdiff_t count) {
  using M = Eigen::Matrix<T, N, N, Eigen::RowMajor>;
  for (std::ptrdiff_t i = 0; i < count; ++i, a += N * N, b += N * N, c += N * N)
    Eigen::Map<M>(c).noalias() = Eigen::Map<const M>(a) * Eigen::Map<const M>(b);
}
template <class T>
void batched(const T* a, const T* b, T* c, std::ptrdiff_t count, std::ptrdiff_t n) {
  if (n == 4) return fixed<4>(a, b, c, count);
  if (n == 8) return fixed<8>(a, b, c, count);
  if (n == 16) return fixed<16>(a, b, c, count);
  for (std::ptrdiff_t i = 0; i < count; ++i, a += n * n, b += n * n, c += n * n) eigen_gemm(a, b, c, n, n, n);
}

}  // namespace

void eigen_batched(const float* a, const float* b, float* c, std::ptrdiff_t count, std::ptrdiff_t n) {
  batched(a, b, c, count, n);
}
void eigen_batched(const double* a, const double* b, double* c, std::ptrdiff_t count, std::ptrdiff_t n) {
  batched(a, b, c, count, n);
}

#if defined(TESSERA_BENCH_LIBXSMM)
const char* libxsmm_name() {
  static const std::string name = std::string(LIBXSMM_VERSION) + " " + libxsmm_get_target_arch();
  return name.c_str();
}
namespace {

// Its matrices are columns first: the product is that of the transposed.
template <class T, class Kernel>
void each(Kernel kernel, const T* a, const T* b, T* c, std::ptrdiff_t count, std::ptrdiff_t size) {
  for (std::ptrdiff_t i = 0; i < count; ++i, a += size, b += size, c += size) kernel(b, a, c);
}

}  // namespace

void libxsmm_batched(const float* a, const float* b, float* c, std::ptrdiff_t count, std::ptrdiff_t n) {
  const auto size = static_cast<libxsmm_blasint>(n);
  const float one = 1, zero = 0;
  each(libxsmm_smmdispatch(size, size, size, nullptr, nullptr, nullptr, &one, &zero, nullptr, nullptr), a, b, c, count,
       n * n);
}
void libxsmm_batched(const double* a, const double* b, double* c, std::ptrdiff_t count, std::ptrdiff_t n) {
  const auto size = static_cast<libxsmm_blasint>(n);
  const double one = 1, zero = 0;
  each(libxsmm_dmmdispatch(size, size, size, nullptr, nullptr, nullptr, &one, &zero, nullptr, nullptr), a, b, c, count,
       n * n);
}
#else
const char* libxsmm_name() { return ""; }
void libxsmm_batched(const float*, const float*, float*, std::ptrdiff_t, std::ptrdiff_t) {}
void libxsmm_batched(const double*, const double*, double*, std::ptrdiff_t, std::ptrdiff_t) {}
#endif

#if defined(TESSERA_BENCH_ONEDNN)
const char* onednn_name() {
  static const std::string name = std::to_string(dnnl_version()->major) + "." + std::to_string(dnnl_version()->minor);
  return name.c_str();
}
void onednn_gemm(const float* a, const float* b, float* c, std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t k) {
  dnnl_sgemm('N', 'N', m, n, k, 1, a, k, b, n, 0, c, n);
}
void onednn_gemm(const std::int8_t* a, const std::int8_t* b, std::int32_t* c, std::ptrdiff_t m, std::ptrdiff_t n,
                 std::ptrdiff_t k) {
  const std::int32_t zero = 0;
  dnnl_gemm_s8s8s32('N', 'N', 'F', m, n, k, 1, a, k, 0, b, n, 0, 0, c, n, &zero);
}
void onednn_gemm(const std::uint8_t* a, const std::int8_t* b, std::int32_t* c, std::ptrdiff_t m, std::ptrdiff_t n,
                 std::ptrdiff_t k) {
  const std::int32_t zero = 0;
  dnnl_gemm_u8s8s32('N', 'N', 'F', m, n, k, 1, a, k, 0, b, n, 0, 0, c, n, &zero);
}
void onednn_gemm(const std::uint16_t* a, const std::uint16_t* b, float* c, std::ptrdiff_t m, std::ptrdiff_t n,
                 std::ptrdiff_t k) {
  using namespace dnnl;
  static const engine cpu(engine::kind::cpu, 0);
  static stream queue(cpu);
  using Tag = memory::format_tag;
  using Type = memory::data_type;
  const memory::desc A({m, k}, Type::bf16, Tag::ab), B({k, n}, Type::bf16, Tag::ab), C({m, n}, Type::f32, Tag::ab);
  static std::map<std::array<std::ptrdiff_t, 3>, matmul> made;
  auto& product = made[{m, n, k}];
  if (!product) product = matmul(matmul::primitive_desc(matmul::desc(A, B, C), cpu));
  product.execute(queue, {{DNNL_ARG_SRC, memory(A, cpu, const_cast<std::uint16_t*>(a))},
                          {DNNL_ARG_WEIGHTS, memory(B, cpu, const_cast<std::uint16_t*>(b))},
                          {DNNL_ARG_DST, memory(C, cpu, c)}});
  queue.wait();
}
#else
const char* onednn_name() { return ""; }
void onednn_gemm(const float*, const float*, float*, std::ptrdiff_t, std::ptrdiff_t, std::ptrdiff_t) {}
void onednn_gemm(const std::int8_t*, const std::int8_t*, std::int32_t*, std::ptrdiff_t, std::ptrdiff_t,
                 std::ptrdiff_t) {}
void onednn_gemm(const std::uint8_t*, const std::int8_t*, std::int32_t*, std::ptrdiff_t, std::ptrdiff_t,
                 std::ptrdiff_t) {}
void onednn_gemm(const std::uint16_t*, const std::uint16_t*, float*, std::ptrdiff_t, std::ptrdiff_t, std::ptrdiff_t) {}
#endif

}  // namespace peers
