// Element-wise links move parameters by the same bits whether they share a pass, work alone or under a mask: here those
// that keep nothing, those that keep one or two averages of what they see, and states in codes; the other methods are
// the cases of first_order.hpp (adaptive_test, momenta_test, optax_links_test).

#include <gtest/gtest.h>

#include <tessera/optim/optim.hpp>

#include "optim/first_order.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

constexpr double rate = 0.01;

TEST(Fused, LinksThatKeepNothing) {
  same_however_run(add_decayed_weights(0.1), rate);
  same_however_run(clip(0.5), rate);
  same_however_run(keep_params_nonnegative(), rate);
  same_however_run(scale_blocks([](const ParameterInfo& p) { return p.rows > 1 ? 0.5 : 2.0; }), rate);
  same_however_run(scale_by_schedule(exponential_decay{.rate = 0.9}), rate);
  same_however_run(scale_by_sign(), rate);
  same_however_run(set_to_zero(), rate);
  same_however_run(TurnBy<constant>{{0.5}}, rate);
}

TEST(Fused, LinksThatKeepAverages) {
  same_however_run(ema(0.9), rate);
  same_however_run(scale_by_adam(), rate);
  same_however_run(trace(0.9, true), rate);
}

TEST(Fused, StatesInCodes) {
  same_however_run(in_bf16(scale_by_adam(), 7), rate, 1e-4f);
  same_however_run(in_dynamic8(scale_by_adam(), 7), rate, 1e-3f);
  same_however_run(in_dynamic4(scale_by_adam(), 7), rate, 1e-2f);
  same_however_run(in_dynamic8(trace(0.9), 7), rate, 5e-3f);
  same_however_run(in_dynamic4(trace(0.9), 7), rate, 2e-2f);
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::optim
