/// The same products by other libraries. Row-major throughout; one thread.
#pragma once

#include <cstddef>

namespace peers {

/// y (m,n) = a (m,k) * x (k,n): what a structure is to beat.
void eigen_dense(const float* a, const float* x, float* y, std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t k);

/// y (m,n) = u (m,r) * (transpose(v) (r,k) * x (k,n))
void eigen_low_rank(const float* u, const float* v, const float* x, float* y, std::ptrdiff_t m, std::ptrdiff_t n,
                    std::ptrdiff_t k, std::ptrdiff_t r);

/// `count` products of n x n matrices that follow one another.
void eigen_batched(const float* a, const float* b, float* c, std::ptrdiff_t count, std::ptrdiff_t n);

}  // namespace peers
