// Every kernel of every format against the reference, bit for bit. Formats of 32 to 128 values with an f16 scale.
#include "kernels/qgemm_laws.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

using BlocksFormats = ::testing::Types<Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, IQ4_NL, Q1_0, Q2_0>;
INSTANTIATE_TYPED_TEST_SUITE_P(Blocks, QgemmFormats, BlocksFormats, FormatNames);

}  // namespace
}  // namespace tessera::test
