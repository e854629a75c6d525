/// Tokens whose channels go together, and what the tests of caches of fewer channels share.
#pragma once

#include <Eigen/Core>
#include <cmath>
#include <tessera/kv/calibrate.hpp>

#include "kv/support.hpp"

namespace tessera::test::low_rank_kv {

using Rows = LinearMap::Matrix;

inline Eigen::MatrixXd noise(Index rows, Index cols, std::uint64_t seed) {
  const auto buffer = random_buffer<float>(rows * cols, seed);
  return Eigen::Map<const Rows>(buffer.data(), rows, cols).cast<double>();
}
inline Eigen::MatrixXd orthogonal(Index d, std::uint64_t seed) {
  return lord_factors(noise(d, d, seed), Eigen::MatrixXd(Eigen::MatrixXd::Identity(d, d)), d).left;
}
inline View<const float, 3> one_head(const Rows& rows) { return {rows.data(), {1, rows.rows(), rows.cols()}}; }
/// Rows of noise whose energy falls by `decay` from a direction to the next, the directions random.
inline Rows decaying(Index n, Index d, double decay, std::uint64_t seed) {
  Eigen::VectorXd sizes(d);
  for (Index c = 0; c < d; ++c) sizes[c] = std::sqrt(static_cast<double>(d)) * std::pow(decay, static_cast<double>(c));
  return (noise(n, d, seed) * sizes.asDiagonal() * orthogonal(d, seed + 100)).cast<float>();
}
template <class Cache>
Eigen::MatrixXf attended(Context& ctx, const Cache& cache, const Rows& Q, Index heads) {
  const Index n = Q.rows() / heads, d = Q.cols();
  Rows out(Q.rows(), d);
  cache.attend(ctx, View<const float, 3>(Q.data(), {heads, n, d}), View<float, 3>(out.data(), {heads, n, d}));
  return out;
}
inline double relative(const Eigen::MatrixXf& got, const Eigen::MatrixXf& wanted) {
  return static_cast<double>((got - wanted).norm() / wanted.norm());
}

}  // namespace tessera::test::low_rank_kv
