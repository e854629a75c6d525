// Bands, triangles, gathers, stacks, blocks, sparse matrices and LDU in float against their dense matrices.
#include <matrix/simple_cases.hpp>

namespace tessera::test {
namespace {

using S = float;
using Types =
    ::testing::Types<BandedCase<S>, TriangularCase<S, Shape::lower>, TriangularCase<S, Shape::unit_upper>,
                     DiagonalPlusLowRankCase<S>, RangeCase<S>, GatherCase<S>, StackCase<S, true>, StackCase<S, false>,
                     MixedStackCase<S>, Block2x2Case<S>, SparseCase<S>, LduCase<S>, LolduCase<S>>;
INSTANTIATE_TYPED_TEST_SUITE_P(Float, OperatorLaws, Types);

}  // namespace
}  // namespace tessera::test
