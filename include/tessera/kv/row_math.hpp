/// Loops over the channels of one token, written so that compilers make vectors of them.
#pragma once

#include <algorithm>
#include <cmath>

#include <tessera/core/config.hpp>

namespace tessera::inline TESSERA_ABI::kv::detail {

inline float dot(const float* a, const float* b, Index d) {
  float sums[8] = {};  // independent, so that the additions overlap
  Index c = 0;
  for (; c + 8 <= d; c += 8)
    for (Index i = 0; i < 8; ++i) sums[i] += a[c + i] * b[c + i];
  for (; c < d; ++c) sums[0] += a[c] * b[c];
  float sum = 0;
  for (const float part : sums) sum += part;
  return sum;
}
inline float squared_distance(const float* a, const float* b, Index d) {
  float sums[8] = {};
  Index c = 0;
  for (; c + 8 <= d; c += 8)
    for (Index i = 0; i < 8; ++i) sums[i] += (a[c + i] - b[c + i]) * (a[c + i] - b[c + i]);
  for (; c < d; ++c) sums[0] += (a[c] - b[c]) * (a[c] - b[c]);
  float sum = 0;
  for (const float part : sums) sum += part;
  return sum;
}
/// `count` rows, `stride` apart, next to each other in `to`, unless they are there.
inline void gather_rows(const float* rows, Index stride, Index count, Index d, float* to) {
  if (rows == to) return;
  for (Index t = 0; t < count; ++t) std::copy_n(rows + t * stride, d, to + t * d);
}
/// y += a x.
inline void add_scaled(float a, const float* x, float* y, Index d) {
  Index c = 0;
  for (; c + 8 <= d; c += 8) {
    float sums[8];  // which y may not overlap
    for (Index i = 0; i < 8; ++i) sums[i] = y[c + i] + a * x[c + i];
    for (Index i = 0; i < 8; ++i) y[c + i] = sums[i];
  }
  for (; c < d; ++c) y[c] += a * x[c];
}
/// y += x.
inline void add(const float* x, float* y, Index d) { add_scaled(1, x, y, d); }
/// Each of y += a.
inline void add(float a, float* y, Index d) {
  Index c = 0;
  for (; c + 8 <= d; c += 8)
    for (Index i = 0; i < 8; ++i) y[c + i] += a;
  for (; c < d; ++c) y[c] += a;
}
/// 1 / |x|, or 0 for a row of zeros; NaN for one that is not finite.
inline float inverse_norm(const float* x, Index d) {
  const float square = dot(x, x, d);
  if (square == 0) return 0;
  return square * 0 == 0 ? 1 / std::sqrt(square) : square * 0;
}

}  // namespace tessera::inline TESSERA_ABI::kv::detail
