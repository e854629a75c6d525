/// Semirings, and products of sparse matrices with vectors and matrices over them.
#pragma once

#include <type_traits>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kernels/semiring/list.hpp>
#include <tessera/sparse/rows.hpp>

namespace tessera::inline TESSERA_ABI {

/// Y (M,N) = ⊕_k A_mk ⊗ X_kn, for X of one column a product with a vector; rows of A without entries give zero(). A row
/// is summed in the order of its entries: the same bits for any number of threads. O(nnz·N). Throws shape_error, also
/// where Y overlaps X.
template <CompressedRows A, class S, class T = element_of<A>>
requires Semiring<S, T>
void semiring_product(Context& ctx, const S& semiring, const A& a, MatrixView<const std::type_identity_t<T>> X,
                      MatrixView<std::type_identity_t<T>> Y) {
  const auto rows = sparse_rows(a);
  if (rows.cols != X.rows() || Y.rows() != rows.rows || Y.cols() != X.cols() || byte_range(X).overlaps(byte_range(Y)))
    throw shape_error(detail::concat("tessera: semiring_product of (Csr ", detail::shape_text(rows.rows, rows.cols),
                                     ") * (", detail::shape_text(X.rows(), X.cols()), ") into (",
                                     detail::shape_text(Y.rows(), Y.cols()), "): expected columns ", rows.cols,
                                     " == ", X.rows(), " rows, and memory of its own for the result"));
  if (Y.empty()) return;
  using I = std::remove_cvref_t<decltype(rows.row_ptr[0])>;
  const SemiringArgs<T, I, S> args{{}, rows.row_ptr, rows.col_idx, rows.values, X, Y, semiring};
  launch(ctx, SemiringKernels::select(ctx, args), args, rows.rows, 64);
}

}  // namespace tessera::inline TESSERA_ABI
