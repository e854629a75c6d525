// Every kernel of every format against the reference, bit for bit. Scales or codes that are numbers of 8 bits, and NF4.
#include "kernels/qgemm_laws.hpp"

namespace tessera::test {
namespace {

using NumbersFormats =
    ::testing::Types<MXFP4, NVFP4, MXINT8, MXFP8_E4M3, MXFP8_E5M2, FP8_E4M3, FP8_E5M2, NF4, NF4Double<16>>;
INSTANTIATE_TYPED_TEST_SUITE_P(Numbers, QgemmFormats, NumbersFormats, FormatNames);

}  // namespace
}  // namespace tessera::test
