/// Steps of sparse spectral training.
/// J. Zhao et al., "Sparse Spectral Training and Inference on Euclidean and Hyperbolic Neural Networks" (2024),
/// algorithm 1, eq. 3 to 8.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <tessera/core/rng.hpp>
#include <tessera/kernels/sum_squares/sum_squares.hpp>
#include <tessera/matrix/detail/thin_qr.hpp>
#include <tessera/nn/spectral.hpp>
#include <tessera/optim/parameters.hpp>

namespace tessera::inline TESSERA_ABI::nn {

/// r pairs without replacement, each drawn with probability in proportion to its singular value among those left:
/// the r smallest of independent exponential times of rate s_i (P. Efraimidis, P. Spirakis, 2006).
template <class T>
std::vector<Index> sst_select(const SpectralLinear<T>& layer, Index r, std::uint64_t seed, std::uint64_t round) {
  if (r < 0 || r > layer.rank())
    throw shape_error(tessera::detail::concat("tessera: sst_select: ", r, " of ", layer.rank(), " pairs"));
  const Philox draws(seed, round);
  std::vector<std::pair<double, Index>> times;
  for (Index i = 0; i < layer.rank(); ++i) {
    const double u = (static_cast<double>(draws.bits(static_cast<std::uint64_t>(i))) + 1) * 0x1p-32;
    const double time = -std::log(u) / std::abs(static_cast<double>(layer.s[i]));  // 0/0 and NaN: last
    times.emplace_back(std::isnan(time) ? std::numeric_limits<double>::infinity() : time, i);
  }
  std::sort(times.begin(), times.end());
  std::vector<Index> selected;
  for (Index i = 0; i < r; ++i) selected.push_back(times[static_cast<std::size_t>(i)].second);
  std::sort(selected.begin(), selected.end());
  return selected;
}

/// The vectors that learn now, each a block in its place: "u.<i>", "v.<i>". S, always learning, is `sst_values`: under
/// an optimizer of its own, it keeps its state when others are selected. State with Adam: 2·(r·(out + in) + k).
template <class T>
optim::Parameters<T> sst_vectors(SpectralLinear<T>& layer, std::span<const Index> selected) {
  optim::Parameters<T> all;
  for (const Index i : selected)
    all.emplace_back("u." + std::to_string(i), std::span<T>(&layer.U()(i, 0), static_cast<std::size_t>(layer.out)));
  for (const Index i : selected)
    all.emplace_back("v." + std::to_string(i), std::span<T>(&layer.V()(i, 0), static_cast<std::size_t>(layer.in)));
  return all;
}
template <class T>
optim::Parameters<T> sst_values(SpectralLinear<T>& layer) {
  return {{"s", std::span<T>(layer.s)}};
}

/// One step of the vectors' optimizer and of the values', which are of other sizes and learn at other rates; vectors
/// are brought back to length 1, as eq. 7 has it.
template <class T, class Opt, class State, class ValueOpt, class ValueState>
void sst_step(Context& ctx, SpectralLinear<T>& layer, const Opt& opt, const optim::Parameters<T>& vector_grads,
              State& state, const optim::Parameters<T>& vectors, const ValueOpt& value_opt,
              const optim::Parameters<T>& value_grads, ValueState& value_state) {
  opt.update(ctx, vector_grads, state, vectors);
  value_opt.update(ctx, value_grads, value_state, sst_values(layer));
  for (const auto& p : vectors) {
    const T length = static_cast<T>(std::sqrt(sum_squares(ctx, VectorView<const T>(p.view()))));
    if (length > T(0))
      for (T& x : p.values()) x /= length;
  }
}

/// The decomposition again: U and V orthonormal, S in order, W as it was. O((out + in)·k² + k³), in double, by Eigen.
template <class T>
void sst_resvd(SpectralLinear<T>& layer) {
  const Index k = layer.rank();
  const auto columns = [&](MatrixView<const T> rows) {
    Eigen::MatrixXd M(rows.cols(), k);
    for (Index i = 0; i < k; ++i)
      for (Index j = 0; j < rows.cols(); ++j) M(j, i) = static_cast<double>(rows(i, j));
    return M;
  };
  const auto [Qu, Ru] = tessera::detail::thin_qr<double>(columns(std::as_const(layer).U()));
  const auto [Qv, Rv] = tessera::detail::thin_qr<double>(columns(std::as_const(layer).V()));
  Eigen::VectorXd s(k);
  for (Index i = 0; i < k; ++i) s[i] = static_cast<double>(layer.s[i]);
  const Eigen::BDCSVD<Eigen::MatrixXd> svd(Eigen::MatrixXd(Ru * s.asDiagonal() * Rv.transpose()),
                                           Eigen::ComputeThinU | Eigen::ComputeThinV);
  layer.set(Qu * svd.matrixU(), svd.singularValues(), Qv * svd.matrixV());
}

}  // namespace tessera::inline TESSERA_ABI::nn
