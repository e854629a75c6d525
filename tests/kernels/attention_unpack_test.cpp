#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <string>
#include <tessera/kernels/attention/unpack/list.hpp>
#include <vector>

#include "support/oracle.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

TEST(Unpack, EveryKernelEqualsTheReference) {
  for (const auto& kernel : UnpackKernels::entries<UnpackArgs>()) {
    UnpackArgs any;
    any.bits = 8;
    if (!kernel.accepts(any)) {
      std::printf("[ skipped  ] %s: %s\n", std::string(kernel.name).c_str(), kernel.why_not(any).c_str());
      continue;
    }
    SCOPED_TRACE(kernel.name);
    for (const int bits : {2, 3, 4, 8, 16})
      for (const Index d : {1, 3, 7, 8, 9, 16, 31, 32, 33, 64, 80, 127, 128})
        for (const Index rows : {1, 5, 64})
          for (const bool by_row : {false, true}) {
            SCOPED_TRACE(testing::Message() << bits << " bits, d " << d << ", " << rows << " rows, by_row " << by_row);
            UnpackArgs a;
            a.bits = bits;
            a.half = bits == 16 && by_row;
            a.d = d;
            a.rows = rows;
            a.row_bytes = UnpackArgs::packed_bytes(d, bits);
            std::vector<std::uint8_t> codes(
                static_cast<std::size_t>(rows * a.row_bytes));  // exact: ASan sees overreads
            for (std::size_t i = 0; i < codes.size(); ++i)      // no NaN: patterns below infinity
              codes[i] = static_cast<std::uint8_t>(Philox(7).bits(i) & (a.half ? 0x3e : 0x7e));
            const Index blocks = (d + 31) / 32;
            std::vector<f16> scale, zero;
            for (Index i = 0; i < (by_row ? rows * blocks : d); ++i) {
              scale.emplace_back(0.01f * static_cast<float>(i % 7 + 1));
              zero.emplace_back(static_cast<float>(i % 5) - 2.0f);
            }
            std::vector<float> row_scale(static_cast<std::size_t>(rows), 0.125f);
            a.codes = codes.data();
            a.scale = scale.data();
            a.zero = zero.data();
            a.meta_stride = by_row ? blocks : 0;
            a.row_scale = row_scale.data();
            std::vector<float> got(static_cast<std::size_t>(rows * d), -1.0f), expected = got;
            a.out = expected.data();
            UnpackRef::run(a, {0, rows, 0});
            a.out = got.data();
            kernel.run(a, {0, rows, 0});
            for (std::size_t i = 0; i < got.size(); ++i)  // a fused multiply-add rounds once less
              ASSERT_NEAR(got[i], expected[i], bits < 8 ? 1e-6f : 0.0f) << i;
          }
  }
}

}  // namespace
}  // namespace tessera::test
