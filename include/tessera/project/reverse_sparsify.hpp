/// From structure back to dense weights, to train on without it.
#pragma once

#include <tessera/expr/expr.hpp>
#include <tessera/matrix/dense.hpp>

namespace tessera::inline TESSERA_ABI {

/// A Monarch matrix, or any other, multiplied out as a dense one (M,N) of T: a network is trained with the structure
/// for most of its steps, which are cheap, and without it for the last ones. Nothing jumps where it changes over, for
/// the dense weights are the same matrix; an optimizer's moments are of the factors and start anew. O(M·N·rank) of a
/// Monarch matrix, else what to_dense() takes. Entries are rounded to T once. T. Dao et al., "Monarch: Expressive
/// Structured Matrices for Efficient and Accurate Training" (2022), sparse-to-dense training by reverse sparsification.
template <DenseElement T, LinearOperator A>
Dense<T> reverse_sparsify(const A& a) {
  const Eigen::MatrixX<scalar_of<A>> value = to_dense(a);
  Dense<T> dense(value.rows(), value.cols());
  for (Index i = 0; i < value.rows(); ++i)
    for (Index j = 0; j < value.cols(); ++j) dense(i, j) = static_cast<T>(value(i, j));
  return dense;
}
template <LinearOperator A>
Dense<scalar_of<A>> reverse_sparsify(const A& a) {
  return reverse_sparsify<scalar_of<A>>(a);
}

}  // namespace tessera::inline TESSERA_ABI
