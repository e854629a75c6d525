/// The same sparse products by other libraries. Row-major throughout; one thread.
#pragma once

#include <cstddef>
#include <cstdint>

namespace peers {

/// y (m,n) = a (m,k) * x (k,n), a in compressed rows.
void eigen_sparse(std::ptrdiff_t m, std::ptrdiff_t k, std::ptrdiff_t nnz, const std::int32_t* row_ptr,
                  const std::int32_t* col_idx, const float* values, const float* x, float* y, std::ptrdiff_t n);

#ifdef TESSERA_BENCH_GRAPHBLAS
/// The same by SuiteSparse:GraphBLAS, which keeps its own A, X and Y from `make_graphblas` on.
void make_graphblas(std::ptrdiff_t m, std::ptrdiff_t k, const std::int32_t* row_ptr, const std::int32_t* col_idx,
                    const float* values, std::ptrdiff_t n);
void graphblas_sparse();
#endif

}  // namespace peers
