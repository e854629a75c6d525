/// The subspace in which a gradient is largest.
#pragma once

#include <cstddef>

#include <tessera/kernels/gemm/syrk.hpp>
#include <tessera/optim/subspace.hpp>
#include <tessera/project/factors.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// Rows of P are the gradient's leading left singular vectors, by the eigenvectors of G·Gᵀ: of singular values under
/// 1e-3 of the largest (f32) only the span is right. Signs are those of the rows that P had, so that averages taken
/// before go on. Kept between steps, for it cannot be made again. side²·n multiplications by syrk, 9·side³ by Eigen.
struct svd_projection {
  static constexpr bool stored = true;
  template <class T>
  void operator()(Context& ctx, MatrixView<const T> G, std::size_t, Index, MatrixView<T> P) const {
    const Index side = P.cols();
    Workspace::Scope scope(ctx.workspace);
    const MatrixView<T> gram(scope.take<T>(side * side), side, side);
    syrk<T>(ctx, T(1), G, T(0), gram);
    using Symmetric = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;
    const auto vectors = tessera::detail::leading_eigenvectors(
        Eigen::MatrixXd(Eigen::Map<const Symmetric>(gram.data(), side, side).template cast<double>()), P.rows());
    for (Index r = 0; r < P.rows(); ++r) {
      double along = 0;
      for (Index i = 0; i < side; ++i) along += static_cast<double>(P(r, i)) * vectors(i, r);
      for (Index i = 0; i < side; ++i) P(r, i) = static_cast<T>(along < 0 ? -vectors(i, r) : vectors(i, r));
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI::optim
