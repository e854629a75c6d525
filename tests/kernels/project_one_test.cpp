#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <tessera/kernels/project_one/project_one.hpp>
#include <vector>

#include "support/oracle.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

template <class T>
void check(Context& ctx, Index m, Index n, bool down, std::string_view kernel) {
  SCOPED_TRACE(detail::concat(kernel, ' ', m, 'x', n, down ? " down" : " across"));
  const Index gap = 3;
  const auto memory = test::random_buffer<T>(m * (n + gap) + 1, 1), p = test::random_buffer<T>(down ? m : n, 2);
  const MatrixView<const T> G(memory.data() + 1, {m, n}, {n + gap, 1});
  Buffer<T> r(down ? n : m);
  for (T& x : r) x = std::numeric_limits<T>::quiet_NaN();  // what was there is not read
  const double got =
      project_one<T>(ctx, down, VectorView<const T>(p.data(), p.size()), G, VectorView<T>(r.data(), r.size()));
  const double eps = static_cast<double>(std::numeric_limits<T>::epsilon());
  long double squares = 0;
  for (Index k = 0; k < r.size(); ++k) {
    double sum = 0, size = 0;
    for (Index l = 0; l < p.size(); ++l) {
      const double g = static_cast<double>(down ? G(l, k) : G(k, l)), term = g * static_cast<double>(p[l]);
      sum += term;
      size += std::abs(term);
      squares += static_cast<long double>(g) * g;
    }
    ASSERT_NEAR(static_cast<double>(r[k]), sum, static_cast<double>(p.size() + 1) * eps * size) << k;
  }
  const auto expected = static_cast<double>(squares);
  EXPECT_NEAR(got, expected, static_cast<double>(n + m) * eps * expected);
}

template <class T>
void check_all() {
  for (const auto& kernel : ProjectOneKernels::entries<ProjectOneArgs<T>>()) {
    if (!active_isa().has(kernel.isa)) continue;
    Context ctx;
    ctx.force(kernel.name);
    for (const bool down : {true, false})
      for (const auto& shape :
           {std::array<Index, 2>{1, 1}, {3, 5}, {4, 16}, {67, 33}, {130, 64}, {9, 2051}, {70, 4100}, {2050, 3}})
        check<T>(ctx, shape[0], shape[1], down, kernel.name);
  }
}

TEST(ProjectOne, EveryKernelAgainstPlainSums) {
  check_all<float>();
  check_all<double>();
}

TEST(ProjectOne, BitsDoNotDependOnThreads) {
  const auto g = test::random_buffer<float>(201 * 5000, 1), p = test::random_buffer<float>(5000, 2);
  const MatrixView<const float> G(g.data(), 201, 5000);
  for (const bool down : {true, false}) {
    std::vector<float> first;
    double squares = 0;
    for (const Index threads : {1, 3}) {
      auto ctx = Context::with_threads(threads);
      std::vector<float> r(down ? 5000 : 201);
      const double sum = project_one<float>(ctx, down, {p.data(), Index{down ? 201 : 5000}}, G,
                                            VectorView<float>(r.data(), static_cast<Index>(r.size())));
      if (threads == 1) {
        first = r;
        squares = sum;
      }
      EXPECT_EQ(sum, squares);
      EXPECT_EQ(std::memcmp(r.data(), first.data(), r.size() * sizeof(float)), 0);
    }
  }
}

TEST(ProjectOne, RefusesWhatDoesNotFit) {
  Context ctx;
  const auto g = test::random_buffer<float>(6, 1);
  Buffer<float> r(3);
  try {
    project_one<float>(ctx, true, {g.data(), 3}, {g.data(), 2, 3}, VectorView<float>(r.data(), 3));
    FAIL();
  } catch (const shape_error& e) {
    EXPECT_STREQ(
        e.what(),
        "tessera: project_one of (2x3), column stride 1, on a vector of 3 to one of 3; expected contiguous 2 and 3");
  }
  EXPECT_EQ(project_one<float>(ctx, false, {g.data(), 0}, {g.data(), 3, 0}, VectorView<float>(r.data(), 3)), 0);
  EXPECT_EQ(r[2], 0);
}

}  // namespace
}  // namespace tessera
