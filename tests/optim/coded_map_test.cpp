#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <tessera/optim/adam.hpp>
#include <tessera/optim/chain.hpp>
#include <tessera/optim/decay.hpp>
#include <tessera/optim/scale.hpp>
#include <tessera/optim/storage.hpp>
#include <tessera/optim/trace.hpp>
#include <type_traits>
#include <vector>

#include "support/oracle.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

using Bytes = std::vector<unsigned char>;

/// Gradients of some steps: of all sizes, blocks of zeros and tiny ones, in `special` ones that are not finite.
std::vector<float> gradients(Index n, int step, bool special) {
  const auto draws = test::random_buffer<float>(n, static_cast<std::uint64_t>(100 + step));
  std::vector<float> g(draws.begin(), draws.end());
  for (std::size_t i = 0; i < g.size(); ++i) {
    const std::size_t block = i / 128;
    if (block % 7 == 2) g[i] = 0;
    if (block % 7 == 3) g[i] *= 1e-17f;  // squares below 2^-100
    if (block % 7 == 4) g[i] *= 1e-22f;  // squares below 2^-126
    if (block % 7 == 5) g[i] = std::copysign(0.0f, g[i]);
  }
  if (special && step == 1 && n > 40) {
    g[40] = std::numeric_limits<float>::quiet_NaN();
    g.back() = std::numeric_limits<float>::infinity();
    g[g.size() / 2] = 1e30f;  // its square is infinite
  }
  return g;
}

/// Parameters and state after three steps, by name; NaNs as one. `touch` may change the state after the first.
template <class Opt, class Touch>
std::map<std::string, Bytes> trained(Context& ctx, const Opt& opt, Index n, bool special, const Touch& touch) {
  const auto start = test::random_buffer<float>(n, 7);
  Buffer<float> p(n), g(n);
  std::copy(start.begin(), start.end(), p.begin());
  const Parameters<float> params{{"w", std::span<float>(p)}}, grads{{"w", std::span<float>(g)}};
  auto state = opt.init(params);
  for (int step = 0; step < 3; ++step) {
    const auto now = gradients(n, step, special);
    std::copy(now.begin(), now.end(), g.begin());
    opt.update(ctx, grads, state, params);
    if (step == 0) state.for_each_buffer(touch);
  }
  std::map<std::string, Bytes> all;
  const auto add = [&](const std::string& name, auto values) {
    for (auto& x : values)
      if constexpr (std::is_same_v<std::remove_cvref_t<decltype(x)>, float>)
        if (std::isnan(x)) x = std::numeric_limits<float>::quiet_NaN();
    Bytes bytes(values.size_bytes());
    if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
    all.emplace(name, bytes);
  };
  state.for_each_buffer(add);
  add("parameters", std::span<float>(p));
  return all;
}

struct Untouched {
  template <class T>
  void operator()(const std::string&, std::span<T>) const {}
};
/// As no step of ours leaves it: a square below zero.
struct NegativeSquare {
  void operator()(const std::string& name, std::span<std::uint8_t> codes) const {
    if (name.find("nu") != name.npos && codes.size() > 700) codes[650] |= 128;
  }
  template <class T>
  void operator()(const std::string&, std::span<T>) const {}
};

/// One pass in registers has the bits of decoding, the plain loop over elements and coding, in every lane.
template <class Opt, class Touch = Untouched>
void has_the_bits_of_the_parts(const Opt& opt, bool special = false, const Touch& touch = {}) {
  for (const Index n : {0, 1, 127, 128, 129, 300, 2048 + 384, 16 * 2048 + 2049}) {
    Context plain;
    plain.force("map:ref");
    const auto wanted = trained(plain, opt, n, special, touch);
    std::vector<std::string> kernels{"map:ref"};
#if TESSERA_X86
    if (active_isa().has(Isa::avx2)) kernels = {"", "map:avx2"};
#endif
    for (const auto& kernel : kernels)
      for (const Index threads : {1, 3}) {
        auto ctx = Context::with_threads(threads);
        if (!kernel.empty()) ctx.force(kernel);
        const auto got = trained(ctx, opt, n, special, touch);
        for (const auto& [name, bytes] : wanted) EXPECT_TRUE(got.at(name) == bytes) << name << ' ' << n << kernel;
      }
  }
}

template <class Link>
auto decayed(const Link& link) {
  return chain(link, add_decayed_weights(0.01), scale(-0.01));
}

TEST(CodedMap, Dynamic8HasTheBitsOfTheParts) {
  has_the_bits_of_the_parts(decayed(in_dynamic8(scale_by_adam(), 5)));
  has_the_bits_of_the_parts(decayed(in_dynamic8(trace(0.9))));
}
TEST(CodedMap, Bf16HasTheBitsOfTheParts) {
  has_the_bits_of_the_parts(decayed(in_bf16(scale_by_adam({.nesterov = true}), 5)));
  has_the_bits_of_the_parts(decayed(in_bf16(trace(0.9))));
}
TEST(CodedMap, SpecialNumbersAndLoadedSigns) {
  has_the_bits_of_the_parts(decayed(in_dynamic8(scale_by_adam())), true);
  has_the_bits_of_the_parts(decayed(in_bf16(scale_by_adam())), true);
  has_the_bits_of_the_parts(decayed(in_dynamic8(scale_by_adam())), false, NegativeSquare{});
}
TEST(CodedMap, WhatHasNoLaneGoesThroughItsParts) {
  has_the_bits_of_the_parts(chain(trace(0.5), in_dynamic8(scale_by_adam()), scale(-0.01)));
}

}  // namespace
}  // namespace tessera::optim
