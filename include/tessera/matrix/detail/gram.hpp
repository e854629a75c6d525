/// What a Gram matrix of inputs has to be.
#pragma once

#include <Eigen/Cholesky>
#include <cmath>
#include <string>

#include <tessera/core/error.hpp>
#include <tessera/expr/node_support.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// Throws unsupported_error, which names the entry, unless G (N,N) can be a sum of x xᵀ: finite, symmetric, and without
/// eigenvalues below 0 by more than 1e-4 of its trace, which sums in f32 may cost. N³/3 flops.
template <class = void>
void check_gram(const std::string& what, const Eigen::MatrixXd& G) {
  const auto refuse = [&](const auto&... found) {
    throw unsupported_error(concat("tessera: ", what, " ", shape_text(G.rows(), G.cols()), ": ", found...,
                                   "; expected a sum of x x^T: finite, symmetric, positive semidefinite"));
  };
  const auto entry = [&](Index i, Index j) { return concat("entry (", i, ",", j, ") is ", number_text(G(i, j))); };
  constexpr double slack = 1e-4;
  for (Index j = 0; j < G.cols(); ++j)
    for (Index i = 0; i < G.rows(); ++i)
      if (!std::isfinite(G(i, j))) refuse(entry(i, j));
  const double most = G.size() > 0 ? G.cwiseAbs().maxCoeff() : 0;
  if (most == 0) return;
  const double smallest = slack * most;
  for (Index j = 0; j < G.cols(); ++j) {
    if (G(j, j) < -smallest) refuse(entry(j, j));
    for (Index i = 0; i < j; ++i)
      if (std::abs(G(i, j) / 2 - G(j, i) / 2) > smallest / 2) refuse(entry(i, j), ", ", entry(j, i));
  }
  Eigen::MatrixXd shifted = G / most;
  const double trace = shifted.trace();
  shifted.diagonal().array() += slack * std::abs(trace);
  if (Eigen::LLT<Eigen::MatrixXd>(shifted).info() != Eigen::Success)
    refuse("it has an eigenvalue below -1e-4 of its trace ", number_text(trace * most));
}

}  // namespace tessera::inline TESSERA_ABI::detail
