#include <tessera/optim/optim.hpp>

#include <gtest/gtest.h>
using namespace tessera;
using namespace tessera::optim;
TEST(Optim, Smoke) {
  Buffer<float> p(100), g(100);
  for (Index i = 0; i < 100; ++i) g[i] = 1;
  Parameters<float> params{{"w", std::span<float>(p)}}, grads{{"w", std::span<float>(g)}};
  auto opt = chain(clip_by_global_norm(1.f), scale_by_adam(), add_decayed_weights(.01f),
                   scale_by_schedule(warmup_cosine{}), scale(-1e-3), clip_by_global_norm(2), trace(.9));
  auto state = opt.init(params);
  Context ctx;
  opt.update(ctx, grads, state, params);
  EXPECT_EQ(state.state_bytes(), 1200u);
}
