/// What every optimizer promises.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <map>
#include <string>
#include <tessera/core/context.hpp>
#include <vector>

#include "optim/model.hpp"

namespace tessera::optim {

using Plain = std::vector<std::vector<double>>;  // by block: w, then b

inline Plain plain_of(const Parameters<double>& blocks) {
  Plain all;
  for (const auto& block : blocks) all.emplace_back(block.values().begin(), block.values().end());
  return all;
}

template <class State>
std::map<std::string, std::vector<std::byte>> saved(State& state) {
  std::map<std::string, std::vector<std::byte>> all;
  state.for_each_buffer([&](const std::string& name, auto values) {
    const auto bytes = std::as_bytes(values);
    EXPECT_TRUE(all.emplace(name, std::vector<std::byte>(bytes.begin(), bytes.end())).second) << "twice: " << name;
  });
  return all;
}

template <class State>
void restore(State& state, const std::map<std::string, std::vector<std::byte>>& from) {
  state.for_each_buffer([&](const std::string& name, auto values) {
    std::copy_n(from.at(name).begin(), from.at(name).size(), std::as_writable_bytes(values).begin());
  });
}

/// The state after the steps that `obeys` does.
constexpr Index law_steps = 4;
template <class Opt>
auto trained(Context& ctx, const Opt& opt, Model<double>& model) {
  auto state = opt.init(model.params);
  for (Index step = 0; step < law_steps; ++step) {
    model.draw(step);
    opt.update(ctx, model.grads, state, model.params);
  }
  return state;
}

inline void nothing_else(Index, Parameters<double>&) {}

/// Runs `opt` beside `plain(step, grads, params)`, which moves params as the formulas say, in double; again with three
/// threads, and with the state saved and restored in the middle: the same bits. `change(step, grads)` spoils gradients.
template <class Opt, class F, class Change = void (*)(Index, Parameters<double>&)>
void obeys(const Opt& opt, F plain, double bound, Change change = nothing_else, Index rows = 190, Index cols = 181,
           Index steps = law_steps) {
  Model<double> alone(rows, cols), threaded(rows, cols), resumed(rows, cols);
  auto expected = plain_of(alone.params);
  const Index half = steps / 2;
  Context one;
  auto three = Context::with_threads(3);
  auto state = opt.init(alone.params), state3 = opt.init(threaded.params), first = opt.init(resumed.params);
  const auto run = [&](Context& ctx, Model<double>& model, auto& its, Index step) {
    model.draw(step);
    change(step, model.grads);
    opt.update(ctx, model.grads, its, model.params);
  };
  for (Index step = 0; step < steps; ++step) {
    run(one, alone, state, step);
    plain(step, plain_of(alone.grads), expected);
    run(three, threaded, state3, step);
    if (step < half) run(one, resumed, first, step);
  }
  const auto file = saved(first);
  auto second = opt.init(resumed.params);
  restore(second, file);
  if constexpr (requires { second.count; }) second.count = first.count;
  for (Index step = half; step < steps; ++step) run(one, resumed, second, step);
  for (std::size_t b = 0; b < expected.size(); ++b)
    for (std::size_t i = 0; i < expected[b].size(); ++i)
      ASSERT_NEAR(alone.params[b].data[i], expected[b][i], bound) << alone.params[b].name << ' ' << i;
  EXPECT_TRUE(same_bits(alone.w, threaded.w) && same_bits(alone.b, threaded.b)) << "threads";
  EXPECT_TRUE(saved(state) == saved(state3)) << "threads";
  EXPECT_TRUE(saved(state) == saved(second)) << "round trip";
  EXPECT_TRUE(same_bits(alone.w, resumed.w) && same_bits(alone.b, resumed.b)) << "round trip";
}

}  // namespace tessera::optim
