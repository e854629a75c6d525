/// A product of dense matrices where a sparse pattern asks for it.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>

#include <tessera/kernels/sddmm/list.hpp>
#include <tessera/simd/cache.hpp>
#include <tessera/sparse/rows.hpp>

namespace tessera::inline TESSERA_ABI {

/// Whether the pattern's own values multiply the result.
enum class SddmmScale { none, values };

/// out[e] = alpha * ⟨X_i, Y_j⟩ (times s_ij if asked) for every entry e = (i, j) of S, X (M,K), Y (N,K): the sampled
/// X·Yᵀ of attention scores, of the gradient of a sparse weight, of matrix factorisation. 2·K flops an entry; a row of
/// the pattern is one thread's: the same bits for any number. Throws shape_error.
template <CompressedRows S, std::floating_point T = element_of<S>>
void sddmm_values(Context& ctx, std::type_identity_t<T> alpha, const S& s, MatrixView<const std::type_identity_t<T>> X,
                  MatrixView<const std::type_identity_t<T>> Y, std::span<std::type_identity_t<T>> out,
                  SddmmScale scale = SddmmScale::none) {
  const auto rows = sparse_rows(s);
  if (X.rows() != s.rows() || Y.rows() != s.cols() || X.cols() != Y.cols())
    throw shape_error(detail::concat("tessera: sddmm of (", detail::shape_text(X.rows(), X.cols()), ") * (",
                                     detail::shape_text(Y.rows(), Y.cols()), ")ᵀ on the pattern of (",
                                     detail::csr_text(s.rows(), s.cols()),
                                     "): expected its rows and columns to be theirs", " and as many columns in both"));
  if (out.size() != static_cast<std::size_t>(rows.nnz()))
    throw shape_error(detail::concat("tessera: sddmm on the pattern of (", detail::csr_text(s.rows(), s.cols()),
                                     ") into ", out.size(), " numbers: expected ", rows.nnz(), ", one an entry"));
  SddmmArgs<T, index_of<S>> args;
  args.row_ptr = rows.row_ptr;
  args.col_idx = rows.col_idx;
  if constexpr (std::same_as<T, element_of<S>>) args.scale = scale == SddmmScale::values ? rows.values : nullptr;
  args.X = X;
  args.Y = Y;
  args.alpha = alpha;
  args.out = out.data();
  if (!out.empty() && Y.cols() > 0) {  // half of L2, and 8 entries of a row for what its beginning costs
    const double columns = 8.0 * static_cast<double>(rows.rows) / static_cast<double>(rows.nnz());
    const Index held = cache_sizes().l2 / 2 / (Y.cols() * static_cast<Index>(sizeof(T)));
    args.block = std::max({Index{1}, held, static_cast<Index>(std::min(1.0, columns) * static_cast<double>(s.cols()))});
  }
  launch(ctx, SddmmKernels::select(ctx, args), args, rows.rows, 256);
}

/// The same as a matrix C (M,N) on a copy of the pattern.
template <CompressedRows S, std::floating_point T = element_of<S>>
Csr<T, index_of<S>> sddmm(Context& ctx, std::type_identity_t<T> alpha, const S& s,
                          MatrixView<const std::type_identity_t<T>> X, MatrixView<const std::type_identity_t<T>> Y,
                          SddmmScale scale = SddmmScale::none) {
  Buffer<T> values(sparse_rows(s).nnz(), uninitialized);
  sddmm_values<S, T>(ctx, alpha, s, X, Y, values, scale);
  return detail::with_values(s, std::move(values));
}

}  // namespace tessera::inline TESSERA_ABI
