// A user's own type inherits the laws of all types by its samples alone.
#include <vector>

#include <support/operator_laws.hpp>

#include "../../examples/second_difference.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

struct SecondDifferenceCase {
  using Operator = SecondDifference;
  static std::vector<Operator> samples() { return {Operator(0), Operator(1), Operator(2), Operator(40)}; }
};
const bool own_laws = OperatorLaws<::testing::Types<SecondDifferenceCase>>::of("Own");

}  // namespace
}  // namespace tessera::test
