/// What others do: the whole matrix of scores, a softmax of its rows, a product.
#pragma once

#include <cstddef>

namespace peers {

/// One head: out (n,d) = softmax(scale * Q K^T) V, causal or not, row-major, through an (n,m) buffer.
void eigen_attention(const float* q, const float* k, const float* v, float* out, std::ptrdiff_t n, std::ptrdiff_t m,
                     std::ptrdiff_t d, bool causal);

}  // namespace peers
