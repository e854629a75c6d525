// Every kernel of every format against the reference, bit for bit. Scales or codes that are numbers of 8 bits, and NF4.
#include "kernels/qgemm_laws.hpp"

namespace tessera::test {

/// Members of the names alone say nothing: `e` is a scale where there is an exponent_bias, `d` where it is an f16.
struct NotAScale {
  static constexpr Index block_size = 32;
  static constexpr int bits = 8, zero = 0;
  struct Block {
    std::uint8_t e;
    float d;
    std::int8_t qs[32];
  };
};
static_assert(!PanelFormat<NotAScale> && PanelFormat<MXFP4> && PanelFormat<NF4Double<256>>);
static_assert(!PanelFormat<GroupAffine<7>> && !PanelFormat<GroupAffine<2, 16>>);

namespace TESSERA_TEST_FILE {

using NumbersFormats =
    ::testing::Types<MXFP4, NVFP4, MXINT8, MXFP8_E4M3, MXFP8_E5M2, FP8_E4M3, FP8_E5M2, NF4, NF4Double<16>>;
INSTANTIATE_TYPED_TEST_SUITE_P(Numbers, QgemmFormats, NumbersFormats, FormatNames);

}  // namespace
}  // namespace tessera::test
