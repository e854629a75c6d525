/// Attention against a naive one in Eigen (compiled for this machine), one thread each.
///   attention/f32/<heads>h<kv heads>kv<d>d/<tokens>    causal prefill, useful flops (the causal half), FMA roof
///   attention/bf16/…                                   the same with bf16 keys and values, queries and softmax weights
///   rounded to bf16
///   attention_decode/<codec>/<shape>/<context>         one query over a KV cache, bytes that the cache holds, read
///   roof; …/int8: queries and softmax weights rounded to 8 bits
///   attention_shared/f32/<shape>/<prefix>/<sequences>  one query of each sequence over a prefix that all share and 64
///   tokens of its own, FMA roof; apart: each sequence by itself over the same memory, parts merged
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <harness.hpp>
#include <peer_attention.hpp>
#include <tessera/attention/shared_prefix.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/kernels/attention/attention.hpp>
#include <tessera/kv/kv.hpp>
#include <tessera/nn/attention.hpp>

namespace {

using namespace tessera;

struct Shape {
  Index heads, kv_heads, d;
  std::string text() const { return detail::concat(heads, 'h', kv_heads, "kv", d, 'd'); }
};

struct Operands {
  Shape shape;
  Index n, m;
  Buffer<float> q, k, v, out;
  void make() {
    if (q.size() > 0) return;
    const auto fill = [](Buffer<float>& x, Index size, std::uint64_t seed) {
      x = Buffer<float>(size, uninitialized);
      const Philox draws(seed);
      for (Index i = 0; i < size; ++i) x[i] = draws.uniform(static_cast<std::uint64_t>(i)) - 0.5f;
    };
    fill(q, shape.heads * n * shape.d, 1);
    fill(k, shape.kv_heads * m * shape.d, 2);
    fill(v, shape.kv_heads * m * shape.d, 3);
    out = Buffer<float>(q.size());
  }
  View<const float, 3> Q() const { return {q.data(), {shape.heads, n, shape.d}}; }
  View<const float, 3> K() const { return {k.data(), {shape.kv_heads, m, shape.d}}; }
  View<const float, 3> V() const { return {v.data(), {shape.kv_heads, m, shape.d}}; }
  View<float, 3> O() { return {out.data(), {shape.heads, n, shape.d}}; }

  bench::Peer eigen(bool causal, std::shared_ptr<Operands> self) const {
    return {"eigen", [self, causal] {
              auto& x = *self;
              x.make();
              const Index group = x.shape.heads / x.shape.kv_heads, row = x.n * x.shape.d, kv = x.m * x.shape.d;
              for (Index h = 0; h < x.shape.heads; ++h)
                peers::eigen_attention(x.q.data() + h * row, x.k.data() + h / group * kv, x.v.data() + h / group * kv,
                                       x.out.data() + h * row, x.n, x.m, x.shape.d, causal);
            }};
  }
};

void prefill(Shape shape, Index n) {
  auto x = std::make_shared<Operands>(Operands{shape, n, n, {}, {}, {}, {}});
  auto ctx = std::make_shared<Context>();
  const double pairs = static_cast<double>(n) * static_cast<double>(n + 1) / 2;
  bench::row(
      detail::concat("attention/f32/", shape.text(), '/', n), "GFLOPs",
      4 * pairs * static_cast<double>(shape.heads * shape.d), [] { return bench::fma_roof<float>(); },
      [=] {
        x->make();
        attention(*ctx, x->Q(), x->K(), x->V(), x->O(), {.scale = {}, .causal = true});
      },
      {x->eigen(true, x)});
}

/// The peers: the same keys and values with nothing rounded, and f32.
void prefill_bf16(Shape shape, Index n) {
  auto x = std::make_shared<Operands>(Operands{shape, n, n, {}, {}, {}, {}});
  auto halves = std::make_shared<Buffer<bf16>>();
  auto ctx = std::make_shared<Context>();
  const double pairs = static_cast<double>(n) * static_cast<double>(n + 1) / 2;
  const auto run = [=](AttentionPrecision precision) {
    x->make();
    if (halves->size() == 0) {
      *halves = Buffer<bf16>(2 * x->k.size());
      for (Index i = 0; i < x->k.size(); ++i) {
        (*halves)[i] = bf16(x->k[i]);
        (*halves)[x->k.size() + i] = bf16(x->v[i]);
      }
    }
    const View<const bf16, 3> K(halves->data(), x->K().extents()), V(halves->data() + x->k.size(), x->V().extents());
    attention<float>(*ctx, x->Q(), K, V, x->O(), score_mods(), {.scale = {}, .causal = true, .precision = precision});
  };
  bench::row(
      detail::concat("attention/bf16/", shape.text(), '/', n), "GFLOPs",
      4 * pairs * static_cast<double>(shape.heads * shape.d), [] { return bench::fma_roof<float>(); },
      [=] { run(AttentionPrecision::bfloat16); },
      {{"exact", [=] { run(AttentionPrecision::exact); }}, {"f32", [=] {
                                                              x->make();
                                                              attention(*ctx, x->Q(), x->K(), x->V(), x->O(),
                                                                        {.scale = {}, .causal = true});
                                                            }}});
}

/// Counted as what it needs, 2.5 times the forward pass's flops; the peer is that forward pass.
void backward(Shape shape, Index n) {
  auto x = std::make_shared<Operands>(Operands{shape, n, n, {}, {}, {}, {}});
  auto gradients = std::make_shared<Buffer<float>>();
  auto ctx = std::make_shared<Context>();
  const double pairs = static_cast<double>(n) * static_cast<double>(n + 1) / 2;
  const auto batch = [](auto view) {
    using T = std::remove_reference_t<decltype(*view.data())>;
    return View<T, 4>(view.data(), {1, view.extent(0), view.extent(1), view.extent(2)});
  };
  const auto forward = [=] {
    x->make();
    if (gradients->size() == 0) *gradients = Buffer<float>(3 * x->q.size() + shape.heads * n);
    nn::attention<float>(*ctx, batch(x->Q()), batch(x->K()), batch(x->V()), batch(x->O()),
                         {.scale = {}, .causal = true},
                         View<float, 3>(gradients->data() + 3 * x->q.size(), {1, shape.heads, n}));
  };
  bench::row(
      detail::concat("attention_backward/f32/", shape.text(), '/', n), "GFLOPs",
      10 * pairs * static_cast<double>(shape.heads * shape.d), [] { return bench::fma_roof<float>(); },
      [=] {
        if (gradients->size() == 0) forward();
        const auto part = [&](Index i) {
          return View<float, 4>(gradients->data() + i * x->q.size(), {1, shape.heads, n, shape.d});
        };
        nn::attention_backward<float>(*ctx, batch(x->Q()), batch(x->K()), batch(x->V()), batch(x->O()),
                                      View<float, 3>(gradients->data() + 3 * x->q.size(), {1, shape.heads, n}),
                                      batch(x->Q()), part(0), part(1), part(2), {.scale = {}, .causal = true});
      },
      {{"forward", forward}});
}

void decode(const std::string& codec, Shape shape, Index context,
            AttentionPrecision precision = AttentionPrecision::exact) {
  auto x = std::make_shared<Operands>(Operands{shape, 1, context, {}, {}, {}, {}});
  auto ctx = std::make_shared<Context>();
  auto cache = std::make_shared<kv::AnyKvCache>(kv::make_kv_cache(codec, shape.kv_heads, shape.d));
  auto memory = std::make_shared<Buffer<float>>();
  const auto fill = [=] {
    if (cache->tokens() > 0) return;
    x->make();
    cache->append(*ctx, x->K(), x->V());
  };
  {  // the bytes held do not depend on the content
    kv::AnyKvCache counted = *cache;
    const Buffer<float> zeros(shape.kv_heads * context * shape.d);
    const View<const float, 3> Z(zeros.data(), {shape.kv_heads, context, shape.d});
    counted.append(*ctx, Z, Z);
    const auto bytes = static_cast<double>(counted.bytes());
    bench::row(
        detail::concat("attention_decode/", codec, '/', shape.text(), '/', context,
                       precision == AttentionPrecision::exact ? "" : "/int8"),
        "GBs", bytes,
        [=] {
          // As many bytes as the cache holds: the same level of memory.
          if (memory->size() == 0) *memory = Buffer<float>(std::max<Index>(static_cast<Index>(bytes) / 4, 1 << 14));
          return bench::read_roof(*memory);
        },
        [=] {
          fill();
          cache->attend(*ctx, x->Q(), x->O(), {.scale = {}, .causal = true, .precision = precision});
        },
        {x->eigen(false, x)});
  }
}

void shared(Shape shape, Index prefix, Index batch) {
  constexpr Index suffix = 64;
  // One sequence's operands over the prefix; queries and suffixes of all are taken from the same fill.
  auto x = std::make_shared<Operands>(Operands{shape, batch, prefix, {}, {}, {}, {}});
  auto parts = std::make_shared<Buffer<float>>();
  auto ctx = std::make_shared<Context>();
  const auto own = [=](Index b) {
    const View<const float, 3> K = x->K().slice(1, b % 7 * suffix, suffix), V = x->V().slice(1, b % 5 * suffix, suffix);
    return SequenceSuffix<float>{K, V};
  };
  const auto sequence = [=](float* data, Index b) {
    return View<float, 3>(data + b * shape.heads * shape.d, {shape.heads, 1, shape.d});
  };
  const double heads_d = static_cast<double>(shape.heads * shape.d);
  bench::row(
      detail::concat("attention_shared/f32/", shape.text(), '/', prefix, '/', batch), "GFLOPs",
      4 * heads_d * static_cast<double>(batch * (prefix + suffix)), [] { return bench::fma_roof<float>(); },
      [=] {
        x->make();
        std::vector<SequenceSuffix<float>> suffixes;
        for (Index b = 0; b < batch; ++b) suffixes.push_back(own(b));
        shared_prefix_attention(*ctx, View<const float, 4>(x->q.data(), {batch, shape.heads, 1, shape.d}), x->K(),
                                x->V(), suffixes, View<float, 4>(x->out.data(), {batch, shape.heads, 1, shape.d}));
      },
      {{"apart", [=] {
          x->make();
          if (parts->size() == 0) *parts = Buffer<float>(shape.heads * (shape.d + 2));
          const View<float, 3> part(parts->data(), {shape.heads, 1, shape.d});
          const MatrixView<float> a(parts->data() + part.size(), shape.heads, 1);
          const MatrixView<float> b(a.data() + shape.heads, shape.heads, 1);
          for (Index s = 0; s < batch; ++s) {
            const auto Q = sequence(x->q.data(), s), out = sequence(x->out.data(), s);
            attention<float>(*ctx, Q, x->K(), x->V(), out, {}, a);
            attention<float>(*ctx, Q, own(s).K, own(s).V, part, {}, b);
            merge_states<float>(*ctx, part, b, out, a);
          }
        }}});
}

}  // namespace

int main(int argc, char** argv) {
  for (const Index n : {512, 1024, 2048}) prefill({8, 8, 128}, n);
  prefill({32, 8, 128}, 1024);
  prefill({8, 8, 64}, 1024);
  for (const Index n : {512, 2048}) prefill_bf16({8, 8, 128}, n);
  backward({8, 8, 128}, 2048);
  prefill({8, 4, 32}, 512);
  for (const char* codec : {"f32", "bf16", "f16", "int8", "int4", "int3", "int2"}) {
    for (const Index context : {4096, 16384, 32768}) decode(codec, {32, 8, 128}, context);
    decode(codec, {8, 8, 128}, 16384);
    decode(codec, {8, 4, 32}, 512);
  }
  for (const char* codec : {"int8", "int4", "int3", "int2"}) {
    for (const Index context : {4096, 16384, 32768}) decode(codec, {32, 8, 128}, context, AttentionPrecision::int8);
    decode(codec, {8, 8, 128}, 16384, AttentionPrecision::int8);
  }
  shared({32, 8, 128}, 16384, 64);
  shared({32, 32, 128}, 4096, 64);
  return tessera::bench::run_rows(argc, argv);
}
