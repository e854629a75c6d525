/// Eigen's factorizations, which many tests use, compiled once: see shared.cpp.
#pragma once

#include <Eigen/Dense>

// TESSERA_TEST_EIGEN(extern) declares them, TESSERA_TEST_EIGEN() is their definition.
#define TESSERA_TEST_EIGEN_OF(EXTERN, M)                                                                   \
  EXTERN template void Eigen::PartialPivLU<M>::compute();                                                  \
  EXTERN template M Eigen::PartialPivLU<M>::reconstructedMatrix() const;                                   \
  EXTERN template void Eigen::FullPivLU<M>::computeInPlace();                                              \
  EXTERN template void Eigen::HouseholderQR<M>::computeInPlace();                                          \
  EXTERN template void Eigen::ColPivHouseholderQR<M>::computeInPlace();                                    \
  EXTERN template void Eigen::CompleteOrthogonalDecomposition<M>::computeInPlace();                        \
  EXTERN template void Eigen::CompleteOrthogonalDecomposition<M>::_solve_impl(                             \
      const Eigen::CwiseNullaryOp<Eigen::internal::scalar_identity_op<M::Scalar>, M>&, M&) const;          \
  EXTERN template Eigen::LLT<M>& Eigen::LLT<M>::compute(const Eigen::EigenBase<M>&);                       \
  EXTERN template Eigen::JacobiSVD<M>& Eigen::JacobiSVD<M>::compute(const M&, unsigned);                   \
  EXTERN template Eigen::BDCSVD<M>& Eigen::BDCSVD<M>::compute(const M&, unsigned);                         \
  EXTERN template Eigen::EigenSolver<M>& Eigen::EigenSolver<M>::compute(const Eigen::EigenBase<M>&, bool); \
  EXTERN template Eigen::SelfAdjointEigenSolver<M>& Eigen::SelfAdjointEigenSolver<M>::compute(             \
      const Eigen::EigenBase<M>&, int);
#define TESSERA_TEST_EIGEN(EXTERN)               \
  TESSERA_TEST_EIGEN_OF(EXTERN, Eigen::MatrixXf) \
  TESSERA_TEST_EIGEN_OF(EXTERN, Eigen::MatrixXd)

#ifndef TESSERA_TEST_OWN_KERNELS
TESSERA_TEST_EIGEN(extern)
#endif
