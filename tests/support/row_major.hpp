/// Row-major Eigen matrices of tests: drawn, and seen as the library's views.
#pragma once

#include <Eigen/Core>

#include <support/oracle.hpp>

namespace tessera::test {

template <class S>
using RowMajor = Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <class S>
MatrixView<const S> view(const RowMajor<S>& A) {
  return {A.data(), A.rows(), A.cols()};
}
template <class S>
MatrixView<S> view(RowMajor<S>& A) {
  return {A.data(), A.rows(), A.cols()};
}
template <class D>
D random(Index rows, Index cols, std::uint64_t seed) {
  return Eigen::Map<const D>(random_buffer<typename D::Scalar>(rows * cols, seed).data(), rows, cols);
}

}  // namespace tessera::test
