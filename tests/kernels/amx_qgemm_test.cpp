// The AMX kernel of qgemm against the reference, bit for bit: every shape of code and of scales. Natively where the
// processor has AMX, else emulated.
#include <support/amx_emulator.hpp>

#include "kernels/qgemm_suite.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

using namespace test;

template <class F>
class QgemmAmxTiles : public ::testing::Test {};
using Formats = ::testing::Types<Q8_0, Q4_1, NF4, Q4_K, Q6_K>;
TYPED_TEST_SUITE(QgemmAmxTiles, Formats, FormatNames);

TYPED_TEST(QgemmAmxTiles, EqualTheReference) {
  const AmxEmulation amx;
  if (!active_isa().has(Isa::amx_int8) || !active_isa().has(Isa::avx512_vnni)) GTEST_SKIP() << "needs amx_int8";
  constexpr Index block = TypeParam::block_size;
  for (const Index m : {20, 32, 75})
    for (const Index k : {block - 1, 2 * block + 5})
      for (const Index n : {16, 35}) {
        const Weights<TypeParam> W(m, k, static_cast<std::uint64_t>(m * k));
        const Operand X(k, n, true, 0, 0, 2), Y(m, n, true, 0, 0, 3);
        Operand expected = Y;
        Context reference;
        reference.force("qgemm:ref");
        qgemm(reference, 0.5f, W.panels(), X.view, 1, MatrixView<float>(expected.memory.data(), {m, n}, {1, m}));
        for (const Index threads : {1, 2}) {
          Context ctx = Context::with_threads(threads);
          ctx.force("qgemm:amx_int8");
          for (const bool panels : {true, false}) {
            Operand got = Y;
            qgemm(ctx, 0.5f, panels ? W.panels() : W.stored(), X.view, 1,
                  MatrixView<float>(got.memory.data(), {m, n}, {1, m}));
            ASSERT_TRUE(same(expected.memory, got.memory)) << m << ' ' << k << ' ' << n << ' ' << panels;
          }
        }
      }
}

TYPED_TEST(QgemmAmxTiles, FewColumnsAreLeftToOthers) {
  const AmxEmulation amx;
  const Weights<TypeParam> W(16, TypeParam::block_size, 1);
  const Operand X(TypeParam::block_size, 15, true, 0, 0, 2), Y(16, 15, true, 0, 0, 3);
  Context ctx;
  ctx.force("qgemm:amx_int8");
  EXPECT_THROW(qgemm(ctx, 1, W.panels(), X.view, 0, Y.view), unsupported_error);
}

}  // namespace
}  // namespace tessera
