// Executors and the context: every piece once, no two workers alike, exceptions come through, nothing hangs.
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <tessera/core/context.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

template <class E>
void expect_each_piece_once(E& executor, Index pieces) {
  std::vector<std::atomic<int>> runs(static_cast<std::size_t>(pieces));
  std::vector<std::atomic<int>> busy(static_cast<std::size_t>(executor.concurrency()));
  std::atomic<bool> shared{false};
  const auto task = [&](Index p, Index w) {
    if (busy.at(static_cast<std::size_t>(w))++ != 0) shared = true;
    ++runs.at(static_cast<std::size_t>(p));
    --busy.at(static_cast<std::size_t>(w));
  };
  executor.run(pieces, task);
  for (const auto& r : runs) ASSERT_EQ(r.load(), 1);
  ASSERT_FALSE(shared) << "two pieces ran at once as the same worker";
}

TEST(Executors, RunEachPieceOnce) {
  seq one;
  for (const Index n : {0, 1, 2, 100}) expect_each_piece_once(one, n);
  for (const Index threads : {1, 2, 3, 7}) {
    thread_pool pool(threads);
    EXPECT_EQ(pool.concurrency(), threads);
    for (const Index n : {0, 1, 2, 3, 100, 1000}) expect_each_piece_once(pool, n);
  }
}

TEST(Executors, ManyShortRuns) {
  thread_pool pool(3);
  for (int i = 0; i < 5000; ++i) {
    std::atomic<Index> sum{0};
    const auto task = [&](Index p, Index) { sum += p; };
    pool.run(5, task);
    ASSERT_EQ(sum, 10);
  }
}

TEST(Executors, ExceptionsComeThroughAndThePoolGoesOn) {
  thread_pool pool(3);
  for (int i = 0; i < 50; ++i) {
    std::atomic<int> others{0};
    const auto task = [&](Index p, Index) {
      if (p == 7) throw std::runtime_error("piece 7");
      ++others;
    };
    EXPECT_THROW(pool.run(20, task), std::runtime_error);
    EXPECT_EQ(others, 19);
  }
  expect_each_piece_once(pool, 10);
  seq one;
  const auto bad = [](Index, Index) { throw shape_error("no"); };
  EXPECT_THROW(one.run(1, bad), shape_error);
}

TEST(Executors, RunsInsideAPieceAreCarriedOutThere) {
  thread_pool pool(3);
  std::atomic<int> inner_runs{0};
  std::atomic<bool> moved{false};
  const auto outer = [&](Index, Index) {
    const auto here = std::this_thread::get_id();
    const auto inner = [&](Index, Index) {
      if (std::this_thread::get_id() != here) moved = true;
      ++inner_runs;
    };
    pool.run(4, inner);
  };
  pool.run(6, outer);
  EXPECT_EQ(inner_runs, 24);
  EXPECT_FALSE(moved);
  std::atomic<int> other_runs{0};
  thread_pool other(2);
  const auto across = [&](Index, Index) {
    const auto inner = [&](Index, Index) {
      const auto innermost = [&](Index, Index) { ++other_runs; };
      pool.run(2, innermost);
    };
    other.run(3, inner);
  };
  pool.run(5, across);
  EXPECT_EQ(other_runs, 30) << "two pools may call each other";
}

TEST(Executors, CopiesShareThreadsAndMayBeUsedFromSeveral) {
  const thread_pool pool(2);
  std::atomic<int> runs{0};
  std::vector<std::thread> users;
  for (int u = 0; u < 4; ++u)
    users.emplace_back([copy = pool, &runs] {
      const auto task = [&](Index, Index) { ++runs; };
      for (int i = 0; i < 200; ++i) copy.run(7, task);
    });
  for (auto& user : users) user.join();
  EXPECT_EQ(runs, 4 * 200 * 7);
}

TEST(Executors, BadThreadCountsAreNamed) {
  for (const Index threads : {0, -1, 1025}) {
    try {
      const thread_pool pool(threads);
      FAIL() << threads;
    } catch (const unsupported_error& e) {
      EXPECT_NE(std::string(e.what()).find(std::to_string(threads)), std::string::npos);
    }
  }
}

TEST(Context, CutsAtTheSameBoundariesForAnyThreads) {
  for (const Index n : {0, 1, 9, 10, 11, 100, 101})
    for (const Index threads : {1, 2, 3}) {
      Context ctx = Context::with_threads(threads);
      EXPECT_EQ(ctx.concurrency(), threads);
      std::mutex mutex;
      std::set<std::pair<Index, Index>> chunks;
      for_each_chunk(ctx, n, 10, [&](Context& worker, Index begin, Index end) {
        EXPECT_TRUE(n <= 10 || worker.concurrency() == 1);
        std::lock_guard lock(mutex);
        EXPECT_TRUE(chunks.emplace(begin, end).second);
      });
      std::set<std::pair<Index, Index>> expected;
      for (Index b = 0; b < n; b += 10) expected.emplace(b, std::min(n, b + 10));
      EXPECT_EQ(chunks, expected) << n << " of " << threads;
    }
}

TEST(Context, ForcesOneKernelAnOperation) {
  Context ctx;
  EXPECT_EQ(ctx.forced("gemm"), "");
  ctx.force("gemm:ref");
  ctx.force("map:avx2");
  ctx.force("gemm:xsimd");
  EXPECT_EQ(ctx.forced("gemm"), "gemm:xsimd");
  EXPECT_EQ(ctx.forced("map"), "map:avx2");
  EXPECT_EQ(ctx.forced("gem"), "");
  ctx.unforce("gemm");
  EXPECT_EQ(ctx.forced("gemm"), "");
  EXPECT_EQ(ctx.forced("map"), "map:avx2");
}

TEST(Context, WorkersInheritForcedKernels) {
  Context ctx = Context::with_threads(3);
  ctx.force("gemm:ref");
  std::atomic<int> right{0};
  for_each_chunk(ctx, 30, 1, [&](Context& worker, Index, Index) {
    if (worker.forced("gemm") == "gemm:ref" && worker.forced("map").empty()) ++right;
  });
  EXPECT_EQ(right, 30);
  ctx.unforce("gemm");
  for_each_chunk(ctx, 30, 1, [&](Context& worker, Index, Index) {
    if (worker.forced("gemm").empty()) ++right;
  });
  EXPECT_EQ(right, 60);
}

TEST(Context, TakesAUsersExecutor) {
  struct Backwards {
    std::shared_ptr<std::vector<Index>> order = std::make_shared<std::vector<Index>>();
    Index concurrency() const { return 2; }
    void run(Index pieces, Task task) const {
      for (Index p = pieces; p-- > 0;) {
        order->push_back(p);
        task(p, p % 2);
      }
    }
  };
  const Backwards executor;
  Context ctx(executor);
  Index sum = 0;
  for_each_chunk(ctx, 10, 3, [&](Context&, Index begin, Index end) { sum += end - begin; });
  EXPECT_EQ(sum, 10);
  EXPECT_EQ(*executor.order, (std::vector<Index>{3, 2, 1, 0}));
}

TEST(Context, DefaultIsOneForEachThread) {
  Context* here = &default_context();
  EXPECT_EQ(here, &default_context());
  Context* there = nullptr;
  std::thread([&] { there = &default_context(); }).join();
  EXPECT_NE(here, there);
}

}  // namespace
}  // namespace tessera
