/// Projections of keys and values from a sample of them. Beside kv.hpp, for what it asks of the compiler.
#pragma once

#include <Eigen/Core>

#include <tessera/kv/codecs/linear_map.hpp>
#include <tessera/project/low_rank.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// The projection of rank `rank` that loses least of the keys (or values) W x of a layer over calibration inputs: with
/// G = X Xᵀ their Gram matrix, min over A, B of ‖(W - A B) X‖_F. The k = W x of W (d, in) are read as A (Aᵀ k). For a
/// sample of keys themselves: W = I, G = Kᵀ K. O(d·in² + d³). Throws shape_error, unsupported_error.
template <class Gram = Eigen::MatrixXd>             // a template, so that only those who calibrate compile eigenvectors
LinearMap cskv_calibrate(const Eigen::MatrixXd& W,  // (d, in)
                         const Gram& G,             // (in, in)
                         Index rank) {
  const ThinFactors factors = lord_factors(W, G, rank);
  return LinearMap::leading(factors.left.cast<float>(), rank);
}

}  // namespace tessera::inline TESSERA_ABI::kv
