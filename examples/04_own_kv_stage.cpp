// Your own KV-cache policy: a scorer and a stage, in one chain with those of the library.
#include <cmath>
#include <cstdio>
#include <tessera/core/rng.hpp>
#include <tessera/kv/kv.hpp>
#include <vector>

using namespace tessera;      // NOLINT(google-build-using-namespace)
using namespace tessera::kv;  // NOLINT(google-build-using-namespace)

// A scorer gives each token of a head a number; higher stays longer. Here: the size of what the token would add to the
// output if all weights were equal.
struct ValueNorm {
  static constexpr Needs needs = Needs::values;
  static constexpr bool tokenwise = true;  // called a tile at a time: packed caches are never unpacked as a whole
  void operator()(Context&, const KvTokens& tokens, std::span<float> score) const {
    for (Index t = 0; t < tokens.values.rows(); ++t) {
      float sum = 0;
      for (Index c = 0; c < tokens.values.cols(); ++c) sum += tokens.values(t, c) * tokens.values(t, c);
      score[static_cast<std::size_t>(t)] = std::sqrt(sum);
    }
  }
};

// A stage says what it needs and what it gives; chains that make no sense do not compile. Here: of the tokens older
// than `age`, only every second one may stay.
struct ThinOut {
  Index age;
  static constexpr Facts needs = Facts::scores, too_late_after = Facts::selection, gives = Facts::none,
                         ends = Facts::none;
  static constexpr bool preserves_positions = true;
  void operator()(const StageContext& context) const {
    for (HeadDraft& head : context.heads)
      for (Index t = 1; t < head.tokens - age; t += 2) head.score[static_cast<std::size_t>(t)] = -INFINITY;
  }
};

template <class A, class B>
concept Composes = requires(A a, B b) {
  a | b;
};
static_assert(!Composes<ThinOut, Evict>, "nothing was selected: refused by the compiler");

int main() {
  constexpr Index kv_heads = 2, tokens = 400, d = 64;
  const Philox draws(1);
  std::vector<float> K(kv_heads * tokens * d), V(K.size()), Q(4 * 8 * d);
  for (std::size_t i = 0; i < K.size(); ++i) K[i] = static_cast<float>(draws.normal(i));
  for (std::size_t i = 0; i < K.size(); ++i) V[i] = static_cast<float>(draws.normal(K.size() + i));
  for (std::size_t i = 0; i < Q.size(); ++i) Q[i] = static_cast<float>(draws.normal(2 * K.size() + i));

  Context ctx;
  AnyKvCache cache = make_kv_cache("int8", kv_heads, d);
  cache.append(ctx, View<const float, 3>(K.data(), {kv_heads, tokens, d}),
               View<const float, 3>(V.data(), {kv_heads, tokens, d}));

  const auto policy = score(ValueNorm{}) | ThinOut{64} | protect(sinks(4), recent(32)) | keep(0.5) | evict();
  const KvReport report =
      cache.compress(ctx, policy, {.queries = View<const float, 3>(Q.data(), {4, 8, d}), .top_k = 16});
  std::printf("%td -> %td tokens, %zu -> %zu bytes, output error %.3f, top-16 recall %.2f\n", report.tokens_before,
              report.tokens_after, report.bytes_before, report.bytes_after, *report.output_error, *report.top_k_recall);

  bool right = report.tokens_after == kv_heads * tokens / 2 && report.bytes_after * 18 < report.bytes_before * 10;
  for (Index h = 0; h < kv_heads; ++h)
    for (Index j = 4; j < cache.size(h); ++j) {
      const Index position = cache.position(h, j);
      right = right && (position >= tokens - 64 || position % 2 == 0);
    }
  std::puts(right ? "half the tokens are gone, and their memory" : "wrong");
  return right ? 0 : 1;
}
