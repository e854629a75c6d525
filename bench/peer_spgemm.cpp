#include <peer_spgemm.hpp>

#include <Eigen/SparseCore>
#include <algorithm>
#include <utility>
#include <vector>

#ifdef TESSERA_BENCH_GRAPHBLAS
#include <graphblas.hpp>
#endif

namespace tessera::bench {

using Rows = Eigen::SparseMatrix<double, Eigen::RowMajor, std::int32_t>;
using Columns = Eigen::SparseMatrix<double, Eigen::ColMajor, std::int32_t>;

struct SparsePeer::State {
  Rows rows, product;
  Columns columns;
#ifdef TESSERA_BENCH_GRAPHBLAS
  std::unique_ptr<peers::GraphMatrix> graph;
#endif
};

SparsePeer::SparsePeer(long n, const std::int32_t* row_ptr, const std::int32_t* col_idx, const double* values)
    : state_(std::make_unique<State>()) {
  state_->rows = Eigen::Map<const Rows>(n, n, row_ptr[n], row_ptr, col_idx, values);
  state_->columns = state_->rows;
}
SparsePeer::~SparsePeer() = default;

void SparsePeer::eigen() { state_->product = state_->rows * state_->rows; }

void SparsePeer::outer_and_sort() {
  const auto& A = state_->columns;
  const auto& B = state_->rows;
  std::vector<std::pair<std::uint64_t, double>> products;
  for (std::int32_t k = 0; k < A.cols(); ++k)
    for (std::int32_t a = A.outerIndexPtr()[k]; a < A.outerIndexPtr()[k + 1]; ++a)
      for (std::int32_t b = B.outerIndexPtr()[k]; b < B.outerIndexPtr()[k + 1]; ++b)
        products.emplace_back(
            static_cast<std::uint64_t>(A.innerIndexPtr()[a]) << 32 | static_cast<std::uint32_t>(B.innerIndexPtr()[b]),
            A.valuePtr()[a] * B.valuePtr()[b]);
  std::sort(products.begin(), products.end(), [](const auto& x, const auto& y) { return x.first < y.first; });
  Rows& C = state_->product;
  C.resize(A.rows(), A.rows());
  std::size_t distinct = 0;
  for (std::size_t p = 0; p < products.size(); ++p) distinct += p == 0 || products[p].first != products[p - 1].first;
  C.resizeNonZeros(static_cast<Eigen::Index>(distinct));
  std::int32_t to = -1;
  for (std::size_t p = 0; p < products.size(); ++p) {
    if (p == 0 || products[p].first != products[p - 1].first) {
      C.innerIndexPtr()[++to] = static_cast<std::int32_t>(products[p].first & 0xffffffffu);
      C.valuePtr()[to] = 0;
      ++C.outerIndexPtr()[(products[p].first >> 32) + 1];
    }
    C.valuePtr()[to] += products[p].second;
  }
  for (std::int32_t i = 0; i < A.rows(); ++i) C.outerIndexPtr()[i + 1] += C.outerIndexPtr()[i];
}

#ifdef TESSERA_BENCH_GRAPHBLAS
void SparsePeer::graphblas(int threads) {
  peers::use_graphblas(threads);
  const auto n = static_cast<GrB_Index>(state_->rows.rows());
  if (!state_->graph) {
    const peers::Places places(state_->rows.rows(), state_->rows.outerIndexPtr(), state_->rows.innerIndexPtr());
    state_->graph = std::make_unique<peers::GraphMatrix>(GrB_FP64, n, n);
    peers::check(GrB_Matrix_build_FP64(state_->graph->of, places.row.data(), places.col.data(), state_->rows.valuePtr(),
                                       places.row.size(), GrB_PLUS_FP64));
  }
  peers::GraphMatrix C(GrB_FP64, n, n);
  peers::check(
      GrB_mxm(C.of, nullptr, nullptr, GrB_PLUS_TIMES_SEMIRING_FP64, state_->graph->of, state_->graph->of, nullptr));
  peers::check(GrB_Matrix_wait(C.of, GrB_MATERIALIZE));
}
#endif

}  // namespace tessera::bench
