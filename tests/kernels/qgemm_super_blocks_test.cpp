// Every kernel of every format against the reference, bit for bit. Formats of 256 values a block.
#include "kernels/qgemm_laws.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

using SuperBlocksFormats = ::testing::Types<Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_XS, TQ1_0, TQ2_0>;
INSTANTIATE_TYPED_TEST_SUITE_P(SuperBlocks, QgemmFormats, SuperBlocksFormats, FormatNames);

}  // namespace
}  // namespace tessera::test
