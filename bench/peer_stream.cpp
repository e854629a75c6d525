#include <peer_stream.hpp>

namespace peers {

void copy(float* __restrict a, const float* __restrict b, std::ptrdiff_t n) {
  for (std::ptrdiff_t i = 0; i < n; ++i) a[i] = b[i];
}
void scale(float* __restrict a, const float* __restrict b, float s, std::ptrdiff_t n) {
  for (std::ptrdiff_t i = 0; i < n; ++i) a[i] = s * b[i];
}
void add(float* __restrict a, const float* __restrict b, const float* __restrict c, std::ptrdiff_t n) {
  for (std::ptrdiff_t i = 0; i < n; ++i) a[i] = b[i] + c[i];
}
void triad(float* __restrict a, const float* __restrict b, const float* __restrict c, float s, std::ptrdiff_t n) {
  for (std::ptrdiff_t i = 0; i < n; ++i) a[i] = b[i] + s * c[i];
}

}  // namespace peers
