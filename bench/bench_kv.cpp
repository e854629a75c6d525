/// Storages of KV caches against each other: kv_decode/<codec>/<shape>/<tokens>/<storage>, kv_append/... (one token at
/// a time into an empty cache), kv_fork/... (a fork is made and freed), kv_beam/... (a fork takes its parent's place,
/// which is freed, and a token), kv_append_worst/... (microseconds, the slowest of the tokens), and batch_decode/...:
/// one step of a layer's product with its weights and attention for a batch, against each request by itself.
/// kv_decode/int2/... is by f16, and prints what either holds and keeps resident.
/// What policies cost: kv_step/<codec>/<shape>/<tokens kept>/<policy>/<steps>, append and attend that many times and
/// evict once, against the same without policy and tracking (1 - vs_plain is the policy's share of the step), or
/// against the full cache. Caches as streams: cachegen_encode/... and cachegen_decode/..., bytes of f16 numbers.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include <harness.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/kv/kv.hpp>
#include <tessera/kv/mergers/nearest.hpp>

namespace {

using namespace tessera;
using kv::AnyKvCache;

constexpr Index heads = 32, kv_heads = 8, d = 128;
const std::string shape = "32h8kv128d";

Buffer<float> numbers(Index size, std::uint64_t seed) {
  Buffer<float> x(size, uninitialized);
  const Philox draws(seed);
  for (Index i = 0; i < size; ++i) x[i] = draws.uniform(static_cast<std::uint64_t>(i)) - 0.5f;
  return x;
}
/// (heads, n, d), the same numbers at every call.
View<const float, 3> tokens(Index count, Index n) {
  static const Buffer<float> all = numbers(heads * 16384 * d / 4, 1);
  return {all.data(), {count, n, d}};
}

template <class C, class Storage>
std::shared_ptr<AnyKvCache> filled(Context& ctx, Index n) {
  auto cache = std::make_shared<AnyKvCache>(kv::KvCache<C, Storage>(kv_heads, d));
  cache->append(ctx, tokens(kv_heads, n), tokens(kv_heads, n));
  return cache;
}

template <class C>
void decode(Index n) {
  struct State {
    Context ctx;
    std::vector<std::shared_ptr<AnyKvCache>> caches;
    Buffer<float> memory, out = Buffer<float>(heads * d);
  };
  auto state = std::make_shared<State>();
  const auto attend = [state, n](std::size_t which) {
    return [state, n, which] {
      if (state->caches.empty()) {
        state->caches = {filled<C, kv::Virtual>(state->ctx, n), filled<C, kv::Contiguous>(state->ctx, n),
                         filled<C, kv::Paged>(state->ctx, n), filled<C, kv::PagedBy<16>>(state->ctx, n)};
        state->caches.push_back(std::make_shared<AnyKvCache>(filled<C, kv::Virtual>(state->ctx, n)->fork()));
      }
      state->caches[which]->attend(state->ctx, tokens(heads, 1), View<float, 3>(state->out.data(), {heads, 1, d}));
    };
  };
  Context counting;
  const auto bytes = static_cast<double>(filled<C, kv::Contiguous>(counting, n)->bytes());
  bench::row(
      tessera::detail::concat("kv_decode/", C::name, '/', shape, '/', n, "/virtual"), "GBs", bytes,
      [=] {
        if (state->memory.size() == 0) state->memory = Buffer<float>(static_cast<Index>(bytes) / 4);
        return bench::read_roof(state->memory);
      },
      attend(0),
      {{"contiguous", attend(1)}, {"paged64", attend(2)}, {"paged16", attend(3)}, {"virtual_forked", attend(4)}});
}

/// MiB of this process that are resident; 0 where that cannot be known.
double resident_mib() {
  std::ifstream file("/proc/self/smaps_rollup");
  for (std::string word; file >> word;)
    if (word == "Rss:") {
      double kib = 0;
      file >> kib;
      return kib / 1024;
    }
  return 0;
}
/// KIVI's two bits beside f16, both in reserved memory. One pair is held at a time: they take 200 MB.
struct TwoBits {
  kv::Kivi<2> codec;
  Index n = 0;
  Context ctx;
  std::shared_ptr<AnyKvCache> coded, half;

  TwoBits(const kv::Kivi<2>& of, Index tokens_held) : codec(of), n(tokens_held) {
    fill(kv::KvCache<kv::Kivi<2>, kv::Virtual>(kv_heads, d, codec));  // scratch of either is there
    const double before = resident_mib();
    half = fill(kv::KvCache<kv::F16, kv::Virtual>(kv_heads, d));
    const double between = resident_mib();
    coded = fill(kv::KvCache<kv::Kivi<2>, kv::Virtual>(kv_heads, d, codec));
    const auto error = [&](AttentionPrecision precision) {
      const Buffer<float> got = attended(*coded, heads, precision), wanted = attended(*half, heads, {});
      double moved = 0, size = 0;
      for (Index i = 0; i < got.size(); ++i) {
        moved += std::pow(static_cast<double>(got[i] - wanted[i]), 2);
        size += std::pow(static_cast<double>(wanted[i]), 2);
      }
      return std::sqrt(moved / size);
    };
    std::printf("kv_resident/int2/8kv128d/%ld/group%ld,%ld of f16: bytes()=%.4f resident=%.4f error=%.4f int8=%.4f\n",
                static_cast<long>(n), static_cast<long>(codec.group), static_cast<long>(codec.value_group),
                static_cast<double>(coded->bytes()) / static_cast<double>(half->bytes()),
                (resident_mib() - between) / (between - before), error({}), error(AttentionPrecision::int8));
  }
  /// (queries, 1, d)
  Buffer<float> attended(AnyKvCache& cache, Index queries, AttentionPrecision precision) {
    Buffer<float> out(queries * d);
    cache.attend(ctx, tokens(queries, 1), View<float, 3>(out.data(), {queries, 1, d}),
                 {.scale = {}, .causal = true, .precision = precision});
    return out;
  }
  template <class Cache>
  std::shared_ptr<AnyKvCache> fill(Cache cache) {
    for (Index t = 0; t < n; t += 4096) cache.append(ctx, tokens(kv_heads, 4096), tokens(kv_heads, 4096));
    return std::make_shared<AnyKvCache>(std::move(cache));
  }
  static TwoBits& held(const kv::Kivi<2>& codec, Index n) {
    static std::unique_ptr<TwoBits> one;
    if (!one || one->codec.group != codec.group || one->codec.value_group != codec.value_group || one->n != n) {
      one.reset();
      one = std::make_unique<TwoBits>(codec, n);
    }
    return *one;
  }
};
/// kv_decode/int2/<shape>/<tokens>/group<tokens, channels that share a grid>/<precision>, against f16, and what either
/// takes: bytes() and resident memory over the f16 cache's, and how far attention is from its. GB/s of codes, scales
/// and zero points.
void decode_two_bits(Index queries, Index n, Index group, Index value_group, AttentionPrecision precision) {
  const kv::Kivi<2> codec{.group = group, .value_group = value_group};
  const auto attend = [=](bool coded) {
    return [=] {
      TwoBits& caches = TwoBits::held(codec, n);
      caches.attended(coded ? *caches.coded : *caches.half, queries, coded ? precision : AttentionPrecision::exact);
    };
  };
  const double bits = 2 * 2 + 32.0 / static_cast<double>(group) + 32.0 / static_cast<double>(value_group);
  auto memory = std::make_shared<Buffer<float>>();
  bench::row(tessera::detail::concat("kv_decode/int2/", queries, "h8kv128d/", n, "/group", group, ',', value_group,
                                     precision == AttentionPrecision::int8 ? "/int8" : "/exact"),
             "GBs", static_cast<double>(kv_heads * n * d) * bits / 8,
             [=] {
               if (memory->size() == 0) *memory = Buffer<float>(1 << 25);
               return bench::read_roof(*memory);
             },
             attend(true), {{"f16", attend(false)}});
}

template <class Storage>
void append_all(Context& ctx, Index n, std::vector<double>* latency = nullptr) {
  kv::KvCache<kv::F32, Storage> cache(kv_heads, d);
  for (Index t = 0; t < n; ++t) {
    const double start = latency != nullptr ? bench::seconds() : 0;
    cache.append(ctx, tokens(kv_heads, 1), tokens(kv_heads, 1));
    if (latency != nullptr) latency->push_back(bench::seconds() - start);
  }
}
void append(Index n) {
  auto ctx = std::make_shared<Context>();
  bench::row(tessera::detail::concat("kv_append/f32/", shape, '/', n, "/virtual"), "GBs",
             static_cast<double>(8 * n * kv_heads * d), {}, [=] { append_all<kv::Virtual>(*ctx, n); },
             {{"contiguous", [=] { append_all<kv::Contiguous>(*ctx, n); }},
              {"paged64", [=] { append_all<kv::Paged>(*ctx, n); }}});
}
template <class Storage>
void append_worst(const std::string& storage, Index n) {
  const std::string name = tessera::detail::concat("kv_append_worst/f32/", shape, '/', n, '/', storage);
  benchmark::RegisterBenchmark(name.c_str(), [n](benchmark::State& state) {
    Context ctx;
    std::vector<double> worst, middle;
    for (int round = 0; round < 9; ++round) {
      std::vector<double> latency;
      append_all<Storage>(ctx, n, &latency);
      worst.push_back(*std::max_element(latency.begin(), latency.end()));
      middle.push_back(bench::median(latency));
    }
    for (auto _ : state) {
    }
    state.counters["worst_us"] = bench::median(worst) * 1e6;
    state.counters["median_us"] = bench::median(middle) * 1e6;
  });
}

void fork(Index n) {
  struct State {
    Context ctx;
    std::vector<std::shared_ptr<AnyKvCache>> caches;
  };
  auto state = std::make_shared<State>();
  const auto with = [state, n](std::size_t which, bool beam) {
    return [state, n, which, beam] {
      if (state->caches.empty())
        state->caches = {filled<kv::F32, kv::Virtual>(state->ctx, n), filled<kv::F32, kv::Contiguous>(state->ctx, n),
                         filled<kv::F32, kv::Paged>(state->ctx, n)};
      AnyKvCache& cache = *state->caches[which];
      if (cache.size(0) > n + 64) cache.truncate(n);
      AnyKvCache child = cache.fork();
      if (!beam) return;
      child.append(state->ctx, tokens(kv_heads, 1), tokens(kv_heads, 1));
      cache = std::move(child);
    };
  };
  for (const bool beam : {false, true})
    bench::row(tessera::detail::concat(beam ? "kv_beam/f32/" : "kv_fork/f32/", shape, '/', n, "/virtual"), "GBs",
               static_cast<double>(8 * n * kv_heads * d), {}, with(0, beam),
               {{"contiguous", with(1, beam)}, {"paged64", with(2, beam)}});
}

void batch_decode(Index batch, Index n) {
  constexpr Index width = heads * d, projected = (heads + 2 * kv_heads) * d;
  struct State {
    Context ctx;
    Buffer<float> weights, x, qkv, out;
    std::vector<AnyKvCache> caches;
  };
  auto state = std::make_shared<State>();
  const auto prepare = [=] {
    State& s = *state;
    if (s.weights.size() == 0) {
      s.weights = numbers(projected * width, 3);
      s.x = numbers(batch * width, 4);
      s.qkv = Buffer<float>(batch * projected);
      s.out = Buffer<float>(batch * width);
      for (Index b = 0; b < batch; ++b) s.caches.push_back(*filled<kv::F16, kv::Virtual>(s.ctx, n + b * n / batch));
    }
    for (Index b = 0; b < batch; ++b) s.caches[static_cast<std::size_t>(b)].truncate(n + b * n / batch);
  };
  const auto step = [=](Index begin, Index count) {  // requests [begin, begin + count)
    State& s = *state;
    float* const qkv = s.qkv.data() + begin * projected;
    gemm(s.ctx, 1.0f, MatrixView<const float>(s.x.data() + begin * width, count, width),
         MatrixView<const float>(s.weights.data(), projected, width).transposed(), 0.0f,
         MatrixView<float>(qkv, count, projected));
    const auto part = [&](Index from, Index some) {
      return View<const float, 3>(qkv + from * d, {count, some, d}, {projected, d, 1});
    };
    ragged_batch_decode(s.ctx, part(0, heads), part(heads, kv_heads), part(heads + kv_heads, kv_heads),
                        std::span(s.caches).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count)),
                        View<float, 3>(s.out.data() + begin * width, {count, heads, d}));
  };
  bench::row(tessera::detail::concat("batch_decode/f16/", shape, '/', n, "/x", batch), "GBs",
             static_cast<double>(4 * projected * width), {},
             [=] {
               prepare();
               step(0, batch);
             },
             {{"apart",
               [=] {
                 prepare();
                 for (Index b = 0; b < batch; ++b) step(b, 1);
               }},
              {"one", [=] {
                 prepare();
                 step(0, 1);
               }}});
}

/// `prepare(cache)` tracks what the policy reads; its probe is the step's queries if it `probes`. The peer holds `full`
/// tokens.
template <class C, class Prepare, class Policy>
void step(const std::string& name, Index kept, Index full, Index steps, const Prepare& prepare, const Policy& policy,
          bool probes = false) {
  struct State {
    Context ctx;
    std::vector<std::shared_ptr<AnyKvCache>> caches;
    Buffer<float> memory, out = Buffer<float>(heads * d);
  };
  auto state = std::make_shared<State>();
  const auto run = [=](std::size_t which) {
    return [=] {
      State& s = *state;
      if (s.caches.empty()) {
        for (const Index n : {kept, full}) s.caches.push_back(filled<C, kv::Contiguous>(s.ctx, n));
        prepare(*s.caches[0]);
      }
      AnyKvCache& cache = *s.caches[which];
      for (Index i = 0; i < steps; ++i) {
        cache.append(s.ctx, tokens(kv_heads, 1), tokens(kv_heads, 1));
        cache.attend(s.ctx, tokens(heads, 1), View<float, 3>(s.out.data(), {heads, 1, d}));
      }
      if (which == 1)
        cache.truncate(full);
      else if (probes)
        cache.compress(s.ctx, policy, {.queries = tokens(heads, 32), .report = false});
      else
        cache.compress(s.ctx, policy);
    };
  };
  Context counting;
  const auto bytes = static_cast<double>(filled<C, kv::Contiguous>(counting, kept)->bytes());
  bench::row(tessera::detail::concat("kv_step/", C::name, '/', shape, '/', kept, '/', name, '/', steps), "GBs",
             bytes * static_cast<double>(steps),
             [=] {
               if (state->memory.size() == 0) state->memory = Buffer<float>(static_cast<Index>(bytes) / 4);
               return bench::read_roof(state->memory);
             },
             run(0), {{full == kept ? "plain" : "full", run(1)}});
}
template <class C>
void steps(Index kept, Index room) {
  using namespace kv;
  const auto none = [](AnyKvCache&) {};
  step<C>("streaming_llm", kept, kept, room, none, window({.sinks = 4, .recent = kept - 4, .room = room}));
  step<C>("key_norm", kept, kept, room, none,
          score(KeyNorm{}) | protect(recent(64)) | keep_at_most(kept) | evict(room));
  step<C>(
      "h2o", kept, kept, room, [](AnyKvCache& cache) { cache.track(AttentionSums{}); },
      score(AccumulatedAttention{}) | protect(recent(kept / 2)) | keep_at_most(kept) | evict(room));
  step<C>(
      "tova", kept, kept, room, [](AnyKvCache& cache) { cache.track(window_sums(1, 1)); },
      score(WindowAttention{}) | keep_at_most(kept) | evict(room));
  step<C>(
      "lazy_eviction", kept, kept, room, [](AnyKvCache& cache) { cache.track(Recurrence{}); },
      score(LazyEviction{}) | protect(recent(room)) | keep_at_most(kept) | evict(room));
  step<C>(
      "h2o_half", kept / 2, kept, room, [](AnyKvCache& cache) { cache.track(AttentionSums{}); },
      score(AccumulatedAttention{}) | protect(recent(kept * 3 / 20)) | keep_at_most(kept / 2) | evict(room));
  step<C>(
      "ems", kept, kept, room,
      [](AnyKvCache& cache) {
        cache.track(AttentionSums{});
        cache.track(window_sums(32, 4));
      },
      score(GlobalLocal{}) | protect(recent(64)) | keep_at_most(kept) | merge(EmsMerge{}, {.room = room}));
  step<C>(
      "kv_merger", kept, kept, room, [](AnyKvCache& cache) { cache.track(AttentionSums{}); },
      score(AccumulatedAttention{}) | protect(recent(64)) | keep_at_most(kept) | merge(MergeSets{}, {.room = room}));
  step<C>("snap_kv", kept, kept, room, none, score(SnapKv{}) | keep_at_most(kept) | evict(room), true);
  step<C>(
      "keyformer", kept / 2, kept, room, [](AnyKvCache& cache) { cache.track(GumbelSums({.seed = 1})); },
      score(Keyformer{}) | protect(recent(kept * 3 / 20)) | keep_at_most(kept / 2) | evict(room));
}

/// Channels of sizes of their own, tokens alike: x_t = 0.95 x_(t-1) + noise.
std::vector<kv::LayerView> alike(Index layers, Index n) {
  static std::vector<Buffer<float>> memory;
  const auto one = [&](std::uint64_t seed) {
    memory.push_back(Buffer<float>(kv_heads * n * d, uninitialized));
    const Philox draws(seed), sizes(seed + 1);
    float* const x = memory.back().data();
    for (Index h = 0; h < kv_heads; ++h)
      for (Index c = 0; c < d; ++c) {
        const auto size = static_cast<float>(std::abs(sizes.normal(static_cast<std::uint64_t>(h * d + c))));
        float value = 0;
        for (Index t = 0; t < n; ++t) {
          const auto at = (h * n + t) * d + c;
          const auto noise = static_cast<float>(draws.normal(static_cast<std::uint64_t>(at)));
          value = t == 0 ? noise : 0.95f * value + 0.3122f * noise;
          x[at] = size * value;
        }
      }
    return View<const float, 3>(x, {kv_heads, n, d});
  };
  std::vector<kv::LayerView> all;
  for (Index l = 0; l < layers; ++l) {
    const auto K = one(static_cast<std::uint64_t>(4 * l + 1));
    all.push_back({K, one(static_cast<std::uint64_t>(4 * l + 3))});
  }
  return all;
}
void cachegen(Index layers, Index n, int level, Index threads) {
  struct State {
    Context ctx;
    std::vector<kv::LayerView> views;
    kv::Bytes stream;
  };
  auto state = std::make_shared<State>();
  state->ctx = Context::with_threads(threads);
  const auto encode = [=] {
    State& s = *state;
    if (s.views.empty()) s.views = alike(layers, n);
    s.stream = kv::cachegen_encode(s.ctx, s.views, 0, {.level = level});
  };
  const double bytes = 2.0 * 2 * static_cast<double>(layers * kv_heads * n * d);
  const std::string rest = tessera::detail::concat('/', layers, "x8kv128d/", n, "/level", level, '/', threads);
  bench::row("cachegen_encode" + rest, "GBs", bytes, {}, encode);
  bench::row("cachegen_decode" + rest, "GBs", bytes, {}, [=] {
    if (state->stream.empty()) encode();
    std::span<const std::uint8_t> stream = state->stream;
    kv::cachegen_decode(state->ctx, stream);
  });
}

}  // namespace

int main(int argc, char** argv) {
  for (const Index n : {4096, 16384}) {
    decode<kv::F32>(n);
    decode<kv::F16>(n);
    decode<kv::Int8>(n);
  }
  for (const Index queries : {heads, kv_heads})
    for (const auto precision : {AttentionPrecision::exact, AttentionPrecision::int8}) {
      decode_two_bits(queries, 32768, 32, 32, precision);
      decode_two_bits(queries, 32768, 128, 32, precision);
      decode_two_bits(queries, 32768, 128, 64, precision);
      decode_two_bits(queries, 32768, 128, 128, precision);
    }
  for (const Index n : {1024, 4096}) append(n);
  append_worst<kv::Virtual>("virtual", 4096);
  append_worst<kv::Contiguous>("contiguous", 4096);
  append_worst<kv::Paged>("paged64", 4096);
  fork(4096);
  batch_decode(8, 256);
  steps<kv::F32>(8192, 64);
  for (const int level : {0, 1, 3})
    for (const Index threads : {1, 2}) cachegen(4, 1024, level, threads);
  return tessera::bench::run_rows(argc, argv);
}
