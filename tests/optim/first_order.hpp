/// What every element-wise method is held to. A case has
///   link(plain)   the link; with plain == false without what breaks its invariances (eps, initial values)
///   rate, scale_free, slots
///   rule(g, p, t, s)   its update as published, t from 1, in double, s being what it keeps
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <tessera/optim/optim.hpp>
#include <type_traits>
#include <utility>
#include <vector>

#include "optim/model.hpp"

namespace tessera::optim {

/// 100 steps on random gradients stay by the published rule.
template <class T, class Case>
void follows_its_rule(double bound) {
  Model<T> model(9, 7);
  std::vector<std::vector<double>> x(2), s(2);
  for (std::size_t b = 0; b < 2; ++b) {
    for (T v : model.params[b].values()) x[b].push_back(static_cast<double>(v));
    s[b].resize(x[b].size() * 5);
  }
  const auto opt = chain(Case::link(true), scale(-Case::rate));
  auto state = opt.init(model.params);
  EXPECT_EQ(state.state_bytes(), Case::slots * 70 * sizeof(T));
  Context ctx;
  for (Index step = 0; step < 100; ++step) {
    model.draw(step);
    for (std::size_t b = 0; b < 2; ++b)
      for (std::size_t i = 0; i < x[b].size(); ++i)
        x[b][i] -= Case::rate * Case::rule(static_cast<double>(model.grads[b].values()[i]), x[b][i],
                                           static_cast<double>(step + 1), &s[b][5 * i]);
    opt.update(ctx, model.grads, state, model.params);
  }
  for (std::size_t b = 0; b < 2; ++b)
    for (std::size_t i = 0; i < x[b].size(); ++i)
      ASSERT_NEAR(static_cast<double>(model.params[b].values()[i]), x[b][i], bound) << b << ' ' << i;
}

struct End {
  Buffer<float> w, b;
};
inline bool same_bits(const End& a, const End& b) { return same_bits(a.w, b.w) && same_bits(a.b, b.b); }

/// Where a run of 3 steps ends that starts at `start` and sees gradients times `factor`.
template <class Opt>
End end_of(const Opt& opt, Index threads = 1, float start = 1, float factor = 1, Index rows = 13, Index cols = 11) {
  Model<float> model(rows, cols);
  for (float& x : model.w) x *= start;
  auto ctx = Context::with_threads(threads);
  auto state = opt.init(model.params);
  for (Index step = 0; step < 3; ++step) {
    model.draw(step);
    for (float& g : model.dw) g *= factor;
    opt.update(ctx, model.grads, state, model.params);
  }
  return {std::move(model.w), std::move(model.b)};
}

struct Taken {
  bool matrices, vectors;
  bool operator()(const ParameterInfo& p) const { return p.rows > 1 ? matrices : vectors; }
};

/// The same bits in one pass with the rate, in one of its own, and on the blocks that a mask takes, where the others
/// end as without the link. A mask with state in codes counts its own blocks for their draws: those of a vector are
/// others than without, as near as `drawn`.
template <class Link>
void same_however_run(const Link& link, double rate, float drawn = 0) {
  SCOPED_TRACE(Link::name);
  const auto rated = [&](const auto&... links) { return end_of(chain(links..., scale(-rate))); };
  const End fused = rated(link), without = rated();
  EXPECT_FALSE(same_bits(without.w, fused.w));
  EXPECT_TRUE(same_bits(rated(link, clip_by_global_norm(1e30)), fused));
  EXPECT_TRUE(same_bits(rated(masked(link, Taken{true, true})), fused));
  const End matrix = rated(masked(link, Taken{true, false})), vector = rated(masked(link, Taken{false, true}));
  EXPECT_TRUE(same_bits(matrix.w, fused.w) && same_bits(matrix.b, without.b));
  EXPECT_TRUE(same_bits(vector.w, without.w));
  for (Index i = 0; i < vector.b.size(); ++i) ASSERT_NEAR(vector.b[i], fused.b[i], drawn) << i;
}

/// The same bits however run, for one thread and three, for gradients times 8 where the method promises that, and the
/// opposite way for opposite gradients.
template <class Case>
void keeps_its_bits() {
  same_however_run(Case::link(true), Case::rate);
  const auto opt = chain(Case::link(true), scale(-Case::rate));
  EXPECT_TRUE(same_bits(end_of(opt, 1, 1, 1, 83, 401), end_of(opt, 3, 1, 1, 83, 401)));
  const End there = end_of(opt, 1, 0, 1), back = end_of(opt, 1, 0, -1);
  for (Index i = 0; i < there.w.size(); ++i) ASSERT_EQ(there.w[i], -back.w[i]);
  const auto free = chain(Case::link(false), scale(-Case::rate));
  if (Case::scale_free) {
    EXPECT_TRUE(same_bits(end_of(free, 1, 1, 1).w, end_of(free, 1, 1, 8).w));
  }
}

/// 500 steps halve a convex quadratic and Rosenbrock's function.
template <class Case>
void descends() {
  const auto run = [](auto&& f) {
    Buffer<float> x(2), g(2);
    x[0] = -1.2f;
    x[1] = 1;
    const Parameters<float> params{{"x", std::span<float>(x)}}, grads{{"x", std::span<float>(g)}};
    const auto opt = chain(Case::link(true), scale(-Case::rate));
    auto state = opt.init(params);
    Context ctx;
    const float before = f(x, g);
    for (int step = 0; step < 500; ++step) {
      f(x, g);
      opt.update(ctx, grads, state, params);
    }
    EXPECT_LT(f(x, g), 0.5f * before);
  };
  run([](const Buffer<float>& x, Buffer<float>& g) {
    g[0] = x[0] - 2;
    g[1] = 10 * (x[1] + 1);
    return 0.5f * (g[0] * g[0] + g[1] * g[1] / 10);
  });
  run([](const Buffer<float>& x, Buffer<float>& g) {
    const float a = 1 - x[0], b = x[1] - x[0] * x[0];
    g[0] = -2 * a - 400 * x[0] * b;
    g[1] = 200 * b;
    return a * a + 100 * b * b;
  });
}

}  // namespace tessera::optim
