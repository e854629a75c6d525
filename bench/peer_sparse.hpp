/// The same sparse products by other libraries. Row-major throughout; one thread.
#pragma once

#include <cstddef>
#include <cstdint>

namespace peers {

/// y (m,n) = a (m,k) * x (k,n), a in compressed rows.
void eigen_sparse(std::ptrdiff_t m, std::ptrdiff_t k, std::ptrdiff_t nnz, const std::int32_t* row_ptr,
                  const std::int32_t* col_idx, const float* values, const float* x, float* y, std::ptrdiff_t n);

}  // namespace peers
