#include <support/shared_eigen.hpp>
#include <support/shared_gtest.hpp>

TESSERA_TEST_EIGEN()
TESSERA_TEST_GTEST()
