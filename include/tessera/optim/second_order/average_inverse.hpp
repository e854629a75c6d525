/// The inverse of a running average of outer products, by rank-one updates.
#pragma once

#include <algorithm>
#include <cmath>

#include <tessera/kernels/gemv/gemv.hpp>
#include <tessera/kernels/ger/ger.hpp>
#include <tessera/optim/second_order/flat.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// An inverse whose largest entry would exceed `limit` is blended with the identity, zeta·M + (1 - zeta)·I, or with
/// more of it where that is not enough.
struct AverageInverseOptions {
  double gamma = 0.95;
  double limit = 100;
  double zeta = 0.9;
};

/// scale·M, the inverse of a symmetric L (n,n), becomes that of gamma·L + (1-gamma)·g gᵀ: with y = M g and p =
/// scale·gᵀy,
///   M ← M - (1-gamma)·scale/(gamma + (1-gamma)·p)·y yᵀ,   scale ← scale/gamma
/// (J. Sherman, W. Morrison 1950). Where the largest entry, of a definite matrix one of the diagonal, would exceed
/// `limit`, that is blended with the identity, which moves the scale and the diagonal alone. 4·n² flops, one pass that
/// reads M and one that updates it: `scale` is apart so that it takes no third. M stays symmetric bit for bit, the same
/// for any number of threads. False for a g that is not finite, which changes nothing, and where rounding has made
/// gᵀM g negative: M is the identity then. Throws shape_error unless M
/// is square without gaps and g has its size.
template <class T>
bool average_inverse(Context& ctx, MatrixView<T> M, double& scale, std::type_identity_t<VectorView<const T>> g,
                     const AverageInverseOptions& o = {}) {
  const Index n = M.rows();
  if (M.cols() != n || g.extent(0) != n || !M.contiguous())
    throw shape_error(tessera::detail::concat("tessera: average_inverse of ", tessera::detail::shape_text(n, M.cols()),
                                              M.contiguous() ? "" : " with gaps", " by a vector of ", g.extent(0),
                                              "; expected a square matrix without gaps, and a vector of its rows"));
  Workspace::Scope scope(ctx.workspace);
  const VectorView<T> z(scope.take<T>(n), n);
  gemv(ctx, T(1), MatrixView<const T>(M), g, T(0), z);
  const double p = scale * detail::dot(ctx, g, VectorView<const T>(z));
  if (!std::isfinite(p)) return false;
  if (p < 0) {
    std::fill_n(M.data(), M.size(), T(0));
    for (Index i = 0; i < n; ++i) M(i, i) = T(1);
    scale = 1;
    return false;
  }
  detail::scale_in_place(ctx, std::sqrt((1 - o.gamma) * scale / (o.gamma + (1 - o.gamma) * p)), z);
  ger(ctx, T(-1), VectorView<const T>(z), VectorView<const T>(z), M);  // z_i·z_j is z_j·z_i to the bit
  scale /= o.gamma;
  double most = 0;
  for (Index i = 0; i < n; ++i) most = std::max(most, scale * static_cast<double>(M(i, i)));
  if (most > o.limit) {
    const double zeta = std::min(o.zeta, (o.limit - 1) / (most - 1));
    scale *= zeta;
    for (Index i = 0; i < n; ++i) M(i, i) += static_cast<T>((1 - zeta) / scale);
  }
  if (std::abs(std::log2(scale)) > 16) {  // a power of two, so nothing is rounded
    const double power = std::exp2(std::round(std::log2(scale)));
    detail::scale_in_place(ctx, power, VectorView<T>(M.data(), M.size()));
    scale /= power;
  }
  return true;
}

}  // namespace tessera::inline TESSERA_ABI::optim
