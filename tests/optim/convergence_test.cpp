#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <limits>
#include <string>
#include <tessera/io/safetensors.hpp>
#include <utility>
#include <vector>

#include "optim/by_name.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

/// A matrix and a vector, all numbers in one row for those who want them so.
struct Problem {
  Buffer<double> x, g;
  Parameters<double> params, grads;
  std::function<double(const double* at, double* gradient)> value;

  Problem(Index rows, Index cols, std::function<double(const double*, double*)> f)
      : x(rows * (cols + 1)),
        g(x.size()),
        params(blocks(x, rows, cols)),
        grads(blocks(g, rows, cols)),
        value(std::move(f)) {}
  static Parameters<double> blocks(Buffer<double>& of, Index rows, Index cols) {
    return {{"w", MatrixView<double>(of.data(), rows, cols)},
            {"b", std::span<double>(of.data() + rows * cols, static_cast<std::size_t>(rows))}};
  }
};

/// Where a run ends, at the parameters to evaluate at; infinite where it is lost.
double end_of(const AnyOptimizer<double>& opt, Problem& problem, Index steps) {
  Context ctx;
  auto state = opt.init(problem.params);
  const auto f = [&] { return problem.value(problem.x.data(), problem.g.data()); };
  try {
    for (Index step = 0; step < steps; ++step) opt.step(ctx, {f, f}, problem.grads, state, problem.params);
  } catch (const property_error&) {
    return std::numeric_limits<double>::infinity();
  }
  Problem out = problem;
  out.params = Problem::blocks(out.x, problem.params[0].rows, problem.params[0].cols);
  opt.evaluation(ctx, state, problem.params, out.params);
  return problem.value(out.x.data(), problem.g.data());
}

/// Those who look at values alone need steps in proportion to the dimension.
bool without_gradient(const std::string& name) { return name.ends_with("mezo"); }

/// Every optimizer, at some multiple of its usual rate, brings what `f` starts at down to `share` of it, MeZO in ten
/// times the steps where there are few dimensions. (Sparse MeZO leaves no number out of the bounds it began in.)
void all_descend(const Problem& start, Index steps, double share,
                 std::vector<double> factors = {1, 0.1, 10, 0.01, 100}) {
  Buffer<double> unused(start.x.size());
  const double first = start.value(start.x.data(), unused.data());
  for (const auto& name : optimizer_names<double>()) {
    const double usual = optimizer_hyper_parameters<double>(name).at("rate");
    if (name == "sparse_mezo" || (without_gradient(name) && start.x.size() > 100)) continue;
    double best = std::numeric_limits<double>::infinity();
    for (const double factor : factors) {
      Problem run = start;
      run.params = Problem::blocks(run.x, start.params[0].rows, start.params[0].cols);
      run.grads = Problem::blocks(run.g, start.params[0].rows, start.params[0].cols);
      best = std::min(best, end_of(made(name, {{"rate", factor * usual}, {"weight_decay", 0}}), run,
                                   without_gradient(name) ? 10 * steps : steps));
      if (best < share * first) break;
    }
    EXPECT_LT(best, share * first) << name;
  }
}

TEST(Convergence, OnAConvexQuadratic) {  // curvatures from 1 to 100
  Problem problem(6, 5, [](const double* x, double* g) {
    double sum = 0;
    for (int i = 0; i < 36; ++i) {
      const double curvature = std::pow(100.0, (i * 7 % 36) / 35.0), off = x[i] - std::sin(i + 1.0);
      g[i] = curvature * off;
      sum += 0.5 * curvature * off * off;
    }
    return sum;
  });
  all_descend(problem, 400, 0.1);
}

TEST(Convergence, OnRosenbrocksFunction) {  // of 18 pairs
  Problem problem(6, 5, [](const double* x, double* g) {
    double sum = 0;
    for (int i = 0; i < 36; i += 2) {
      const double a = 1 - x[i], b = x[i + 1] - x[i] * x[i];
      g[i] = -2 * a - 400 * x[i] * b;
      g[i + 1] = 200 * b;
      sum += a * a + 100 * b * b;
    }
    return sum;
  });
  for (Index i = 0; i < problem.x.size(); ++i) problem.x[i] = i % 2 == 0 ? -1.2 + 0.01 * static_cast<double>(i) : 1;
  all_descend(problem, 400, 0.5);
}

/// Multinomial logistic regression on 100 digits of pixels 0 and 1; what it is worth on others is looked at by the
/// examples.
TEST(Convergence, OnLogisticRegressionOfDigits) {
  const char* folder = std::getenv("TESSERA_TEST_DATA");
  const std::string path =
      std::string(folder != nullptr ? folder : TESSERA_TEST_DATA_DEFAULT) + "/mnist14x14.safetensors";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not there";
  const auto file = read_safetensors(path);
  const auto images = file["Xtrain"].view<std::uint8_t, 2>(), hot = file["Ytrain"].view<std::uint8_t, 2>();
  constexpr Index n = 100, classes = 10, pixels = 196;
  ASSERT_GE(images.rows(), n);
  Problem problem(classes, pixels, [images, hot](const double* x, double* g) {
    const double* bias = x + classes * pixels;
    std::fill_n(g, classes * (pixels + 1), 0.0);
    double loss = 0, pixel[pixels], p[classes];
    for (Index i = 0; i < n; ++i) {
      for (Index j = 0; j < pixels; ++j) pixel[j] = images(i, j);
      double most = -1e300, sum = 0;
      for (Index c = 0; c < classes; ++c) {
        p[c] = bias[c];
        for (Index j = 0; j < pixels; ++j) p[c] += x[c * pixels + j] * pixel[j];
        most = std::max(most, p[c]);
      }
      for (double& e : p) sum += e = std::exp(e - most);
      for (Index c = 0; c < classes; ++c) {
        const double d = p[c] / sum - hot(i, c);
        if (hot(i, c) != 0) loss -= std::log(p[c] / sum) / n;
        g[classes * pixels + c] += d / n;
        for (Index j = 0; j < pixels; ++j) g[c * pixels + j] += d / n * pixel[j];
      }
    }
    return loss;
  });
  Buffer<double> g(problem.x.size());
  EXPECT_NEAR(problem.value(problem.x.data(), g.data()), std::log(10.0), 1e-12);
  for (Index i = 0; i < problem.x.size(); ++i) problem.x[i] = 0.05 * std::sin(static_cast<double>(i));
  all_descend(problem, 40, 0.75, {1, 10, 100, 0.1});
}

}  // namespace
}  // namespace tessera::optim
