#include <cstdint>
#include <list>
#include <utility>
#include <vector>

#include <support/operator_laws.hpp>
#include <support/sparse_patterns.hpp>
#include <tessera/matrix/bitmap.hpp>
#include <tessera/matrix/bsr.hpp>
#include <tessera/matrix/coo.hpp>
#include <tessera/matrix/csc.hpp>
#include <tessera/matrix/csr.hpp>
#include <tessera/matrix/csr_delta.hpp>
#include <tessera/matrix/dia.hpp>
#include <tessera/matrix/hypersparse.hpp>
#include <tessera/matrix/nm.hpp>
#include <tessera/matrix/sell.hpp>
#include <tessera/matrix/tiled_csl.hpp>

namespace tessera::test {
namespace TESSERA_TEST_FILE {

/// `convert(Csr<T>)` of a few patterns.
template <class Op, class T, Op (*convert)(Csr<T>)>
struct SparseCase {
  using Operator = Op;
  static std::vector<Operator> samples() {
    std::vector<Operator> all;
    all.push_back(convert(Csr<T>(0, 0)));
    all.push_back(convert(csr_from_coo<T>(scattered<T>(1, 1, 1))));
    all.push_back(convert(csr_from_coo<T>(scattered<T>(70, 45, 0.3))));
    all.push_back(convert(csr_from_coo<T>(scattered<T>(33, 33, 0.1))));
    all.push_back(convert(csr_from_coo<T>(filled<T>(7, 130, [](Index i, Index j) { return i == 2 || j == i; }))));
    return all;
  }
};

/// The first n nonzeros of each m columns of a row.
template <class T>
Csr<T> pruned(const Csr<T>& A, Index n, Index m) {
  Coo<T> all = to_coo(A), kept = all;
  kept.row.clear();
  kept.col.clear();
  kept.value.clear();
  for (std::size_t k = 0; k < all.value.size(); ++k) {
    Index before = 0;
    for (std::size_t l = k; l-- > 0 && all.row[l] == all.row[k] && all.col[l] / m == all.col[k] / m;) ++before;
    if (before >= n) continue;
    kept.row.push_back(all.row[k]);
    kept.col.push_back(all.col[k]);
    kept.value.push_back(all.value[k]);
  }
  return csr_from_coo<T>(kept);
}

template <class T>
Csr<T> itself(Csr<T> A) {
  return A;
}
template <class T>
Csr<T, std::int64_t> wide(Csr<T> A) {
  return csr_from_coo<T, std::int64_t>(to_coo(A));
}

/// Of arrays that are kept elsewhere.
template <class T>
CsrView<T, std::int32_t> seen(Csr<T> A) {
  static std::list<Csr<T>> kept;
  const Csr<T>& mine = kept.emplace_back(std::move(A));
  return {mine.rows(), mine.cols(), mine.row_ptr(), mine.col_idx(), mine.values()};
}

/// Some places listed twice.
template <class T>
CooMatrix<T> listed(Csr<T> A) {
  Coo<T> list = to_coo(A);
  for (std::size_t k = list.value.size(); k-- > 0;)
    if (k % 3 == 0) {
      list.value[k] /= 2;
      list.row.push_back(list.row[k]);
      list.col.push_back(list.col[k]);
      list.value.push_back(list.value[k]);
    }
  return coo_matrix(list);
}
template <class T>
CooMatrix<T, std::int64_t> listed_wide(Csr<T> A) {
  return coo_from_csr(wide(A));
}
template <class T>
Bsr<T, std::int64_t> wide_blocks(Csr<T> A) {
  return bsr_from_csr(wide(A), 4, 2);
}
template <class T>
Sell<T, std::int64_t> wide_slices(Csr<T> A) {
  return sell_from_csr(wide(A), 8, 16);
}
template <class T>
Csc<T> by_columns(Csr<T> A) {
  return csc_from_csr(A);
}
/// Of arrays that are kept elsewhere.
template <class T>
CscView<T> columns_seen(Csr<T> A) {
  static std::list<Csc<T>> kept;
  const Csc<T>& mine = kept.emplace_back(csc_from_csr(A));
  return {mine.rows(), mine.cols(), mine.col_ptr(), mine.row_idx(), mine.values()};
}
template <class T, Index R, Index C>
Bsr<T> blocks(Csr<T> A) {
  return bsr_from_csr(A, R, C);
}
template <class T>
Sell<T> slices(Csr<T> A) {
  return sell_from_csr(A, 8, 16);
}
template <class T, Index N, Index M>
Nm<T> some_of_each(Csr<T> A) {
  return nm_from_csr(pruned(A, N, M), N, M);
}
template <class T>
TiledCsl<T> tiles(Csr<T> A) {
  return tiled_csl_from_csr(A);
}
template <class T>
Bitmap<T> bits(Csr<T> A) {
  return bitmap_from_csr(A);
}
template <class T>
CsrDelta<T> distances(Csr<T> A) {
  return csr_delta_from_csr(A);
}
template <class T>
Dia<T> diagonals(Csr<T> A) {
  return dia_from_csr(A);
}
template <class T>
Hypersparse<T> filled_rows(Csr<T> A) {
  return hypersparse_from_csr(A);
}

using Types = ::testing::Types<
    SparseCase<Csr<float>, float, itself<float>>, SparseCase<Csr<double>, double, itself<double>>,
    SparseCase<Csr<double, std::int64_t>, double, wide<double>>, SparseCase<Csr<bf16>, bf16, itself<bf16>>,
    SparseCase<CsrView<double, std::int32_t>, double, seen<double>>, SparseCase<CooMatrix<float>, float, listed<float>>,
    SparseCase<CooMatrix<double, std::int64_t>, double, listed_wide<double>>,
    SparseCase<Bsr<float, std::int64_t>, float, wide_blocks<float>>,
    SparseCase<Sell<float, std::int64_t>, float, wide_slices<float>>,
    SparseCase<Csc<double>, double, by_columns<double>>, SparseCase<CscView<float>, float, columns_seen<float>>,
    SparseCase<Bsr<float>, float, blocks<float, 4, 1>>, SparseCase<Bsr<double>, double, blocks<double, 3, 2>>,
    SparseCase<Bsr<float>, float, blocks<float, 16, 1>>, SparseCase<Sell<float>, float, slices<float>>,
    SparseCase<Sell<double>, double, slices<double>>, SparseCase<Nm<float>, float, some_of_each<float, 2, 4>>,
    SparseCase<Nm<double>, double, some_of_each<double, 3, 5>>, SparseCase<Nm<float>, float, some_of_each<float, 4, 8>>,
    SparseCase<TiledCsl<float>, float, tiles<float>>, SparseCase<TiledCsl<double>, double, tiles<double>>,
    SparseCase<Bitmap<float>, float, bits<float>>, SparseCase<Bitmap<double>, double, bits<double>>,
    SparseCase<Dia<float>, float, diagonals<float>>, SparseCase<CsrDelta<float>, float, distances<float>>,
    SparseCase<CsrDelta<double>, double, distances<double>>, SparseCase<Dia<double>, double, diagonals<double>>,
    SparseCase<Hypersparse<float>, float, filled_rows<float>>,
    SparseCase<Hypersparse<double>, double, filled_rows<double>>>;
const bool sparse_laws = OperatorLaws<Types>::of("Sparse");

}  // namespace
}  // namespace tessera::test
