#include <support/shared_eigen.hpp>
#include <support/shared_kernels.hpp>

namespace tessera::inline TESSERA_ABI {
TESSERA_TEST_KERNELS()
}  // namespace tessera::inline TESSERA_ABI

TESSERA_TEST_EIGEN()
