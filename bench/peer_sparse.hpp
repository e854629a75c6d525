/// The same sparse products by other libraries. Row-major throughout; one thread.
#pragma once

#include <cstddef>
#include <cstdint>

namespace peers {

/// y (m,n) = a (m,k) * x (k,n), a in compressed rows.
void eigen_sparse(std::ptrdiff_t m, std::ptrdiff_t k, std::ptrdiff_t nnz, const std::int32_t* row_ptr,
                  const std::int32_t* col_idx, const float* values, const float* x, float* y, std::ptrdiff_t n);
/// y (k,n) = aᵀ * x (m,n).
void eigen_sparse_transposed(std::ptrdiff_t m, std::ptrdiff_t k, std::ptrdiff_t nnz, const std::int32_t* row_ptr,
                             const std::int32_t* col_idx, const float* values, const float* x, float* y,
                             std::ptrdiff_t n);
/// y (m,n) := the solution of the lower triangle of a (m,m).
void eigen_solve_lower(std::ptrdiff_t m, std::ptrdiff_t nnz, const std::int32_t* row_ptr, const std::int32_t* col_idx,
                       const float* values, float* y, std::ptrdiff_t n);
/// out[e] = ⟨row i of x (m,k), row j of y (n,k)⟩ for the pattern's entries e.
void eigen_sddmm(std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t k, const std::int32_t* row_ptr,
                 const std::int32_t* col_idx, const float* x, const float* y, float* out);
/// y (n) = wᵀ x, w (k,n).
void eigen_gemv(std::ptrdiff_t k, std::ptrdiff_t n, const float* w, const float* x, float* y);
/// The compiler's loops: row e of y (count,d) = row ids[e] of x; row ids[e] of x += row e of y.
void gather(const float* x, const std::int32_t* ids, std::ptrdiff_t count, std::ptrdiff_t d, float* y);
void scatter(const float* y, const std::int32_t* ids, std::ptrdiff_t count, std::ptrdiff_t d, float* x);

#ifdef TESSERA_BENCH_GRAPHBLAS
/// The same by SuiteSparse:GraphBLAS, which keeps its own A, X and Y from `make_graphblas` on.
void make_graphblas(std::ptrdiff_t m, std::ptrdiff_t k, const std::int32_t* row_ptr, const std::int32_t* col_idx,
                    const float* values, std::ptrdiff_t n);
void graphblas_sparse(bool min_plus = false);
#endif

}  // namespace peers
