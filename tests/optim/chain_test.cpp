#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <tessera/optim/optim.hpp>
#include <vector>

#include "optim/model.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

TEST(Clip, LeavesSmallGradientsBitForBit) {
  Model<float> model(5, 4);
  Context ctx;
  const double norm = global_norm(ctx, model.grads);
  for (const double limit : {norm * 1.001, norm / 2}) {
    Model<float> one(5, 4);
    const auto opt = chain(clip_by_global_norm(limit), scale(-1));
    auto state = opt.init(one.params);
    opt.update(ctx, one.grads, state, one.params);
    EXPECT_EQ(std::get<0>(state.links).norm, norm);
    const float factor = norm < limit ? 1 : static_cast<float>(limit / norm);
    for (Index i = 0; i < one.w.size(); ++i) EXPECT_EQ(one.w[i], model.w[i] - model.dw[i] * factor);
  }
}

TEST(Clip, NormIsThatOfAllBlocksInDouble) {
  Buffer<float> a(3), b(1);
  a[0] = a[1] = a[2] = 1e30f;  // squares are beyond float
  b[0] = 1e30f;
  const Parameters<float> grads{{"a", std::span<float>(a)}, {"b", std::span<float>(b)}};
  Context ctx;
  EXPECT_DOUBLE_EQ(global_norm(ctx, grads), 2 * static_cast<double>(1e30f));
  EXPECT_EQ(global_norm(ctx, Parameters<float>{}), 0);
}

TEST(Clip, NanIsNotHidden) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  Context ctx;
  for (const float bad : {nan, infinity}) {
    Model<float> model(3, 4);
    const auto before = model.w;
    model.dw[5] = bad;
    EXPECT_FALSE(std::isfinite(global_norm(ctx, model.grads)));
    const auto opt = chain(clip_by_global_norm(1), scale(-1));
    auto state = opt.init(model.params);
    opt.update(ctx, model.grads, state, model.params);
    EXPECT_TRUE(std::isnan(model.w[5]));
    if (std::isnan(bad))
      EXPECT_TRUE(std::isnan(model.w[0]));  // the norm is NaN, so is every update
    else
      EXPECT_EQ(model.w[0], before[0]);  // the factor is 0
  }
}

TEST(State, CountsItsBytesAndNamesItsBuffers) {
  Model<float> model(3, 4);
  const auto opt = chain(clip_by_global_norm(1), chain(scale_by_adam(), trace(0.9)), scale(-1));
  auto state = opt.init(model.params);
  EXPECT_EQ(state.state_bytes(), 3u * 16u * sizeof(float));
  std::vector<std::string> names;
  state.for_each_buffer([&](const std::string& name, std::span<float> values) {
    names.push_back(name);
    EXPECT_EQ(values.size(), name.back() == 'w' ? 12u : 4u);
  });
  EXPECT_EQ(names, (std::vector<std::string>{"1.scale_by_adam.mu.w", "1.scale_by_adam.nu.w", "1.scale_by_adam.mu.b",
                                             "1.scale_by_adam.nu.b", "2.trace.trace.w", "2.trace.trace.b"}));
}

TEST(State, RoundTripMidRunIsBitIdentical) {
  Model<float> straight(6, 5), resumed(6, 5);
  const auto opt = chain(clip_by_global_norm(1), scale_by_adam(), trace(0.9),
                         scale_by_learning_rate(warmup_cosine{.peak = 0.1, .warmup_steps = 3, .decay_steps = 9}));
  auto state = opt.init(straight.params);
  auto first = opt.init(resumed.params);
  Context ctx;
  for (Index step = 0; step < 4; ++step) {
    for (auto* model : {&straight, &resumed}) model->draw(step);
    opt.update(ctx, straight.grads, state, straight.params);
    opt.update(ctx, resumed.grads, first, resumed.params);
  }
  std::map<std::string, std::vector<float>> saved;
  first.for_each_buffer([&](const std::string& name, std::span<float> x) { saved[name].assign(x.begin(), x.end()); });
  auto second = opt.init(resumed.params);
  second.count = first.count;
  second.for_each_buffer(
      [&](const std::string& name, std::span<float> x) { std::copy_n(saved.at(name).begin(), x.size(), x.begin()); });
  for (Index step = 4; step < 9; ++step) {
    for (auto* model : {&straight, &resumed}) model->draw(step);
    opt.update(ctx, straight.grads, state, straight.params);
    opt.update(ctx, resumed.grads, second, resumed.params);
  }
  EXPECT_TRUE(same_bits(straight.w, resumed.w));
  EXPECT_TRUE(same_bits(straight.b, resumed.b));
}

/// Subtracts each block's mean: a link that needs the updates in memory.
struct Centralise {
  static constexpr std::string_view name = "centralise";
  struct State {};
  template <class T>
  State init(const Parameters<T>&) const {
    return {};
  }
  template <class T>
  void transform(Context&, std::span<const VectorView<T>> updates, State&, const Parameters<T>&) const {
    for (const auto& u : updates) {
      T mean = 0;
      for (Index i = 0; i < u.extent(0); ++i) mean += u[i] / static_cast<T>(u.extent(0));
      for (Index i = 0; i < u.extent(0); ++i) u[i] -= mean;
    }
  }
};

TEST(Chain, TakesWholeTransforms) {
  static_assert(WholeTransform<Centralise> && GradientTransform<Centralise>);
  Model<double> model(3, 4);
  const auto before = model.w, gradient = model.dw;
  double mean = 0;
  for (double g : gradient) mean += 2 * g / 12;
  const auto opt = chain(scale(2), Centralise{}, scale(-1));
  auto state = opt.init(model.params);
  Context ctx;
  opt.update(ctx, model.grads, state, model.params);
  for (Index i = 0; i < 12; ++i) EXPECT_NEAR(model.w[i], before[i] - (2 * gradient[i] - mean), 1e-14);
  EXPECT_TRUE(same_bits(gradient, model.dw));  // gradients are only read
}

TEST(Chain, EmptyBlocksAndNoBlocks) {
  Context ctx;
  const auto opt = chain(clip_by_global_norm(1), scale_by_adam(), scale(-1));
  Buffer<float> none;
  const Parameters<float> empty{{"none", std::span<float>(none)}}, nothing;
  auto state = opt.init(empty);
  opt.update(ctx, empty, state, empty);
  auto other = opt.init(nothing);
  opt.update(ctx, nothing, other, nothing);
  EXPECT_EQ(other.count, 1);
}

TEST(Chain, SaysWhatDoesNotFit) {
  Model<float> model(3, 4), other(3, 5);
  const auto opt = adam(0.1);
  auto state = opt.init(model.params);
  Context ctx;
  const auto message = [&](const Parameters<float>& grads, const Parameters<float>& params) {
    try {
      opt.update(ctx, grads, state, params);
    } catch (const shape_error& e) {
      return std::string(e.what());
    }
    return std::string("nothing");
  };
  EXPECT_EQ(message(other.grads, model.params),
            "tessera: block 0 of gradients is 'w' with 15 elements, of parameters 'w' with 12");
  EXPECT_EQ(message(other.grads, other.params),
            "tessera: block 0 of parameters is 'w' with 15 elements, of optimizer state 'w' with 12");
  EXPECT_EQ(message({}, model.params), "tessera: 0 blocks of gradients, but 2 of parameters");
  EXPECT_THROW(Parameter<float>("w", MatrixView<float>(model.w.data(), 3, 4).transposed()), shape_error);
  EXPECT_EQ(state.count, 0);
}

TEST(Concepts, SortLinksByKind) {
  static_assert(ElementwiseTransform<ScaleByAdam> && !ReducingTransform<ScaleByAdam>);
  static_assert(ReducingTransform<ClipByGlobalNorm> && !ElementwiseTransform<ClipByGlobalNorm>);
  static_assert(!GradientTransform<int> && Schedule<constant> && Schedule<warmup_cosine>);
}

}  // namespace
}  // namespace tessera::optim
