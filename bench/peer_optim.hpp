/// The same AdamW step by a plain loop and by Eigen's array expressions; one thread.
#pragma once

#include <cstddef>

namespace peers {

/// c1, c2: the bias corrections' reciprocals.
struct AdamW {
  float b1, b2, c1, c2, eps, rate, decay;
};

void loop_adamw(const AdamW& o, float* p, const float* g, float* m, float* v, std::ptrdiff_t n);
void eigen_adamw(const AdamW& o, float* p, const float* g, float* m, float* v, std::ptrdiff_t n);
void loop_momentum(float decay, float rate, float* p, const float* g, float* m, std::ptrdiff_t n);
void loop_lion(float b1, float b2, float rate, float* p, const float* g, float* m, std::ptrdiff_t n);

}  // namespace peers
