#include "optim/named_training.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <support/message_of.hpp>
#include <tessera/optim/partition.hpp>
#include <vector>

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

using test::message_of;

TEST(ByName, UnknownNamesListWhatIsKnown) {
  const auto names = optimizer_names<double>();
  EXPECT_GE(names.size(), 64u);
  const auto unknown = message_of<unsupported_error>([] { make_optimizer<double>("adamv"); });
  for (const auto& name : names) {
    EXPECT_SAYS(unknown, name);
    EXPECT_TRUE(optimizer_hyper_parameters<double>(name).contains("rate")) << name;
    EXPECT_EQ(make_optimizer<double>(name).name(), name);
    EXPECT_SAYS(message_of<unsupported_error>([&] {
                  make_optimizer<double>(name, {{"beta7", 0.5}});
                }),
                "'" + name + "' has no hyper-parameter 'beta7'; it has: ");
  }
  EXPECT_SAYS(message_of<unsupported_error>([] {
                make_optimizer<double>("adam", {{"weight_decay", 1}});
              }),
              "it has: b1, b2, eps, rate");
  EXPECT_SAYS(message_of<unsupported_error>([] {
                make_optimizer<double>("adam", {{"rate", 1.0}, {"rate", 2.0}});
              }),
              "'rate'");
  EXPECT_SAYS(message_of<unsupported_error>([] {
                make_optimizer<double>("adam", {{"b1", constant{0.9}}});
              }),
              "'b1' is given as a schedule");
  EXPECT_SAYS(message_of<unsupported_error>([] {
                make_optimizer<double>("adam", {{"eps", std::numeric_limits<double>::quiet_NaN()}});
              }),
              "'eps' is nan");
  EXPECT_SAYS(message_of<unsupported_error>([] {
                make_optimizer<double>("lookahead", {{"period", 1.5}});
              }),
              "'period' is 1.5");
}

TEST(ByName, EveryOneGoesOnFromAFileToTheSameBits) {
  for (const auto& name : optimizer_names<double>()) {
    SCOPED_TRACE(name);
    const auto opt = made(name, {{"refresh", 3}, {"lower_bound", -1000}});
    Training whole(opt), first(opt), second(opt);
    whole.steps(0, 7);
    first.steps(0, 4);
    const auto file = saved(first.state);
    read_state(second.state, file.read(), "optimizer.");
    std::copy_n(first.model.w.data(), first.model.w.size(), second.model.w.data());
    std::copy_n(first.model.b.data(), first.model.b.size(), second.model.b.data());
    second.steps(4, 7);
    EXPECT_TRUE(whole.same_parameters(second));
    EXPECT_FALSE(whole.same_parameters(first));
    EXPECT_EQ(saved(whole.state).bytes, saved(second.state).bytes);
    EXPECT_GT(whole.state.state_bytes(), 0u);
  }
}

TEST(ByName, TheSameBitsForAnyNumberOfThreads) {
  const auto compare = [](const std::string& name, Index rows, Index cols, Index steps) {
    Training alone(made(name), 1, rows, cols), three(made(name), 3, rows, cols);
    alone.steps(0, steps);
    three.steps(0, steps);
    EXPECT_TRUE(alone.same_parameters(three)) << name << ' ' << rows;
    EXPECT_EQ(saved(alone.state).bytes, saved(three.state).bytes) << name << ' ' << rows;
  };
  for (const auto& name : optimizer_names<double>()) {
    compare(name, 90, 100, 2);
    compare(name, 190, 181, 1);  // more elements than one thread takes of a map
  }
}

TEST(ByName, AGroupMovesAsItsBlocksAlone) {
  for (const auto& name : optimizer_names<double>()) {
    SCOPED_TRACE(name);
    const auto opt = made(name);
    if (name == "sam") continue;  // two gradients a step, which partition does not take
    Model<double> both(9, 7), alone(9, 7);
    const auto first_alone = alone.params, grads_alone = alone.grads;
    Parameters<double> one{alone.params[0]}, its{alone.grads[0]};
    const auto parted = partition([](const ParameterInfo& p) { return p.name; }, group("w", opt), group("b", freeze()));
    auto state = parted.init(both.params);
    auto own = opt.init(one);
    const auto before = both.b;
    Context ctx;
    try {
      for (Index step = 0; step < 3; ++step) {
        both.draw(step);
        alone.draw(step);
        its[0].data = alone.grads[0].data;
        parted.update(ctx, both.grads, state, both.params);
        opt.update(ctx, its, own, one);
      }
    } catch (const unsupported_error& failure) {
      EXPECT_SAYS(std::string(failure.what()), "objective");  // it has no update
      continue;
    }
    EXPECT_TRUE(same_bits(both.w, alone.w));
    EXPECT_TRUE(same_bits(both.b, before));
  }
}

TEST(ByName, DecayTakesWhatItsMaskTakes) {
  Index decaying = 0;
  for (const auto& name : optimizer_names<double>()) {
    const auto has = optimizer_hyper_parameters<double>(name);
    if (!has.contains("weight_decay") || name == "muon" || name == "novograd" || name == "prodigy" ||
        name == "dadapt_adam")
      continue;  // all that decays there decays whatever the mask
    ++decaying;
    std::vector<HyperParameter> wanted{{"rate", 0.25}, {"weight_decay", 0.5}};
    if (has.contains("refresh")) wanted.emplace_back("refresh", 1.0);
    Training run(make_optimizer<double>(name, std::move(wanted),
                                        {.decayed = [](const ParameterInfo& p) { return p.name == "b"; }}));
    const auto w = run.model.w, b = run.model.b;
    run.steps(0, 3, 0);
    for (Index i = 0; i < w.size(); ++i) ASSERT_NEAR(run.model.w[i], w[i], 1e-15) << name;
    EXPECT_GT(std::abs(run.model.b[0] - b[0]), 1e-4 * std::abs(b[0])) << name;
  }
  EXPECT_GE(decaying, 10);
}

TEST(ByName, MisuseSaysWhichParameterAndWhatWasExpected) {
  const auto adam = made("adam"), lion = made("lion");
  Model<double> model(4, 3);
  Context ctx;
  AnyState<double> none;
  EXPECT_SAYS(message_of<unsupported_error>([&] { adam.update(ctx, model.grads, none, model.params); }),
              "adam: no state; expected");
  auto of_lion = lion.init(model.params);
  EXPECT_SAYS(message_of<unsupported_error>([&] { adam.update(ctx, model.grads, of_lion, model.params); }),
              "the state is of 'lion'");
  auto state = adam.init(model.params);
  const auto refused = [&](const Parameters<double>& grads, const Parameters<double>& params) {
    return message_of<shape_error>([&] { adam.update(ctx, grads, state, params); });
  };
  auto other = model.params;
  other.pop_back();
  EXPECT_SAYS(refused(model.grads, other), "1 blocks of parameters, but 2 of optimizer state");
  other = model.params;
  other[1].name = "c";
  EXPECT_SAYS(refused(model.grads, other), "'c' with 3 elements, of optimizer state 'b' with 3");
  other = model.params;
  std::swap(other[0].rows, other[0].cols);
  EXPECT_SAYS(refused(model.grads, other), "block 0 of parameters, 'w', is (3x4), of optimizer state (4x3)");
  other = model.grads;
  other[1].cols = 2;
  EXPECT_SAYS(refused(other, model.params), "block 1 of gradients is 'b' with 2 elements, of parameters 'b' with 3");
  other = model.grads;
  std::swap(other[0].rows, other[0].cols);
  EXPECT_SAYS(refused(other, model.params), "block 0 of gradients, 'w', is (3x4), of parameters (4x3)");
  other = model.grads;
  other[0].data = nullptr;
  EXPECT_SAYS(refused(other, model.params), "gradient of 'w' (4x3) has no memory");

  for (const std::string name : {"kfac", "mkor", "natural_gradient", "target_surrogate"}) {
    auto its = made(name).init(model.params);
    EXPECT_SAYS(message_of<unsupported_error>([&] {
                  made(name).step(ctx, {[] { return 0.0; }, [] { return 0.0; }}, model.grads, its, model.params);
                }),
                "the objective has no targets; expected Targets")
        << name;
    EXPECT_SAYS(message_of<unsupported_error>([&] { made(name).update(ctx, model.grads, its, model.params); }),
                "expected step");
  }
  const auto before = model.w;
  model.grads[1].data[2] = std::numeric_limits<double>::infinity();
  const auto lost = [] { return std::numeric_limits<double>::quiet_NaN(); };
  for (const auto& name : optimizer_names<double>()) {
    auto its = made(name).init(model.params);
    auto targets = linear_targets(model, 1);
    targets.loss = [&](const auto&, const auto&) { return lost(); };
    const auto seen_back = targets.backward;
    targets.backward = [&](MatrixView<const double> dz, const SeeLayer<double>& see) {
      seen_back(dz, see);
      model.grads[1].data[2] = std::numeric_limits<double>::infinity();
    };
    const auto text = message_of<property_error>([&] {
      made(name).step(ctx, {lost, lost, targets}, model.grads, its, model.params);
    });
    EXPECT_SAYS(text, "the loss is nan; expected a finite one");
    EXPECT_SAYS(text, "gradient of 'b' (1x3), inf at (0, 2)");
    for (Index i = 0; i < before.size(); ++i) ASSERT_NEAR(model.w[i], before[i], 1e-14) << name;
  }
}

TEST(ByName, FilesOfOtherStatesAreRefusedByName) {
  Training adam(made("adam")), lion(made("lion")), small(made("adam"), 1, 2, 7), frozen(made("sgd"));
  adam.steps(0, 2);
  const auto file = saved(adam.state);
  const auto refused = [](Training& run, const MemoryFile& from) {
    const auto before = saved(run.state);
    const auto text = message_of<format_error>([&] { read_state(run.state, from.read(), "optimizer."); });
    EXPECT_EQ(saved(run.state).bytes, before.bytes);
    return text;
  };
  EXPECT_SAYS(refused(lion, file), "scale_by_lion");
  EXPECT_SAYS(refused(lion, file), "is not in the file; expected F64 of 63 elements");
  EXPECT_SAYS(refused(small, file), "mu.w\" is F64 of 63 elements in the file; expected F64 of 14");
  EXPECT_SAYS(refused(frozen, file), "keeps no such thing");
  auto tensors = state_tensors(adam.state, "optimizer.");
  tensors[1].dtype = DType::int64;
  MemoryFile other;
  write_safetensors(other, tensors);
  EXPECT_SAYS(refused(adam, other), "is I64 of 63 elements in the file; expected F64 of 63");

  // Whose turn it is decides what is kept.
  Training blocks(made("badam", {{"refresh", 2}})), later(made("badam", {{"refresh", 2}}));
  blocks.steps(0, 2);
  later.steps(0, 3);
  tensors = state_tensors(later.state, "optimizer.");
  tensors.pop_back();
  MemoryFile cut;
  write_safetensors(cut, tensors);
  EXPECT_SAYS(refused(blocks, cut), "is not in the file");
}

TEST(ByName, CountsOfSpoiltFilesStayInBounds) {
  for (const auto& name : optimizer_names<double>())
    for (const Index count : {Index{-7}, Index{1} << 40}) {
      Training run(made(name));
      run.steps(0, 2);
      run.state.for_each_buffer([&](const std::string&, auto values) {
        if constexpr (std::is_same_v<decltype(values), std::span<Index>>)
          std::fill(values.begin(), values.end(), count);
      });
      try {
        run.steps(2, 4);
      } catch (const std::exception& refused) {
        EXPECT_SAYS(std::string(refused.what()), "tessera: ") << name;
      }
    }
}

TEST(ByName, ParametersToEvaluateAt) {
  for (const std::string name : {"adamw", "schedule_free", "averaged"}) {
    Training run(made(name));
    run.steps(0, 5);
    const auto w = run.model.w;
    Model<double> out(9, 7);
    run.opt.evaluation(run.ctx, run.state, run.model.params, out.params);
    EXPECT_TRUE(same_bits(run.model.w, w));
    EXPECT_EQ(same_bits(out.w, w), name == "adamw") << name;
    const auto refused = [&](const Parameters<double>& to) {
      return message_of<shape_error>([&] { run.opt.evaluation(run.ctx, run.state, run.model.params, to); });
    };
    auto other = out.params;
    other[0].data = nullptr;
    EXPECT_SAYS(refused(other), "the output 'w' (9x7) has no memory");
    other.pop_back();
    EXPECT_SAYS(refused(other), "1 blocks of outputs, but 2 of parameters");
  }
}

}  // namespace
}  // namespace tessera::optim
