/// Products with a graph by chunks of vertices that read old rows where new ones are not there yet.
#pragma once

#include <concepts>
#include <span>
#include <type_traits>

#include <tessera/core/context.hpp>
#include <tessera/sparse/rows.hpp>

namespace tessera::inline TESSERA_ABI {

/// Rows [begin, end) of Y := A·H, where the rows of H before `ready` are taken from H_now and the others from H_old.
/// Only those rows of Y are written. J. Chen et al., "GNNPipe: Scaling Deep GNN Training with Pipelined Model
/// Parallelism" (2023), §4: chunk c of layer l is computed when the chunks up to c of layer l - 1 are, so ready =
/// chunk_ptr[c + 1]; with fixed weights, epoch after epoch, layer l is exact from epoch l on. 2 flops an entry and
/// column; a row is summed in the order of its entries. Throws shape_error.
template <CompressedRows A, std::floating_point T = element_of<A>>
void spmm_chunk(Context& ctx, const A& a, Index begin, Index end, Index ready,
                MatrixView<const std::type_identity_t<T>> H_now, MatrixView<const std::type_identity_t<T>> H_old,
                MatrixView<std::type_identity_t<T>> Y) {
  const auto rows = sparse_rows(a);
  if (H_now.rows() != rows.cols || H_old.rows() != rows.cols || H_now.cols() != H_old.cols() || Y.rows() != rows.rows ||
      Y.cols() != H_now.cols() || begin < 0 || end < begin || end > rows.rows)
    throw shape_error(detail::concat(
        "tessera: spmm_chunk of rows ", begin, " to ", end, " of (", detail::csr_text(rows.rows, rows.cols), ") * (",
        detail::shape_text(H_now.rows(), H_now.cols()), ") and old (", detail::shape_text(H_old.rows(), H_old.cols()),
        ") into (", detail::shape_text(Y.rows(), Y.cols()), ")"));
  for_each_chunk(ctx, end - begin, 64, [&](Context&, Index from, Index to) {
    for (Index i = begin + from; i < begin + to; ++i) {
      for (Index n = 0; n < Y.cols(); ++n) Y(i, n) = T(0);
      for (Index e = rows.row_ptr[i]; e < rows.row_ptr[i + 1]; ++e) {
        const Index j = rows.col_idx[e];
        const auto& H = j < ready ? H_now : H_old;
        const T value = rows.values[e];
        if (Y.col_stride() == 1 && H.col_stride() == 1) {
          T* TESSERA_RESTRICT y = Y.data() + i * Y.row_stride();
          const T* TESSERA_RESTRICT x = H.data() + j * H.row_stride();
          for (Index n = 0; n < Y.cols(); ++n) y[n] += value * x[n];
        } else {
          for (Index n = 0; n < Y.cols(); ++n) Y(i, n) += value * H(j, n);
        }
      }
    }
  });
}

/// All of Y := A·H, chunk after chunk: chunk c is rows [chunk_ptr[c], chunk_ptr[c + 1]) and finds the rows of its own
/// and of earlier chunks in H_now, later ones in H_old. With H_old = H_now that is the product. Throws shape_error.
template <CompressedRows A, std::floating_point T = element_of<A>>
void spmm_chunked_historical(Context& ctx, const A& a, std::span<const Index> chunk_ptr,
                             MatrixView<const std::type_identity_t<T>> H_now,
                             MatrixView<const std::type_identity_t<T>> H_old, MatrixView<std::type_identity_t<T>> Y) {
  if (chunk_ptr.empty() || chunk_ptr.front() != 0 || chunk_ptr.back() != a.rows())
    throw shape_error(detail::concat("tessera: spmm_chunked_historical of (", detail::csr_text(a.rows(), a.cols()),
                                     ") in ", chunk_ptr.size(), " - 1 chunks: expected them to begin at 0 and end at ",
                                     a.rows()));
  for (std::size_t c = 0; c + 1 < chunk_ptr.size(); ++c)
    spmm_chunk(ctx, a, chunk_ptr[c], chunk_ptr[c + 1], chunk_ptr[c + 1], H_now, H_old, Y);
}

}  // namespace tessera::inline TESSERA_ABI
