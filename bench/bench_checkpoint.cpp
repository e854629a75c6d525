/// What checkpoints at every step cost a training: how long a step waits for AsyncCheckpoint, and for a blocking save
/// of the same tensors. Wall-clock time, as who waits takes no processor's. checkpoint_stall/f32/<parameters>/<how many
/// blocking saves a step's other work takes>: medians in ms, and their ratio.

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include <harness.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/optim/alias.hpp>
#include <tessera/optim/checkpoint.hpp>

namespace {

using namespace tessera;
using namespace tessera::optim;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

template <class F>
double timed(F&& f) {
  const double start = now();
  f();
  return now() - start;
}

struct Training {
  Buffer<float> w, g, a{256 * 256}, b{256 * 256}, c{256 * 256};
  Parameters<float> params{{"w", std::span<float>(w)}}, grads{{"w", std::span<float>(g)}};
  Context ctx;
  decltype(adamw(1e-3)) opt = adamw(1e-3);
  decltype(opt.init(Parameters<float>{})) state = opt.init(params);
  explicit Training(Index n) : w(n), g(n) { std::fill(g.begin(), g.end(), 0.1f); }
  void passes(double seconds) {
    const auto square = [](Buffer<float>& x) { return MatrixView<float>(x.data(), 256, 256); };
    for (const double end = now() + seconds; now() < end;) gemm<float>(ctx, 1, square(a), square(b), 0, square(c));
  }
};

void stall_row(Index n, int saves) {
  benchmark::RegisterBenchmark(
      tessera::detail::concat("checkpoint_stall/f32/", n, '/', saves).c_str(),
      [=](benchmark::State& bench) {
        namespace fs = std::filesystem;
        const fs::path dir = fs::temp_directory_path() / ("bench_checkpoint." + std::to_string(::getpid()));
        fs::create_directory(dir);
        Training t(n);
        for (auto _ : bench) {
          std::vector<double> blocking, stalls;
          for (int i = 0; i < 5; ++i)
            blocking.push_back(timed([&] { save_checkpoint(dir / "blocking", t.params, t.state); }));
          const double blocks = bench::median(blocking);
          {
            AsyncCheckpoint checkpoint(dir / "beside");
            for (int step = 0; step < 12; ++step) {
              t.passes(saves * blocks);
              const double before = timed([&] { checkpoint.before_update(); });
              t.opt.update(t.ctx, t.grads, t.state, t.params);
              const double after = timed([&] { checkpoint.save(t.params, t.state); });
              if (step > 1) stalls.push_back(before + after);  // both copies have their pages
            }
            checkpoint.wait();
          }
          const double stall = bench::median(stalls);
          bench.SetIterationTime(stall);
          bench.counters["stall_ms"] = 1e3 * stall;
          bench.counters["worst_ms"] = 1e3 * *std::max_element(stalls.begin(), stalls.end());
          bench.counters["blocking_ms"] = 1e3 * blocks;
          bench.counters["share"] = stall / blocks;
        }
        fs::remove_all(dir);
      })
      ->UseManualTime()
      ->Iterations(1);
}

}  // namespace

int main(int argc, char** argv) {
  for (const int saves : {1, 2, 4}) stall_row(10000000, saves);
  return bench::run_rows(argc, argv);
}
