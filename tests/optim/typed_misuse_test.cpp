// Wrong memory, states, sizes and numbers where types are known and no name stands between.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <support/message_of.hpp>
#include <tessera/optim/accumulate.hpp>
#include <tessera/optim/alias.hpp>
#include <tessera/optim/average.hpp>
#include <tessera/optim/clip_blocks.hpp>
#include <tessera/optim/dog.hpp>
#include <tessera/optim/factored.hpp>
#include <tessera/optim/finite.hpp>
#include <tessera/optim/first_order.hpp>
#include <tessera/optim/forest.hpp>
#include <tessera/optim/lookahead.hpp>
#include <tessera/optim/mezo.hpp>
#include <tessera/optim/muon.hpp>
#include <tessera/optim/novograd.hpp>
#include <tessera/optim/prodigy.hpp>
#include <tessera/optim/projections.hpp>
#include <tessera/optim/schedules_more.hpp>
#include <tessera/optim/second_order/average_inverse.hpp>
#include <tessera/optim/second_order/mfac.hpp>
#include <tessera/optim/second_order/mfac_window.hpp>
#include <tessera/optim/unit_wise.hpp>
#include <vector>

#include "optim/model.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

using test::message_of;

TEST(TypedMisuse, ChainsRefuseBlocksWithoutMemory) {
  Model<double> model(3, 4);
  Context ctx;
  const auto opt = adamw(0.1);
  auto state = opt.init(model.params);
  const auto w = model.w;
  auto params = model.params, grads = model.grads;
  params[0].data = grads[1].data = nullptr;
  EXPECT_SAYS(message_of<shape_error>([&] { opt.update(ctx, model.grads, state, params); }),
              "the parameter 'w' (3x4) has no memory; expected 12 elements");
  EXPECT_SAYS(message_of<shape_error>([&] { opt.update(ctx, grads, state, model.params); }),
              "the gradient of 'b' (1x4) has no memory; expected 4 elements");
  EXPECT_TRUE(same_bits(w, model.w));
  EXPECT_EQ(state.count, 0);
}

/// So do wrappers, which read and copy blocks before a chain does, and links that keep where parameters began.
TEST(TypedMisuse, WrappersRefuseBlocksWithoutMemory) {
  Model<double> model(3, 4);
  Context ctx;
  auto params = model.params, grads = model.grads;
  params[0].data = grads[1].data = nullptr;
  const std::string parameter = "the parameter 'w' (3x4) has no memory; expected 12 elements",
                    gradient = "the gradient of 'b' (1x4) has no memory; expected 4 elements";
  const auto starts = [&](const auto& opt) {
    EXPECT_SAYS(message_of<shape_error>([&] { opt.init(params); }), parameter);
  };
  const auto steps = [&](const auto& opt) {
    auto state = opt.init(model.params);
    EXPECT_SAYS(message_of<shape_error>([&] { opt.update(ctx, model.grads, state, params); }), parameter);
    EXPECT_SAYS(message_of<shape_error>([&] { opt.update(ctx, grads, state, model.params); }), gradient);
  };
  const auto both = [&](const auto& opt) {
    starts(opt);
    steps(opt);
  };
  both(chain(prodigy(DistanceOptions<>{.rate = {1}})));
  both(dog(constant{1}));
  both(averaged(sgd(0.1), ema_average{}));
  both(lookahead(sgd(0.1)));
  both(schedule_free(sgd(0.1), constant{0.1}));
  steps(multi_steps(sgd(0.1), 2));
  steps(apply_if_finite(sgd(0.1), 3));
  starts(mezo(constant{0.1}));
  const auto zero = mezo(constant{0.1});
  auto state = zero.init(model.params);
  EXPECT_SAYS(message_of<shape_error>([&] {
                zero.step(
                    ctx, [] { return 0.0; }, state, params);
              }),
              parameter);
  const auto average = averaged(sgd(0.1), ema_average{});
  auto its = average.init(model.params);
  EXPECT_SAYS(message_of<shape_error>([&] { average.swap(its, params); }), parameter);
}

/// What a state keeps says what becomes of a block.
TEST(TypedMisuse, AdafactorGoesOnAsItsStateWasMade) {
  for (const Index made : {2, 128}) {
    Model<double> own(9, 7), other(9, 7);
    Context ctx;
    const auto opt = chain(scale_by_factored_rms({.min_dim = made}), scale(-0.1));
    const auto changed = chain(scale_by_factored_rms({.min_dim = 130 - made}), scale(-0.1));
    auto its = opt.init(own.params), state = opt.init(other.params);
    for (Index step = 0; step < 3; ++step) {
      own.draw(step);
      other.draw(step);
      opt.update(ctx, own.grads, its, own.params);
      changed.update(ctx, other.grads, state, other.params);
    }
    EXPECT_TRUE(same_bits(own.w, other.w) && same_bits(own.b, other.b));
  }
}

TEST(TypedMisuse, MFacStaysInItsVectors) {
  Context ctx;
  Buffer<double> x(40), y(5);
  MFacDynamic<double> F(40, 3, 1);
  const VectorView<double> small(y.data(), 5);
  EXPECT_SAYS(message_of<shape_error>([&] { F.ihvp(ctx, VectorView<const double>(x.data(), 40), small); }),
              "M-FAC of 40 parameters: a vector of 5");
  EXPECT_SAYS(message_of<shape_error>([&] { F.ihvp_newest(ctx, small); }), "M-FAC of 40 parameters: a vector of 5");
  EXPECT_SAYS(message_of<unsupported_error>([] { MFacDynamic<double>(-4, 3, 1); }), "M-FAC of -4 parameters");
  EXPECT_SAYS(message_of<shape_error>([] { MFacDynamic<double>(1, Index{1} << 40, 1); }), "M-FAC products");
  const MFacStatic<double> G(MatrixView<const double>(x.data(), 4, 10), 1);
  for (const auto& [i, j] : {std::array<Index, 2>{10, 0}, {0, 10}, {-1, 0}, {0, -1}})
    EXPECT_SAYS(message_of<shape_error>([&, i = i, j = j] { G.inv_elem(i, j); }), "expected 0 to 9");
  EXPECT_EQ(G.inv_elem(9, 9), 1);
}

TEST(TypedMisuse, AverageInversesAreSquare) {
  Context ctx;
  Buffer<double> m(32), g(4);
  double scale = 1;
  const auto refused = [&](MatrixView<double> M, Index size) {
    return message_of<shape_error>([&] { average_inverse(ctx, M, scale, VectorView<const double>(g.data(), size)); });
  };
  EXPECT_SAYS(refused({m.data(), 4, 3}, 3), "average_inverse of 4x3 by a vector of 3; expected a square matrix");
  EXPECT_SAYS(refused({m.data(), 3, 4}, 4), "average_inverse of 3x4 by a vector of 4");
  EXPECT_SAYS(refused({m.data(), 3, 3}, 4), "average_inverse of 3x3 by a vector of 4");
  EXPECT_SAYS(refused(MatrixView<double>(m.data(), {3, 3}, {8, 1}), 3), "average_inverse of 3x3 with gaps");
}

TEST(TypedMisuse, SchedulesAreFiniteBeforeTheirStartAndOfNoLength) {
  constexpr auto least = std::numeric_limits<Index>::min(), most = std::numeric_limits<Index>::max();
  for (const Index step : {least, Index{-3}, Index{-1}, Index{0}, Index{1}, Index{5}, most}) {
    const double all[]{warmup_cosine{.warmup_steps = 0, .decay_steps = 0}(step),
                       warmup_cosine{.warmup_steps = 10, .decay_steps = 5}(step),
                       linear{1, 0, 0}(step),
                       polynomial{.steps = 0}(step),
                       cosine_decay{.steps = 0}(step),
                       exponential_decay{.steps = 0}(step),
                       one_cycle{.steps = 0}(step),
                       inverse_sqrt{.warmup = 0}(step),
                       sgdr{.period = 0}(step)};
    for (const double value : all) EXPECT_TRUE(value >= 0 && value <= 1) << step << ' ' << value;
  }
  EXPECT_EQ((warmup_cosine{.peak = 2, .decay_steps = 9}(-3)), 2);
  EXPECT_EQ((exponential_decay{.steps = 0}(2)), 0.25);  // lengths under 1 count as 1
  EXPECT_EQ((inverse_sqrt{.warmup = 4}(-3)), 0.25);
}

TEST(TypedMisuse, ForestsHaveNoNegativeSize) {
  EXPECT_SAYS(message_of<shape_error>([] { ForestSystem(-2, {}); }), "forest of -2 vertices; expected 0 or more");
}

template <class F>
void refuses_decays(const char* says, F&& make) {
  for (const double wrong : {-0.1, 1.0, 2.0, std::numeric_limits<double>::quiet_NaN()}) {
    const auto text = message_of<unsupported_error>([&] { make(wrong); });
    EXPECT_SAYS(text, says);
    EXPECT_SAYS(text, "; expected 0 or more and less than 1");
  }
  make(0.0);
  make(0.999);
}

TEST(TypedMisuse, AveragesForget) {
  refuses_decays("ema: decay = ", [](double b) { ema(b); });
  refuses_decays("scale_by_adam: b1 = ", [](double b) { adam(0.1, {.b1 = b}); });
  refuses_decays("scale_by_adam: b2 = ", [](double b) { adamw(0.1, {.b2 = b}); });
  refuses_decays("scale_by_amsgrad: b2 = ", [](double b) { scale_by_amsgrad({.b2 = b}); });
  refuses_decays("scale_by_adamax: b1 = ", [](double b) { scale_by_adamax({.b1 = b}); });
  refuses_decays("scale_by_yogi: b2 = ", [](double b) { scale_by_yogi({.b2 = b}); });
  refuses_decays("scale_by_belief: b2 = ", [](double b) { scale_by_belief({.b2 = b}); });
  refuses_decays("scale_by_radam: b2 = ", [](double b) { scale_by_radam({.b2 = b}); });
  refuses_decays("scale_by_acprop: b2 = ", [](double b) { scale_by_acprop({.b2 = b}); });
  refuses_decays("scale_by_adan: b3 = ", [](double b) { scale_by_adan({.b3 = b}); });
  refuses_decays("scale_by_ademamix: b3 = ", [](double b) { scale_by_ademamix({.b3 = b}); });
  refuses_decays("scale_by_adopt: b2 = ", [](double b) { scale_by_adopt({.b2 = b}); });
  refuses_decays("scale_by_lion: b1 = ", [](double b) { scale_by_lion(b); });
  refuses_decays("scale_by_lion: b2 = ", [](double b) { scale_by_lion_k(kappa::huber{}, 0.9, b); });
  refuses_decays("scale_by_rms: decay = ", [](double b) { scale_by_rms({.decay = b}); });
  refuses_decays("scale_by_stddev: decay = ", [](double b) { scale_by_stddev(b); });
  refuses_decays("scale_by_adadelta: rho = ", [](double b) { scale_by_adadelta(b); });
  refuses_decays("mars_correction: b1 = ", [](double b) { mars_correction(0.025, b); });
  refuses_decays("grokfast: decay = ", [](double b) { grokfast(b); });
  refuses_decays("scale_by_sophia: b1 = ", [](double b) { scale_by_sophia({.b1 = b}); });
  refuses_decays("scale_by_novograd: b2 = ", [](double b) { scale_by_novograd({.b2 = b}); });
  refuses_decays("scale_by_adam_mini: b2 = ", [](double b) { scale_by_adam_mini({.b2 = b}); });
}

template <class F>
void refuses_below_zero(const char* says, F&& make) {
  for (const double wrong : {-1e-8, std::numeric_limits<double>::quiet_NaN()}) {
    const auto text = message_of<unsupported_error>([&] { make(wrong); });
    EXPECT_SAYS(text, says);
    EXPECT_SAYS(text, "; expected 0 or more");
  }
  make(0.0);
}

TEST(TypedMisuse, DivisorsAreKeptFromZero) {
  refuses_below_zero("scale_by_adam: eps = ", [](double eps) { adam(0.1, {.eps = eps}); });
  refuses_below_zero("scale_by_adam: eps_root = ", [](double eps) { adam(0.1, {.eps_root = eps}); });
  refuses_below_zero("scale_by_rss: initial = ", [](double least) { adagrad(0.1, least); });
  refuses_below_zero("scale_by_rss: eps = ", [](double eps) { adagrad(0.1, 0.1, eps); });
  refuses_below_zero("scale_by_rms: initial = ", [](double least) { scale_by_rms({.initial = least}); });
  refuses_below_zero("scale_by_stddev: eps = ", [](double eps) { scale_by_stddev(0.9, eps); });
  refuses_below_zero("scale_by_adadelta: eps = ", [](double eps) { adadelta(0.1, 0.9, eps); });
  refuses_below_zero("scale_by_factored_rms: eps = ", [](double eps) { scale_by_factored_rms({.eps = eps}); });
  refuses_below_zero("madgrad: eps = ", [](double eps) { madgrad(0.1, 0.9, eps); });
  refuses_below_zero("add_noise: eta = ", [](double eta) { add_noise(eta, 0.5, 1); });
}

TEST(TypedMisuse, BoundsAreNotNegative) {
  Model<double> model(3, 4);
  Context ctx;
  const auto onto = [&](auto set) { set(ctx, model.params, 1.0); };
  refuses_below_zero("trace: decay = ", [](double decay) { sgd(0.1, decay); });
  refuses_below_zero("clip: limit = ", [](double limit) { clip(limit); });
  refuses_below_zero("clip_by_global_norm: max_norm = ", [](double most) { clip_by_global_norm(most); });
  refuses_below_zero("clip_by_block_norm: max_norm = ", [](double most) { clip_by_block_norm(most); });
  refuses_below_zero("clip_by_block_rms: threshold = ", [](double most) { clip_by_block_rms(most); });
  refuses_below_zero("adaptive_grad_clip: clipping = ", [](double most) { adaptive_grad_clip(most); });
  refuses_below_zero("project_l2_ball: radius = ", [&](double radius) { onto(project_l2_ball{radius}); });
  refuses_below_zero("project_l1_ball: radius = ", [&](double radius) { onto(project_l1_ball{radius}); });
  refuses_below_zero("project_simplex: total = ", [&](double total) { onto(project_simplex{total}); });
  refuses_below_zero("prox_l1: lambda = ", [&](double lambda) { onto(prox_l1{lambda}); });
  refuses_below_zero("prox_l2: lambda = ", [&](double lambda) { onto(prox_l2{lambda}); });
  refuses_below_zero("prox_rows: lambda = ", [&](double lambda) { onto(prox_rows{lambda}); });
  EXPECT_SAYS(message_of<unsupported_error>([&] { onto(project_box{1, -1}); }), "1 to -1; expected low <= high");
  refuses_decays("scale_by_muon: momentum = ", [](double b) { scale_by_muon({.momentum = b}); });
  refuses_decays("madgrad: momentum = ", [](double b) { madgrad(0.1, b); });
}

TEST(TypedMisuse, RatesAreNumbers) {
  for (const double wrong : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()})
    EXPECT_SAYS(message_of<unsupported_error>([&] { adamw(wrong); }), "learning rate");
  sgd(-0.1);
  EXPECT_THROW(scale_by_radam({}, 3), unsupported_error);  // the root of a negative number
}

}  // namespace
}  // namespace tessera::optim
