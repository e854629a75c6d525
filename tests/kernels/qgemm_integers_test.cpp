// Every kernel of every format against the reference, bit for bit. Integers by group, and those without a scale.
#include "kernels/qgemm_laws.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

using IntegersFormats = ::testing::Types<GroupAffine<8>, GroupAffine<4, 128>, GroupAffine<3>, GroupAffine<2, 32>,
                                         GroupAffine<8, 64, false>, GroupAffine<4, 128, false>,
                                         GroupAffine<3, 64, false>, Integers<8>, Integers<4>, Integers<3>, Integers<2>>;
INSTANTIATE_TYPED_TEST_SUITE_P(Integers, QgemmFormats, IntegersFormats, FormatNames);

}  // namespace
}  // namespace tessera::test
