// Compiled with -fopenmp where the compiler has it.
#include <gtest/gtest.h>

#if defined(_OPENMP)
#include <atomic>
#include <stdexcept>
#include <vector>

#include <tessera/core/context.hpp>
#include <tessera/core/omp.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

static_assert(Executor<omp>);

TEST(Omp, RunsEachPieceOnce) {
  for (const int threads : {1, 2, 3}) {
    const omp executor(threads);
    EXPECT_EQ(executor.concurrency(), threads);
    std::vector<std::atomic<int>> runs(100);
    const auto task = [&](Index p, Index w) {
      EXPECT_LT(w, threads);
      ++runs[static_cast<std::size_t>(p)];
    };
    executor.run(100, task);
    for (const auto& r : runs) EXPECT_EQ(r.load(), 1);
  }
  EXPECT_GE(omp().concurrency(), 1);
}

TEST(Omp, ExceptionsComeThrough) {
  const omp executor(2);
  const auto task = [](Index p, Index) {
    if (p == 3) throw std::runtime_error("piece 3");
  };
  EXPECT_THROW(executor.run(8, task), std::runtime_error);
}

TEST(Omp, WorksAsAContext) {
  Context ctx(omp(2));
  std::atomic<Index> sum{0};
  for_each_chunk(ctx, 100, 7, [&](Context&, Index begin, Index end) { sum += end - begin; });
  EXPECT_EQ(sum, 100);
}

}  // namespace
}  // namespace tessera
#else
TEST(Omp, RunsEachPieceOnce) { GTEST_SKIP() << "compiled without -fopenmp"; }
#endif
