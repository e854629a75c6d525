/// A·A of sparse f64 matrices with 32-bit indices: spgemm/f64/<matrix>[/threads:2]. GFLOPs count two operations a
/// product; vs_eigen is Eigen's product, vs_outer every product written out and sorted, both of one thread,
/// vs_graphblas SuiteSparse:GraphBLAS with as many threads as ours, where it is installed. Medians of `rounds` in
/// turns: Eigen takes many seconds for R-MAT of scale 17, which is measured in three and without the sort.
#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <harness.hpp>
#include <peer_spgemm.hpp>
#include <poisson.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/sparse/spgemm.hpp>

namespace {

using namespace tessera;

// R-MAT of (.57, .19, .19, .05), eight entries a row before places that repeat are summed.
Csr<double> rmat(int scale) {
  const Philox draws(1);
  Coo<double> list;
  list.rows = list.cols = Index{1} << scale;
  std::uint64_t at = 0;
  for (Index e = 0; e < 8 * list.rows; ++e) {
    Index i = 0, j = 0;
    for (int s = 0; s < scale; ++s) {
      const float u = draws.uniform(at++);
      i = 2 * i + (u >= 0.76f ? 1 : 0);
      j = 2 * j + (u >= 0.95f || (u >= 0.57f && u < 0.76f) ? 1 : 0);
    }
    list.row.push_back(i);
    list.col.push_back(j);
    list.value.push_back(static_cast<double>(e % 7) + 1);
  }
  return csr_from_coo<double>(list);
}

void product_row(const std::string& name, std::function<Csr<double>()> make, Index threads, int rounds, bool outer) {
  benchmark::RegisterBenchmark(
      ("spgemm/f64/" + name + (threads > 1 ? "/threads:2" : "")).c_str(),
      [=](benchmark::State& state) {
        const Csr<double> A = make();
        bench::SparsePeer peer(A.rows(), A.row_ptr().data(), A.col_idx().data(), A.values().data());
        Context ctx = Context::with_threads(threads);
        SpgemmReport report;
        std::vector<double> ours, eigen, sorted;
#ifdef TESSERA_BENCH_GRAPHBLAS
        std::vector<double> graphblas;
        peer.graphblas(static_cast<int>(threads));  // A is made
#endif
        const auto time = [](std::vector<double>& to, auto&& f) {
          const double start = bench::seconds();
          f();
          to.push_back(bench::seconds() - start);
        };
        for (auto _ : state)
          for (int r = 0; r < rounds; ++r) {
            time(ours, [&] { benchmark::DoNotOptimize(spgemm(ctx, A, A, {}, &report).values().data()); });
            time(eigen, [&] { peer.eigen(); });
#ifdef TESSERA_BENCH_GRAPHBLAS
            time(graphblas, [&] { peer.graphblas(static_cast<int>(threads)); });
#endif
            if (outer) time(sorted, [&] { peer.outer_and_sort(); });
          }
        const double median = bench::median(ours);
        state.counters["ms"] = median * 1e3;
        state.counters["best_ms"] = *std::min_element(ours.begin(), ours.end()) * 1e3;
        state.counters["best_eigen_ms"] = *std::min_element(eigen.begin(), eigen.end()) * 1e3;
        state.counters["GFLOPs"] = 2e-9 * report.products / median;
        state.counters["vs_eigen"] = bench::median(eigen) / median;
#ifdef TESSERA_BENCH_GRAPHBLAS
        state.counters["vs_graphblas"] = bench::median(graphblas) / median;
#endif
        if (outer) state.counters["vs_outer"] = bench::median(sorted) / median;
        state.counters["auxiliary_kB"] = static_cast<double>(report.auxiliary_bytes) * 1e-3;
      })
      ->Iterations(1)
      ->Unit(benchmark::kMillisecond);
}

}  // namespace

int main(int argc, char** argv) {
  for (const Index threads : {1, 2}) {
    product_row(
        "poisson512", [] { return poisson<double>(512); }, threads, 15, true);
    product_row(
        "rmat14", [] { return rmat(14); }, threads, 7, true);
    product_row(
        "rmat17", [] { return rmat(17); }, threads, 3, false);
  }
  return bench::run_rows(argc, argv);
}
