/// One row of a benchmark: this library, its peers and the roof, taken in turns in one run, medians.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <probes.hpp>

namespace tessera::bench {

struct Peer {
  std::string name;           // the counter is vs_<name>
  std::function<void()> run;  // the same work
};

inline double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Seconds of one call: the median of several rounds in which everything takes its turn.
struct Rounds {
  double ours = 0, roof = 0;
  std::vector<double> peers;
};

inline Rounds take_turns(const std::function<double()>& roof, const std::function<void()>& run,
                         const std::vector<Peer>& peers) {
  constexpr int rounds = 15;
  const auto repeat = [](const std::function<void()>& f, int count) {
    const double start = seconds();
    for (int i = 0; i < count; ++i) f();
    return (seconds() - start) / count;
  };
  const auto calls = [&](const std::function<void()>& f) {  // as many as take a millisecond or two
    repeat(f, 1);
    return static_cast<int>(std::clamp(1.5e-3 / std::min(repeat(f, 1), repeat(f, 1)), 1.0, 1e6));
  };
  std::vector<int> counts{calls(run)};
  for (const auto& peer : peers) counts.push_back(calls(peer.run));
  std::vector<double> limit;
  std::vector<std::vector<double>> times(counts.size());
  for (int r = 0; r < rounds; ++r) {
    if (roof) limit.push_back(roof());
    times[0].push_back(repeat(run, counts[0]));
    for (std::size_t p = 0; p < peers.size(); ++p) times[p + 1].push_back(repeat(peers[p].run, counts[p + 1]));
  }
  Rounds result{median(times[0]), roof ? median(limit) : 0, {}};
  for (std::size_t p = 0; p < peers.size(); ++p) result.peers.push_back(median(times[p + 1]));
  return result;
}

/// Registers `name`. `work` is what one call of `run` does: flops for `unit` "GFLOPs", bytes for "GBs". `roof` measures
/// the limit in the same unit; none where that is unknown. Counters: `unit`, roof (0..1), vs_<peer> (>1: we are
/// faster).
inline void row(const std::string& name, const std::string& unit, double work, const std::function<double()>& roof,
                const std::function<void()>& run, const std::vector<Peer>& peers = {}) {
  auto rounds = std::make_shared<std::optional<Rounds>>();  // the library calls a benchmark more than once
  benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
    if (!*rounds) *rounds = take_turns(roof, run, peers);
    for (auto _ : state) run();
    const double rate = work / (*rounds)->ours * 1e-9;
    state.counters[unit] = rate;
    if ((*rounds)->roof > 0) state.counters["roof"] = rate / (*rounds)->roof;
    for (std::size_t p = 0; p < peers.size(); ++p)
      state.counters["vs_" + peers[p].name] = (*rounds)->peers[p] / (*rounds)->ours;
  })->Unit(benchmark::kMicrosecond);
}

/// Runs the registered rows with the command line of Google Benchmark.
inline int run_rows(int argc, char** argv) {
  std::vector<char*> arguments(argv, argv + argc);
  std::string brief = "--benchmark_min_time=0.02";  // what counts is measured in turns
  arguments.insert(arguments.begin() + 1, brief.data());
  int count = static_cast<int>(arguments.size());
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace tessera::bench
