// Every kernel of every format against the reference, bit for bit. Formats whose codes are indices of a grid.
#include "kernels/qgemm_laws.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

using GridsFormats = ::testing::Types<IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S>;
INSTANTIATE_TYPED_TEST_SUITE_P(Grids, QgemmFormats, GridsFormats, FormatNames);

}  // namespace
}  // namespace tessera::test
