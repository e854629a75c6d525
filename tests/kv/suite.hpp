/// What every store of every suite is given.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "kv/chains.hpp"
#include "kv/stores.hpp"

namespace tessera::test::suite {

inline constexpr Index kv_heads = SuiteShape::kv_heads, heads = SuiteShape::heads, n = SuiteShape::n, d = SuiteShape::d;

inline const Tokens& keys() {
  static const Tokens all(kv_heads, n, d, 1);
  return all;
}
inline const Tokens& values() {
  static const Tokens all(kv_heads, n, d, 2);
  return all;
}
inline const Tokens& queries() {
  static const Tokens all(heads, n, d, 3);
  return all;
}
inline KvProbe probe(bool report = false) {
  return {.queries = queries().part(n - 8, 8), .top_k = 8, .report = report};
}
inline Buffer<float> attended(Context& ctx, const AnyKvCache& cache) {
  Tokens out(heads, 8, d, 0);
  cache.attend(ctx, queries().part(n - 8, 8), out.view(), {.scale = {}, .causal = false});
  return out.buffer;
}
inline std::string name_of(const testing::TestParamInfo<Store>& info) { return info.param.name(); }

}  // namespace tessera::test::suite
