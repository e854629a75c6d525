/// Sparse times sparse over any semiring.
#pragma once

#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include <tessera/core/buffer.hpp>
#include <tessera/kernels/spgemm/list.hpp>

namespace tessera::inline TESSERA_ABI {

struct SpgemmOptions {
  bool sorted = true;  // false leaves a row's columns in the order of their first product where that is cheaper
};

/// What a product took. `auxiliary_bytes` is all memory besides operands and result.
struct SpgemmReport {
  Index nnz = 0;
  double products = 0;
  std::size_t auxiliary_bytes = 0;
};

/// The arrays of a sparse result by rows.
template <class T, class I>
struct CsrBuffers {
  Buffer<I> row_ptr;  // (rows + 1)
  Buffer<I> col_idx;  // (nnz)
  Buffer<T> values;   // (nnz)
};

namespace detail {

/// Bits of rows begin to end - 1, begin a multiple of 64.
template <class T, class I>
void spgemm_moved(const CsrArrays<T, I>& B, Index begin, Index end, std::uint64_t* moved) {
  for (Index k = begin; k < end; ++k) {
    if (k % 64 == 0) moved[k / 64] = 0;
    if (k == 0) continue;
    const I *one = B.col_idx + B.row_ptr[k - 1], *two = B.col_idx + B.row_ptr[k], *last = B.col_idx + B.row_ptr[k + 1];
    if (last - two != two - one) continue;
    while (two < last && *one == *two - 1) ++one, ++two;
    moved[k / 64] |= std::uint64_t{two == last} << (k % 64);
  }
}

}  // namespace detail

/// A (M,K) times B (K,N), columns rising in both, by F. Gustavson's rows ("Two Fast Algorithms for Sparse Matrices",
/// TOMS 1978) in two passes, pattern and values: a row of one or two of B's is copied or merged; one whose products are
/// dense enough in their window of columns sets bits, and sums where the bits before an entry say; others take a hash
/// table (Y. Nagasaka et al., "High-performance sparse matrix-matrix products on Intel KNL and multicore
/// architectures", 2018). With a mask, only its entries are computed. Pieces hold about as many products each: the same
/// bits for any number of threads. O(products); beside the result, 8 bytes a piece, a bit a row of B and, a thread,
/// some multiple of the longest row. Throws shape_error, and unsupported_error when C has more entries than I counts.
template <class T, class I, class S>
CsrBuffers<T, I> spgemm(Context& ctx, const CsrArrays<T, I>& A, const CsrArrays<T, I>& B, const S& semiring,
                        const std::type_identity_t<CsrArrays<T, I>>* mask = nullptr, SpgemmOptions options = {},
                        SpgemmReport* report = nullptr) {
  if (A.cols != B.rows || (mask != nullptr && (mask->rows != A.rows || mask->cols != B.cols)))
    throw shape_error(detail::concat(
        "tessera: spgemm of (Csr ", detail::shape_text(A.rows, A.cols), ") * (Csr ", detail::shape_text(B.rows, B.cols),
        ")", mask == nullptr ? "" : detail::concat(" masked by (Csr ", detail::shape_text(mask->rows, mask->cols), ")"),
        ": columns ", A.cols, " of the first and rows ", B.rows, " of the second must be as many",
        mask == nullptr ? "" : ", and the mask of the product's shape"));
  if (B.cols > static_cast<Index>(std::numeric_limits<I>::max()))
    throw unsupported_error(detail::concat("tessera: spgemm of (Csr ", detail::shape_text(A.rows, A.cols), ") * (Csr ",
                                           detail::shape_text(B.rows, B.cols), "): a row's entries do not fit ",
                                           std::numeric_limits<I>::max(), "; expected 64-bit indices"));
  CsrBuffers<T, I> C;
  C.row_ptr = Buffer<I>(A.rows + 1);
  SpgemmArgs<T, I, S> args;
  args.A = A;
  args.B = B;
  args.sorted = options.sorted;
  args.semiring = semiring;
  args.count = C.row_ptr.data() + 1;
  constexpr Index grain = 4096;
  const Index chunks = (A.rows + grain - 1) / grain;
  std::vector<double> products(static_cast<std::size_t>(chunks));
  for_each_chunk(ctx, A.rows, grain, [&](Context&, Index begin, Index end) {
    double total = 0;
    for (Index i = begin; i < end; ++i) {
      Index sum = 0;
      for (Index e = A.row_ptr[i]; e < A.row_ptr[i + 1]; ++e)
        sum += static_cast<Index>(B.row_ptr[A.col_idx[e] + 1]) - B.row_ptr[A.col_idx[e]];
      total += static_cast<double>(sum);
      args.count[i] = static_cast<I>(std::min(sum, B.cols));
    }
    products[static_cast<std::size_t>(begin / grain)] = total;
  });
  if (mask != nullptr) {
    args.mask_ptr = mask->row_ptr;
    args.mask_idx = mask->col_idx;
    for (Index i = 0; i < A.rows; ++i)
      args.most_mask = std::max<Index>(args.most_mask, mask->row_ptr[i + 1] - mask->row_ptr[i]);
  }
  std::vector<std::uint64_t> moved;
  if (mask == nullptr) {
    moved.resize(static_cast<std::size_t>((B.rows + 63) / 64));
    for_each_chunk(ctx, B.rows, grain,
                   [&](Context&, Index begin, Index end) { detail::spgemm_moved(B, begin, end, moved.data()); });
    args.moved = moved.data();
  }
  constexpr Index each = Index{1} << 15;
  std::vector<Index> pieces{0};
  Index held = 0;
  for (Index i = 0; i < A.rows; ++i) {
    const Index bound = args.count[i];
    args.most = std::max(args.most, bound);
    held += bound + 8;
    if (held >= each || i + 1 == A.rows) {
      pieces.push_back(i + 1);
      held = 0;
    }
  }
  args.pieces = pieces.data();
  const Index count = static_cast<Index>(pieces.size()) - 1;
  const auto& kernel = SpgemmKernels::select(ctx, args);
  launch(ctx, kernel, args, count, 1);

  Index nnz = 0;
  for (Index i = 0; i < A.rows; ++i) {
    nnz += args.count[i];
    if (nnz > static_cast<Index>(std::numeric_limits<I>::max()))
      throw unsupported_error(
          detail::concat("tessera: spgemm of (Csr ", detail::shape_text(A.rows, A.cols), ") * (Csr ",
                         detail::shape_text(B.rows, B.cols), "): the product has over ", std::numeric_limits<I>::max(),
                         " entries, more than its index type counts; expected a Csr of 64-bit indices"));
    C.row_ptr[i + 1] = static_cast<I>(nnz);
  }
  C.col_idx = Buffer<I>(nnz, uninitialized);
  C.values = Buffer<T>(nnz, uninitialized);
  args.numeric = true;
  args.c_ptr = C.row_ptr.data();
  args.c_idx = C.col_idx.data();
  args.c_val = C.values.data();
  launch(ctx, kernel, args, count, 1);
  if (report != nullptr) {
    *report = {nnz, 0, 0};
    for (const double part : products) report->products += part;
    const auto threads = static_cast<std::size_t>(ctx.concurrency());
    report->auxiliary_bytes = threads * ((kernel.scratch(args) + 63) / 64 * 64) + pieces.size() * sizeof(Index) +
                              products.size() * sizeof(double) + moved.size() * sizeof(std::uint64_t);
  }
  return C;
}

}  // namespace tessera::inline TESSERA_ABI
