#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <tessera/optim/differential_privacy.hpp>
#include <vector>

#include "optim/laws.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

/// Gradients of n examples for a model of (rows, cols) and (cols); the second example is tiny.
struct Examples {
  Index n;
  Buffer<double> w, b;
  Parameters<double> grads;
  Examples(Index count, Index rows, Index cols, Index step = 0)
      : n(count),
        w(random_buffer<double>(n * rows * cols, 300 + static_cast<std::uint64_t>(step))),
        b(random_buffer<double>(n * cols, 400 + static_cast<std::uint64_t>(step))),
        grads{{"w", MatrixView<double>(w.data(), n, rows * cols)}, {"b", MatrixView<double>(b.data(), n, cols)}} {
    for (Index i = 0; n > 1 && i < rows * cols; ++i) w[rows * cols + i] *= 1e-2;
    for (Index i = 0; n > 1 && i < cols; ++i) b[cols + i] *= 1e-2;
  }
  double norm(Index example, std::size_t block) const {
    double sum = 0;
    for (Index i = 0; i < grads[block].cols; ++i) sum += at(example, block, i) * at(example, block, i);
    return std::sqrt(sum);
  }
  double at(Index example, std::size_t block, Index i) const {
    return grads[block].data[example * grads[block].cols + i];
  }
};

TEST(Privacy, ClipsEveryExample) {
  const Examples examples(5, 9, 7);
  Model<double> model(9, 7);
  Context ctx;
  EXPECT_EQ(per_example_global_norm_clip(ctx, examples.grads, 1.5, model.grads), 4);
  for (std::size_t b = 0; b < 2; ++b)
    for (Index i = 0; i < model.grads[b].size(); ++i) {
      double sum = 0;
      for (Index e = 0; e < 5; ++e)
        sum += std::min(1.0, 1.5 / std::hypot(examples.norm(e, 0), examples.norm(e, 1))) * examples.at(e, b, i);
      ASSERT_NEAR(model.grads[b].data[i], sum, 1e-13);
    }
  for (const bool uniform : {true, false}) {
    const auto clipped = per_example_layer_norm_clip(ctx, examples.grads, 1.5, model.grads, uniform);
    for (std::size_t b = 0; b < 2; ++b) {
      const double most = 1.5 * std::sqrt(uniform ? 0.5 : (b == 0 ? 63.0 : 7.0) / 70);
      Index expected = 0;
      for (Index e = 0; e < 5; ++e) expected += examples.norm(e, b) > most ? 1 : 0;
      EXPECT_EQ(clipped[b], expected);
      for (Index i = 0; i < model.grads[b].size(); ++i) {
        double sum = 0;
        for (Index e = 0; e < 5; ++e) sum += std::min(1.0, most / examples.norm(e, b)) * examples.at(e, b, i);
        ASSERT_NEAR(model.grads[b].data[i], sum, 1e-13);
      }
    }
  }
}

/// 100 steps without noise are momentum on the clipped means.
TEST(Privacy, StepsByTheClippedMean) {
  const auto opt = dpsgd(0.1, {.norm = 2, .noise_multiplier = 0}, 0.9);
  Model<double> model(9, 7);
  auto state = opt.init(model.params);
  auto x = plain_of(model.params);
  Plain m{std::vector<double>(63), std::vector<double>(7)};
  Context ctx;
  for (Index step = 0; step < 100; ++step) {
    const Examples examples(3, 9, 7, step);
    opt.update(ctx, examples.grads, state, model.params);
    for (std::size_t b = 0; b < 2; ++b)
      for (std::size_t i = 0; i < x[b].size(); ++i) {
        double mean = 0;
        for (Index e = 0; e < 3; ++e)
          mean += std::min(1.0, 2 / std::hypot(examples.norm(e, 0), examples.norm(e, 1))) *
                  examples.at(e, b, static_cast<Index>(i)) / 3;
        x[b][i] -= 0.1 * (m[b][i] = 0.9 * m[b][i] + mean);
        ASSERT_NEAR(model.params[b].data[i], x[b][i], 1e-12) << step;
      }
  }
  EXPECT_EQ(state.state_bytes(), sizeof(std::uint64_t) + 2 * sizeof(Index) + 2 * 70 * sizeof(double));
}

TEST(Privacy, NoiseIsOfItsDeviationAndStreams) {
  constexpr Index rows = 90, cols = 100;
  const auto opt = dpsgd(1.0, {.norm = 0.5, .noise_multiplier = 3, .seed = 11});
  const Examples examples(4, rows, cols);
  const auto run = [&](Index threads, Index from_file, Model<double>& model) {
    auto ctx = Context::with_threads(threads);
    auto state = opt.init(model.params);
    for (Index step = 0; step < 3; ++step) {
      if (step == from_file) {
        const auto file = saved(state);
        state = opt.init(model.params);
        restore(state, file);
      }
      opt.update(ctx, examples.grads, state, model.params);
    }
  };
  Model<double> one(rows, cols), three(rows, cols), resumed(rows, cols), still(rows, cols);
  run(1, -1, one);
  run(3, -1, three);
  run(1, 2, resumed);
  EXPECT_TRUE(same_bits(one.w, three.w) && same_bits(one.b, three.b));
  EXPECT_TRUE(same_bits(one.w, resumed.w) && same_bits(one.b, resumed.b));
  Context ctx;
  per_example_global_norm_clip(ctx, examples.grads, 0.5, still.grads);
  double mean = 0, square = 0;
  for (Index i = 0; i < rows * cols; ++i) {  // of three steps: deviation √3·0.5·3/4
    const double noise = (still.w[i] - one.w[i] - 3 * still.dw[i] / 4) / (std::sqrt(3.0) * 1.5 / 4);
    mean += noise / (rows * cols);
    square += noise * noise / (rows * cols);
  }
  EXPECT_LT(std::abs(mean), 4 / std::sqrt(rows * cols));
  EXPECT_LT(std::abs(square - 1), 4 * std::sqrt(2.0 / (rows * cols)));
}

TEST(Privacy, MisuseNamesTheBlock) {
  const auto opt = dpsgd(1.0, {.norm = 1});
  Model<double> model(4, 3);
  auto state = opt.init(model.params);
  Context ctx;
  const auto refused = [&](const Parameters<double>& grads) {
    try {
      opt.update(ctx, grads, state, model.params);
    } catch (const shape_error& failure) {
      return std::string(failure.what());
    }
    return std::string("nothing was thrown");
  };
  EXPECT_EQ(
      refused(model.grads),
      "tessera: block 0 of examples' gradients is 'w' (4x3), the parameter 'w' with 12 elements; expected (4x12), "
      "a row for each example");
  Examples examples(5, 4, 3);
  examples.grads[1].rows = 4;
  EXPECT_NE(refused(examples.grads).find("'b' (4x3), the parameter 'b' with 3 elements; expected (5x3)"),
            std::string::npos);
  examples.grads.pop_back();
  EXPECT_EQ(refused(examples.grads), "tessera: 1 blocks of examples' gradients, but 2 of parameters");
  EXPECT_THROW(dpsgd(1.0, {.norm = 0}), unsupported_error);
  EXPECT_THROW(dpsgd(1.0, {.noise_multiplier = -1}), unsupported_error);
}

}  // namespace
}  // namespace tessera::optim
