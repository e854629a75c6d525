/// A product of dense matrices where a sparse pattern asks for it.
#pragma once

#include <concepts>
#include <type_traits>

#include <tessera/kernels/sddmm/list.hpp>
#include <tessera/sparse/rows.hpp>

namespace tessera::inline TESSERA_ABI {

/// Whether the pattern's own values multiply the result.
enum class SddmmScale { none, values };

/// C (M,N) on the pattern of S: c_ij = alpha * ⟨X_i, Y_j⟩ (times s_ij if asked), X (M,K), Y (N,K): the sampled X·Yᵀ of
/// attention scores, of the gradient of a sparse weight, of matrix factorisation. 2·K flops an entry; a row of the
/// pattern is one thread's: the same bits for any number. Throws shape_error.
template <CompressedRows S, std::floating_point T = element_of<S>>
Csr<T, index_of<S>> sddmm(Context& ctx, std::type_identity_t<T> alpha, const S& s,
                          MatrixView<const std::type_identity_t<T>> X, MatrixView<const std::type_identity_t<T>> Y,
                          SddmmScale scale = SddmmScale::none) {
  if (X.rows() != s.rows() || Y.rows() != s.cols() || X.cols() != Y.cols())
    throw shape_error(detail::concat("tessera: sddmm of (", detail::shape_text(X.rows(), X.cols()), ") * (",
                                     detail::shape_text(Y.rows(), Y.cols()), ")ᵀ on the pattern of (",
                                     detail::csr_text(s.rows(), s.cols()),
                                     "): expected its rows and columns to be theirs", " and as many columns in both"));
  const auto rows = sparse_rows(s);
  Buffer<T> values(rows.nnz(), uninitialized);
  SddmmArgs<T, index_of<S>> args;
  args.row_ptr = rows.row_ptr;
  args.col_idx = rows.col_idx;
  if constexpr (std::same_as<T, element_of<S>>) args.scale = scale == SddmmScale::values ? rows.values : nullptr;
  args.X = X;
  args.Y = Y;
  args.alpha = alpha;
  args.out = values.data();
  launch(ctx, SddmmKernels::select(ctx, args), args, rows.rows, 32);
  return detail::with_values(s, std::move(values));
}

}  // namespace tessera::inline TESSERA_ABI
