// Wrong memory, states, sizes and numbers where types are known and no name stands between.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <support/message_of.hpp>
#include <tessera/optim/alias.hpp>
#include <tessera/optim/factored.hpp>
#include <tessera/optim/second_order/average_inverse.hpp>
#include <tessera/optim/second_order/mfac.hpp>
#include <tessera/optim/second_order/mfac_window.hpp>
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

}  // namespace
}  // namespace tessera::optim
