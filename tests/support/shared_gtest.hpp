/// What gtest's assertions on numbers instantiate, compiled once: see shared.cpp.
#pragma once

#include <gtest/gtest.h>

// TESSERA_TEST_GTEST(extern) declares it, TESSERA_TEST_GTEST() is its definition.
#define TESSERA_TEST_GTEST_PAIR(EXTERN, A, B)                                                                        \
  EXTERN template testing::AssertionResult testing::internal::CmpHelperEQ(const char*, const char*, const A&,        \
                                                                          const B&);                                 \
  EXTERN template testing::AssertionResult testing::internal::CmpHelperEQFailure(const char*, const char*, const A&, \
                                                                                 const B&);                          \
  EXTERN template testing::AssertionResult testing::internal::CmpHelperOpFailure(const char*, const char*, const A&, \
                                                                                 const B&, const char*);
#define TESSERA_TEST_GTEST(EXTERN)                                          \
  EXTERN template std::string testing::PrintToString(const bool&);          \
  EXTERN template std::string testing::PrintToString(const int&);           \
  EXTERN template std::string testing::PrintToString(const long&);          \
  EXTERN template std::string testing::PrintToString(const unsigned long&); \
  EXTERN template std::string testing::PrintToString(const float&);         \
  EXTERN template std::string testing::PrintToString(const double&);        \
  EXTERN template std::string testing::PrintToString(const std::string&);   \
  TESSERA_TEST_GTEST_PAIR(EXTERN, bool, bool)                               \
  TESSERA_TEST_GTEST_PAIR(EXTERN, int, int)                                 \
  TESSERA_TEST_GTEST_PAIR(EXTERN, long, int)                                \
  TESSERA_TEST_GTEST_PAIR(EXTERN, long, long)                               \
  TESSERA_TEST_GTEST_PAIR(EXTERN, unsigned long, unsigned)                  \
  TESSERA_TEST_GTEST_PAIR(EXTERN, unsigned long, unsigned long)             \
  TESSERA_TEST_GTEST_PAIR(EXTERN, float, float)                             \
  TESSERA_TEST_GTEST_PAIR(EXTERN, double, int)                              \
  TESSERA_TEST_GTEST_PAIR(EXTERN, double, double)

TESSERA_TEST_GTEST(extern)
