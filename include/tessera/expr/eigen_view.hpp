/// Eigen objects as views.
#pragma once

#include <Eigen/Core>
#include <type_traits>
#include <utility>

#include <tessera/core/view.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {
template <class D>
std::true_type eigen_dense_test(const Eigen::DenseBase<D>*);
std::false_type eigen_dense_test(const void*);
template <class D>
std::true_type eigen_matrix_test(const Eigen::MatrixBase<D>*);
std::false_type eigen_matrix_test(const void*);
}  // namespace detail

/// Any dense Eigen object or expression: Matrix, Array, Map, Ref, Block, a + b, …
template <class E>
concept EigenDense = decltype(detail::eigen_dense_test(static_cast<std::remove_cvref_t<E>*>(nullptr)))::value;

/// One with matrix semantics, not an Array.
template <class E>
concept EigenMatrix = decltype(detail::eigen_matrix_test(static_cast<std::remove_cvref_t<E>*>(nullptr)))::value;

/// Its elements lie in memory at fixed strides.
template <class E>
concept EigenDirect = EigenDense<E> &&(std::remove_cvref_t<E>::Flags& Eigen::DirectAccessBit) != 0 &&
                      requires(const std::remove_cvref_t<E>& e) {
  e.data();  // IndexedView has the flag alone
  e.rowStride();
};

/// It owns its elements.
template <class E>
concept EigenPlain =
    EigenDense<E> && std::is_base_of_v<Eigen::PlainObjectBase<std::remove_cvref_t<E>>, std::remove_cvref_t<E>>;

/// A strided view (rows, cols) of an Eigen object with direct access: Matrix, Array, Map, Ref, Block, row, transpose, …
/// Mutable when Eigen would let the object be assigned to. A temporary that owns its elements is refused.
template <EigenDirect E>
requires(!EigenPlain<E> || std::is_lvalue_reference_v<E>) auto view(E&& object) {
  using D = std::remove_cvref_t<E>;
  using S = typename D::Scalar;
  constexpr bool is_mutable = !std::is_const_v<std::remove_reference_t<E>> && Eigen::internal::is_lvalue<D>::value;
  using T = std::conditional_t<is_mutable, S, const S>;
  return MatrixView<T>(const_cast<T*>(object.data()), {object.rows(), object.cols()},
                       {object.rowStride(), object.colStride()});
}

namespace detail {
/// A view as Eigen sees it.
template <class T>
auto eigen_map(MatrixView<T> v) {
  using M = Eigen::MatrixX<std::remove_const_t<T>>;
  using Strides = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
  return Eigen::Map<std::conditional_t<std::is_const_v<T>, const M, M>, 0, Strides>(
      v.data(), v.rows(), v.cols(), Strides(v.col_stride(), v.row_stride()));
}
}  // namespace detail

}  // namespace tessera::inline TESSERA_ABI
