#include <support/operator_laws.hpp>

namespace tessera::test {

TESSERA_OPERATOR_LAWS(, float)
TESSERA_OPERATOR_LAWS(, double)

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(OperatorLaws);  // it is linked into every program

}  // namespace tessera::test
