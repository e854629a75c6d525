/// Chains of stages, chosen at run time: laws over them are compiled once.
#pragma once

#include <cmath>
#include <span>

#include "kv/any_policy.hpp"

namespace tessera::test {

/// What the suites' prompts have.
struct SuiteShape {
  static constexpr Index kv_heads = 2, heads = 4, n = 200, d = 32;
};
/// Of its tokens, or of others.
inline Index share(double f, Index of = SuiteShape::n) { return std::llround(f * static_cast<double>(of)); }
const nn::RopeTable<float>& chain_table();

/// How many tokens stay: of each head, of all heads together, of each chunk, of the last head, about as many, or all.
enum class Budget { even, ragged, chunks, last_head, near, some, all };
inline constexpr Index chain_chunk = 16;

struct Chained {
  const char* name;
  AnyPolicy (*keeping)(double fraction);
  Budget budget = Budget::even;
  bool merges = false, closes_up = false, demotes = false;
};
/// All of them.
std::span<const Chained> all_chains();

}  // namespace tessera::test
