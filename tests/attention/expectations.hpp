/// What the tests of attention's forms ask of numbers and of errors.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <tessera/core/buffer.hpp>
#include <tessera/core/error.hpp>

namespace tessera::test {

/// a and b are within `bound` of each other everywhere; NaN is within nothing.
inline void expect_near(const Buffer<double>& a, const Buffer<double>& b, double bound, const std::string& what = "") {
  ASSERT_EQ(a.size(), b.size()) << what;
  double most = 0;
  for (Index i = 0; i < a.size(); ++i) {
    const double apart = std::abs(a[i] - b[i]);
    most = std::isnan(apart) ? INFINITY : std::max(most, apart);
  }
  EXPECT_LE(most, bound) << what;
}

/// f throws a shape_error whose words have `part`.
template <class F>
void expect_shape_error(const std::string& part, F&& f) {
  try {
    f();
    ADD_FAILURE() << "expected an error with " << part;
  } catch (const shape_error& e) {
    EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
  }
}

}  // namespace tessera::test
