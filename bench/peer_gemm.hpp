/// The same products by other libraries. Row-major throughout; one thread.
#pragma once

#include <cstddef>
#include <cstdint>

namespace peers {

void eigen_gemm(const float* a, const float* b, float* c, std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t k);
void eigen_gemm(const double* a, const double* b, double* c, std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t k);
/// c = a * transpose(b), b (n,k)
void eigen_gemm_bt(const float* a, const float* b, float* c, std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t k);
void eigen_gemv(const float* a, const float* x, float* y, std::ptrdiff_t m, std::ptrdiff_t k, bool column_major);

/// Empty where OpenBLAS is not linked in; else the name of its chosen kernels.
const char* openblas_name();
void openblas_gemm(const float* a, const float* b, float* c, std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t k);
void openblas_gemm(const double* a, const double* b, double* c, std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t k);
void openblas_gemm_bt(const float* a, const float* b, float* c, std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t k);
void openblas_gemv(const float* a, const float* x, float* y, std::ptrdiff_t m, std::ptrdiff_t k, bool column_major);

/// Empty where oneDNN is not linked in; else its version.
const char* onednn_name();
void onednn_gemm(const float* a, const float* b, float* c, std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t k);
void onednn_gemm(const std::int8_t* a, const std::int8_t* b, std::int32_t* c, std::ptrdiff_t m, std::ptrdiff_t n,
                 std::ptrdiff_t k);
void onednn_gemm(const std::uint8_t* a, const std::int8_t* b, std::int32_t* c, std::ptrdiff_t m, std::ptrdiff_t n,
                 std::ptrdiff_t k);
/// bf16 as its bits.
void onednn_gemm(const std::uint16_t* a, const std::uint16_t* b, float* c, std::ptrdiff_t m, std::ptrdiff_t n,
                 std::ptrdiff_t k);

/// `count` products of n x n matrices that follow one another.
void eigen_batched(const float* a, const float* b, float* c, std::ptrdiff_t count, std::ptrdiff_t n);
void eigen_batched(const double* a, const double* b, double* c, std::ptrdiff_t count, std::ptrdiff_t n);
/// Empty where libxsmm is not linked in; else its version and the instructions it generates.
const char* libxsmm_name();
void libxsmm_batched(const float* a, const float* b, float* c, std::ptrdiff_t count, std::ptrdiff_t n);
void libxsmm_batched(const double* a, const double* b, double* c, std::ptrdiff_t count, std::ptrdiff_t n);

}  // namespace peers
