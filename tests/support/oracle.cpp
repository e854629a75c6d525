#include <support/oracle.hpp>

namespace tessera::test {

TESSERA_TEST_ORACLE(, float)
TESSERA_TEST_ORACLE(, double)

}  // namespace tessera::test

// What every loop over elements calls: where others are compiled without optimisation, this is still what they run.
namespace tessera::inline TESSERA_ABI {

template float& View<float, 2>::operator()(Index, Index) const;
template double& View<double, 2>::operator()(Index, Index) const;
template const float& View<const float, 2>::operator()(Index, Index) const;
template const double& View<const double, 2>::operator()(Index, Index) const;

}  // namespace tessera::inline TESSERA_ABI
