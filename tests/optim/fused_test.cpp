// Every element-wise link moves parameters by the same bits whether it shares a pass with its neighbours or works
// alone, and where a mask takes some of the blocks those move as without it, others by what the link was given.

#include <gtest/gtest.h>

#include <string>
#include <tessera/optim/any.hpp>
#include <tessera/optim/optim.hpp>

#include "optim/model.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

constexpr double rate = 0.01;
constexpr Index steps = 5;

struct Taken {
  bool matrices, vectors;
  bool operator()(const ParameterInfo& p) const { return p.rows > 1 ? matrices : vectors; }
};

struct End {
  Buffer<float> w, b;
};
/// Of a matrix of several pieces of work and a vector shorter than a register's multiple.
End end_of(const AnyOptimizer<float>& opt) {
  Model<float> model(130, 147);
  Context ctx;
  auto state = opt.init(model.params);
  for (Index step = 0; step < steps; ++step) {
    model.draw(step);
    opt.update(ctx, model.grads, state, model.params);
  }
  return {std::move(model.w), std::move(model.b)};
}
/// What is left where the link does nothing.
End untouched() { return end_of(AnyOptimizer<float>("scale", chain(scale(-rate)))); }

template <class Link>
AnyOptimizer<float> fused(const Link& link) {
  return AnyOptimizer<float>("fused", chain(scale(1), link, scale(-rate)));
}
/// A link that keeps state works alone under a mask. Draws of states in codes depend on the link's place, which is
/// another there: these come as near as rounding lets them, `tolerance`.
template <class Link>
void same_under_masks(const Link& link, double tolerance = 0) {
  const End together = end_of(fused(link)), passed = untouched();
  EXPECT_FALSE(same_bits(passed.w, together.w));
  const auto under = [&](Taken taken) {
    return end_of(AnyOptimizer<float>("masked", chain(masked(link, taken), scale(-rate))));
  };
  const auto expect = [&](const Buffer<float>& got, const Buffer<float>& wanted) {
    for (Index i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], wanted[i], tolerance) << i;
  };
  const End all = under({true, true}), matrices = under({true, false}), vectors = under({false, true});
  expect(all.w, together.w);
  expect(all.b, together.b);
  expect(matrices.w, together.w);
  EXPECT_TRUE(same_bits(matrices.b, passed.b));
  EXPECT_TRUE(same_bits(vectors.w, passed.w));
  expect(vectors.b, together.b);
}
template <class Link>
void same_however_run(const std::string& name, const Link& link) {
  SCOPED_TRACE(name);
  same_under_masks(link);
}
template <class Link>
void same_in_codes(const std::string& name, const Link& link) {
  SCOPED_TRACE(name);
  const auto apart = chain(clip_by_global_norm(1e30), link, clip_by_global_norm(1e30), scale(-rate));
  const End together = end_of(fused(link)), alone = end_of(AnyOptimizer<float>("apart", apart));
  EXPECT_TRUE(same_bits(alone.w, together.w));
  EXPECT_TRUE(same_bits(alone.b, together.b));
  same_under_masks(link, 2 * rate * steps);
}

TEST(Fused, LinksThatKeepNothing) {
  same_however_run("clip", clip(0.5));
  same_however_run("scale_by_sign", scale_by_sign());
  same_however_run("set_to_zero", set_to_zero());
  same_however_run("scale_by_schedule", scale_by_schedule(exponential_decay{.rate = 0.9}));
  same_however_run("add_decayed_weights", add_decayed_weights(0.1));
}

TEST(Fused,
     LinksWithState) {  // one of each way to keep it; first_order.hpp holds every method to the same bits fused and not
  same_however_run("trace", trace(0.9, true));
  same_however_run("ema", ema(0.9));
  same_however_run("scale_by_adam", scale_by_adam());
  same_however_run("scale_by_adan", scale_by_adan());
  same_however_run("scale_by_lion_k", scale_by_lion_k(kappa::l1{}));
  same_however_run("scale_by_cocob", scale_by_cocob());
  same_however_run("scale_by_radam", scale_by_radam());
}

TEST(Fused, StatesInCodes) {
  same_in_codes("adam in bf16", in_bf16(scale_by_adam(), 7));
  same_in_codes("adam in 8 bits", in_dynamic8(scale_by_adam(), 7));
  same_in_codes("adam in 4 bits", in_dynamic4(scale_by_adam(), 7));
  same_in_codes("momentum in 8 bits", in_dynamic8(trace(0.9), 7));
  same_in_codes("momentum in 4 bits", in_dynamic4(trace(0.9), 7));
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::optim
