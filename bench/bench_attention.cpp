/// Attention against a naive one in Eigen (compiled for this machine), one thread each.
///   attention/f32/<heads>h<kv heads>kv<d>d/<tokens>    causal prefill, useful flops (the causal half), FMA roof
///   attention_decode/<codec>/<shape>/<context>         one query over a KV cache, bytes that the cache holds, read
///   roof
#include <algorithm>
#include <memory>
#include <string>

#include <harness.hpp>
#include <peer_attention.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/kernels/attention/attention.hpp>
#include <tessera/kv/kv.hpp>

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

void decode(const std::string& codec, Shape shape, Index context) {
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
        detail::concat("attention_decode/", codec, '/', shape.text(), '/', context), "GBs", bytes,
        [=] {
          // As many bytes as the cache holds: the same level of memory.
          if (memory->size() == 0) *memory = Buffer<float>(std::max<Index>(static_cast<Index>(bytes) / 4, 1 << 14));
          return bench::read_roof(*memory);
        },
        [=] {
          fill();
          cache->attend(*ctx, x->Q(), x->O());
        },
        {x->eigen(false, x)});
  }
}

}  // namespace

int main(int argc, char** argv) {
  for (const Index n : {512, 1024, 2048}) prefill({8, 8, 128}, n);
  prefill({8, 8, 64}, 1024);
  prefill({8, 4, 32}, 512);
  for (const char* codec : {"f32", "bf16", "int8", "int4", "int2"}) {
    for (const Index context : {4096, 16384}) decode(codec, {32, 8, 128}, context);
    decode(codec, {8, 8, 128}, 16384);
    decode(codec, {8, 4, 32}, 512);
  }
  return tessera::bench::run_rows(argc, argv);
}
