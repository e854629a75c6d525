#include "optim/named_training.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <set>
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
    const auto file = file_of(first.state);
    read_state(second.state, file.read(), "optimizer.");
    std::copy_n(first.model.w.data(), first.model.w.size(), second.model.w.data());
    std::copy_n(first.model.b.data(), first.model.b.size(), second.model.b.data());
    second.steps(4, 7);
    EXPECT_TRUE(whole.same_parameters(second));
    EXPECT_FALSE(whole.same_parameters(first));
    EXPECT_EQ(file_of(whole.state).bytes, file_of(second.state).bytes);
    EXPECT_GT(whole.state.state_bytes(), 0u);
  }
}

TEST(ByName, TheSameBitsForAnyNumberOfThreads) {
  const auto compare = [](const std::string& name, Index rows, Index cols, Index steps) {
    Training alone(made(name), 1, rows, cols), three(made(name), 3, rows, cols);
    alone.steps(0, steps);
    three.steps(0, steps);
    EXPECT_TRUE(alone.same_parameters(three)) << name << ' ' << rows;
    EXPECT_EQ(file_of(alone.state).bytes, file_of(three.state).bytes) << name << ' ' << rows;
  };
  for (const auto& name : optimizer_names<double>()) {
    compare(name, 90, 100, 2);
    compare(name, 190, 181, 1);  // more elements than one thread takes of a map
  }
}

/// These have no `update`, which is all that a group has.
const std::map<std::string, std::string> look_by_themselves{{"sam", "at a second gradient"},
                                                            {"backtracking", "at values along the step"},
                                                            {"zoom", "at values and slopes along the step"},
                                                            {"mezo", "at two values"},
                                                            {"sparse_mezo", "at two values"},
                                                            {"kfac", "at layers"},
                                                            {"mkor", "at layers"},
                                                            {"natural_gradient", "at products with the Fisher matrix"},
                                                            {"target_surrogate", "at targets"}};

/// Either block in a group, the other one frozen: as it moves alone, draws and codes of states as well.
TEST(ByName, AGroupMovesAsItsBlocksAlone) {
  for (const auto& name : optimizer_names<double>())
    for (const std::size_t moving : {std::size_t{0}, std::size_t{1}}) {
      SCOPED_TRACE(name + (moving == 0 ? " w" : " b"));
      const auto opt = made(name);
      Model<double> both(9, 7), alone(9, 7);
      const auto its = moving == 0 ? group("w", opt) : group("b", opt);
      const auto rest = group(moving == 0 ? "b" : "w", freeze());
      Parameters<double> one{alone.params[moving]}, its_grads{alone.grads[moving]};
      const auto parted = partition([](const ParameterInfo& p) { return p.name; }, its, rest);
      auto state = parted.init(both.params);
      auto own = opt.init(one);
      const auto w = both.w, b = both.b;
      Context ctx;
      const auto run = [&] {
        for (Index step = 0; step < 3; ++step) {
          both.draw(step);
          alone.draw(step);
          its_grads[0].data = alone.grads[moving].data;
          observe_loss(state, 2);
          own.observe_loss(2);
          parted.update(ctx, both.grads, state, both.params);
          opt.update(ctx, its_grads, own, one);
        }
      };
      if (const auto by_itself = look_by_themselves.find(name); by_itself != look_by_themselves.end()) {
        EXPECT_THROW(run(), unsupported_error) << by_itself->second;
        continue;
      }
      run();
      EXPECT_TRUE(same_bits(both.w, moving == 0 ? alone.w : w) && same_bits(both.b, moving == 1 ? alone.b : b));
      EXPECT_FALSE(same_bits(both.w, w) && same_bits(both.b, b));
    }
}

/// These have no mask: decay is part of their steps.
const std::map<std::string, std::string> decay_all{{"novograd", "beside the gradient over the layer's norm"},
                                                   {"prodigy", "at the distance that it finds"},
                                                   {"dadapt_adam", "at the distance that it finds"}};

TEST(ByName, DecayTakesWhatItsMaskTakes) {
  Index decaying = 0;
  for (const auto& name : optimizer_names<double>()) {
    const auto has = optimizer_hyper_parameters<double>(name);
    if (!has.contains("weight_decay") || decay_all.contains(name)) continue;
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

TEST(ByName, FilesOfOtherStatesAreRefusedByName) {
  Training adam(made("adam")), lion(made("lion")), small(made("adam"), 1, 2, 7), frozen(made("sgd"));
  adam.steps(0, 2);
  const auto file = file_of(adam.state);
  const auto refused = [](Training& run, const MemoryFile& from) {
    const auto before = file_of(run.state);
    const auto text = message_of<format_error>([&] { read_state(run.state, from.read(), "optimizer."); });
    EXPECT_EQ(file_of(run.state).bytes, before.bytes);
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

/// Counts that no run reaches are refused where they are read, those of a long one go on.
TEST(ByName, CountsThatNoRunReachesAreRefusedInFiles) {
  constexpr auto most = std::numeric_limits<Index>::max();
  for (const auto& name : optimizer_names<double>())
    for (const Index count : {Index{-1000}, Index{-1}, std::numeric_limits<Index>::min(), most, (Index{1} << 62) + 1}) {
      Training run(made(name)), other(made(name));
      run.steps(0, 2);
      const auto before = file_of(run.state).bytes;
      bool has = false;
      other.state.for_each_buffer([&](const std::string&, auto values) {
        if constexpr (std::is_same_v<decltype(values), std::span<Index>>)
          if (!values.empty()) values.back() = count, has = true;
      });
      if (!has) continue;
      const auto text = message_of<format_error>(
          [&, spoilt = file_of(other.state)] { read_state(run.state, spoilt.read(), "optimizer."); });
      EXPECT_SAYS(text, " is " + std::to_string(count) + " in the file; expected 0 to 4611686018427387904") << name;
      EXPECT_EQ(file_of(run.state).bytes, before) << name;
    }
}

TEST(ByName, ParametersToEvaluateAt) {
  for (const std::string name : {"adamw", "schedule_free", "averaged", "polyak_averaged", "swa"}) {
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
