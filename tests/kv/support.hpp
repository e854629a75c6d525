/// What the KV suites share.
#pragma once

#include <gtest/gtest.h>

#include <concepts>
#include <tessera/kv/kv.hpp>
#include <vector>

#include "support/oracle.hpp"

namespace tessera::test {

using namespace tessera::kv;  // NOLINT(google-build-using-namespace)

/// (heads, t, d) of N(0, 1).
struct Tokens {
  Tokens(Index heads, Index t, Index d, std::uint64_t seed)
      : buffer(random_buffer<float>(heads * t * d, seed)), shape{heads, t, d} {}
  View<float, 3> view() { return {buffer.data(), shape}; }
  View<const float, 3> view() const { return {buffer.data(), shape}; }
  View<const float, 3> part(Index begin, Index count) const { return view().slice(1, begin, count); }
  Buffer<float> buffer;
  std::array<Index, 3> shape;
};

/// All keys or values of a kv head, decoded: (size, d).
inline std::vector<float> decoded(const KvCacheBase& cache, Index h, bool keys) {
  const Index n = cache.size(h), d = cache.head_dim();
  std::vector<float> all(static_cast<std::size_t>(n * d)), scratch(all.size());
  const Context ctx;
  const auto unpack = KvCacheBase::unpack_kernel(ctx);
  for (Index j = 0; j < n; j += 50) {
    const Index count = std::min<Index>(50, n - j);
    Index stride = 0;
    const float* rows = keys ? cache.key_tile(h, j, count, scratch.data(), stride, unpack)
                             : cache.value_tile(h, j, count, scratch.data(), stride, unpack);
    for (Index t = 0; t < count; ++t)
      for (Index c = 0; c < d; ++c) all[static_cast<std::size_t>((j + t) * d + c)] = rows[t * stride + c];
  }
  return all;
}

inline std::vector<Index> positions(const KvCacheBase& cache, Index h) {
  std::vector<Index> all;
  for (Index j = 0; j < cache.size(h); ++j) all.push_back(cache.position(h, j));
  return all;
}

/// What scorers say of the tokens of each kv head.
struct ShowScores {
  std::vector<std::vector<float>>* to;
  static constexpr Facts needs = Facts::scores, too_late_after = Facts::none, gives = Facts::effect, ends = Facts::none;
  static constexpr bool preserves_positions = true;
  void operator()(const StageContext& context) const {
    for (const HeadDraft& draft : context.heads) to->push_back(draft.score);
  }
};

/// Steps so short that a few hundred tokens stand on all of them.
struct Stairs : Staircase<16, 8, 4, 2> {
  Stairs() { quota = {1, 1, 1}; }
};

using Codecs = testing::Types<F32, Bf16, Int8, Kivi<4>, Kivi<3>, Kivi<2>, Stairs>;
template <class C>
inline constexpr bool is_low_bits =
    std::same_as<C, Kivi<4>> || std::same_as<C, Kivi<3>> || std::same_as<C, Kivi<2>> || std::same_as<C, Stairs>;

}  // namespace tessera::test
