#include <peer_optim.hpp>

#include <Eigen/Core>
#include <cmath>

namespace peers {

void loop_adamw(const AdamW& o, float* p, const float* g, float* m, float* v, std::ptrdiff_t n) {
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    m[i] = o.b1 * m[i] + (1 - o.b1) * g[i];
    v[i] = o.b2 * v[i] + (1 - o.b2) * g[i] * g[i];
    p[i] -= o.rate * (m[i] * o.c1 / (std::sqrt(v[i] * o.c2) + o.eps) + o.decay * p[i]);
  }
}

void eigen_adamw(const AdamW& o, float* p, const float* g, float* m, float* v, std::ptrdiff_t n) {
  Eigen::Map<Eigen::ArrayXf> P(p, n), M(m, n), V(v, n);
  const Eigen::Map<const Eigen::ArrayXf> G(g, n);
  M = o.b1 * M + (1 - o.b1) * G;
  V = o.b2 * V + (1 - o.b2) * G.square();
  P -= o.rate * (M * o.c1 / ((V * o.c2).sqrt() + o.eps) + o.decay * P);
}

void loop_momentum(float decay, float rate, float* p, const float* g, float* m, std::ptrdiff_t n) {
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    m[i] = decay * m[i] + g[i];
    p[i] -= rate * m[i];
  }
}

void loop_lion(float b1, float b2, float rate, float* p, const float* g, float* m, std::ptrdiff_t n) {
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    const float c = b1 * m[i] + (1 - b1) * g[i];
    m[i] = b2 * m[i] + (1 - b2) * g[i];
    p[i] -= rate * static_cast<float>((c > 0) - (c < 0));
  }
}

}  // namespace peers
