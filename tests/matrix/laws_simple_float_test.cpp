// Bands, triangles, gathers, stacks, blocks, sparse matrices and LDU in float against their dense matrices.
#include <matrix/simple_cases.hpp>

namespace tessera::test {
namespace TESSERA_TEST_FILE {

using Real = float;
using Types =
    ::testing::Types<BandedCase<Real>, TriangularCase<Real, Shape::lower>, TriangularCase<Real, Shape::unit_upper>,
                     TriangularCase<Real, Shape::upper>, TriangularCase<Real, Shape::unit_lower>,
                     DiagonalPlusLowRankCase<Real>, DiagonalPlusLowRankCase<bf16>, RangeCase<Real>, GatherCase<Real>,
                     StackCase<Real, true>, StackCase<Real, false>, MixedStackCase<Real>, Block2x2Case<Real>,
                     SparseCase<Real>, LduCase<Real>, LduCase<bf16>, LolduCase<Real>>;
const bool float_laws = OperatorLaws<Types>::of("Float");

}  // namespace
}  // namespace tessera::test
