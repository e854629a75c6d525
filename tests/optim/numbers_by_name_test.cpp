// Hyper-parameters by every name: numbers that none can have.
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <string>
#include <support/message_of.hpp>

#include "optim/named_training.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

using test::message_of;

/// What averages keep of the past, by every name; two may keep all of it.
TEST(NumbersByName, DecaysOutOfTheirRangeAreRefused) {
  const std::set<std::string> all{"b1", "b2", "b3", "momentum", "decay", "grok_decay", "average"};
  Index tried = 0;
  for (const auto& name : optimizer_names<double>())
    for (const auto& [hyper, usual] : optimizer_hyper_parameters<double>(name)) {
      if (!(all.contains(hyper) || (name == "adadelta" && hyper == "rho")) || name == "adafactor") continue;
      const bool keeps_all = (name.starts_with("shampoo") && hyper == "b2") || (name == "kfac" && hyper == "decay");
      for (const double wrong : {-0.5, keeps_all ? 1.001 : 1.0, 2.0}) {
        const auto text = message_of<unsupported_error>([&, hyper = hyper] { made(name, {{hyper, wrong}}); });
        EXPECT_SAYS(text, "hyper-parameter: " + hyper + " = ") << name;
        EXPECT_SAYS(text, keeps_all ? "; expected 0 or more and at most 1" : "; expected 0 or more and less than 1");
        ++tried;
      }
      made(name, {{hyper, keeps_all ? 1.0 : 0.5}});
    }
  EXPECT_GE(tried, 300);
  EXPECT_SAYS(message_of<unsupported_error>([] { made("adafactor", {{"decay", -0.5}}); }), "expected 0 or more");
  EXPECT_SAYS(message_of<unsupported_error>([] {
                made("rprop", {{"rate", constant{0.1}}});
              }),
              "'rate' is given as a schedule; expected a number");
}

/// No number is taken that would make parameters of nothing but NaN.
TEST(NumbersByName, NumbersBelowZeroAndZeroAreRefusedOrHarmless) {
  Index refused = 0;
  for (const auto& name : optimizer_names<double>())
    for (const auto& [hyper, usual] : optimizer_hyper_parameters<double>(name)) {
      if (hyper == "rate") continue;
      for (const double value : {-1.0, 0.0}) {
        SCOPED_TRACE(name + ' ' + hyper + " = " + std::to_string(value));
        try {
          Training training(made(name, {{hyper, value}}), 1, 4, 3);
          training.steps(0, 2);
          EXPECT_TRUE(std::isfinite(training.loss()));
        } catch (const unsupported_error& refusal) {
          ++refused;
          EXPECT_SAYS(std::string(refusal.what()), "expected ");
        }
      }
      if (!hyper.starts_with("eps")) continue;
      EXPECT_SAYS(message_of<unsupported_error>([&, hyper = hyper] {
                    made(name, {{hyper, -1e-8}});
                  }),
                  hyper + " = -1e-08; expected 0 or more");
    }
  EXPECT_GE(refused, 100);
}

/// Nor do gradients of nothing but zeros, at first or for long, whatever keeps them.
TEST(NumbersByName, ZeroGradientsMakeNoNaN) {
  for (const auto& name : optimizer_names<double>()) {
    for (const Index before : {Index{0}, Index{2}}) {
      SCOPED_TRACE(name + ' ' + std::to_string(before));
      auto given = std::vector<HyperParameter>();
      if (name.starts_with("shampoo")) given.emplace_back("b2", 0.0);  // forgets all at once
      Training training(made(name, given), 1, 4, 3);
      training.steps(0, before);
      training.steps(before, before + 3, 0);
      training.steps(before + 3, before + 4);
      EXPECT_TRUE(std::isfinite(training.loss()));
    }
  }
}

}  // namespace
}  // namespace tessera::optim
