#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <tessera/io/safetensors.hpp>
#include <tessera/optim/output_laws.hpp>
#include <utility>
#include <vector>

#include "optim/by_name.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

/// A matrix and a vector, all numbers in one row for those who want them so, of a loss of targets z (rows, cols).
struct Problem {
  using Output = std::function<Targets<double>(Targets<double>)>;
  Index rows, cols;  // of the parameters
  std::array<Index, 2> shape;
  std::function<void(const double* x, double* z)> forward;
  std::function<void(const double* x, const double* dz, double* g)> backward;  // g ← all of it
  MatrixView<const double> inputs;                                             // of the matrix's layer, if any
  Output output;
  Buffer<double> x{rows * (cols + 1)}, g{rows * (cols + 1)}, z{shape[0] * shape[1]}, dz{shape[0] * shape[1]};
  Parameters<double> params{blocks(x)}, grads{blocks(g)};

  Problem again() const {
    Problem other{rows, cols, shape, forward, backward, inputs, output};
    std::copy_n(x.data(), x.size(), other.x.data());
    return other;
  }
  Parameters<double> blocks(Buffer<double>& of) const {
    return {{"w", MatrixView<double>(of.data(), rows, cols)},
            {"b", std::span<double>(of.data() + rows * cols, static_cast<std::size_t>(rows))}};
  }
  MatrixView<double> matrix(Buffer<double>& of) const { return {of.data(), shape[0], shape[1]}; }
  Targets<double> targets() {
    Targets<double> all{.rows = shape[0], .cols = shape[1]};
    all.forward = [this](MatrixView<double> to) { forward(x.data(), to.data()); };
    all.backward = [this](MatrixView<const double> from, const SeeLayer<double>& see) {
      if (see && inputs.rows() > 0) see(0, inputs, from);
      backward(x.data(), from.data(), g.data());
    };
    return output(std::move(all));
  }
  /// And the gradient.
  double value() {
    const auto all = targets();
    all.forward(matrix(z));
    const double loss = all.loss(matrix(z), matrix(dz));
    all.backward(matrix(dz), {});
    return loss;
  }
};
Problem::Output squares(Index n) {
  return [n](Targets<double> targets) {
    return of_squares(std::move(targets), [zeros = std::make_shared<Buffer<double>>(n), n] {
      return MatrixView<const double>(zeros->data(), 1, n);
    });
  };
}

/// Where a run ends, at the parameters to evaluate at; infinite where it is lost.
double end_of(const AnyOptimizer<double>& opt, Problem problem, Index steps) {
  Context ctx;
  auto state = opt.init(problem.params);
  const auto f = [&] { return problem.value(); };
  const Objective<double> objective{f, f, problem.targets()};
  try {
    for (Index step = 0; step < steps; ++step) opt.step(ctx, objective, problem.grads, state, problem.params);
  } catch (const property_error&) {
    return std::numeric_limits<double>::infinity();
  }
  Problem out = problem.again();
  opt.evaluation(ctx, state, problem.params, out.params);
  return out.value();
}

/// Those who look at values alone need steps in proportion to the dimension.
bool without_gradient(const std::string& name) { return name.ends_with("mezo"); }

/// What is as usual but for
///   acprop             divides by what gradients were before: where that is 0, eps alone bounds the step
///   sparse_mezo        moves all numbers but the largest, each within the bounds that they begin in
///   target_surrogate   a step of its targets that is right for a row of outputs, or for many
std::vector<HyperParameter> settings(const std::string& name, double rate, const Problem& of) {
  std::vector<HyperParameter> hyper{{"rate", rate}, {"weight_decay", 0}};
  if (name == "acprop") hyper.emplace_back("eps", 1e-3);
  if (name == "sparse_mezo") hyper.emplace_back("share", 1);
  if (name == "target_surrogate") hyper.emplace_back("eta", of.shape[0] == 1 ? 1 : 2);
  return hyper;
}

/// Every optimizer, at some multiple of its usual rate, brings what `f` starts at down to `share` of it; ten times the
/// steps for those without gradients.
void all_descend(const Problem& start, Index steps, double share,
                 const std::vector<double>& factors = {1, 0.1, 10, 0.01, 100}) {
  const double first = start.again().value();
  for (const auto& name : optimizer_names<double>()) {
    const double usual = optimizer_hyper_parameters<double>(name).at("rate");
    double best = std::numeric_limits<double>::infinity();
    for (const double factor : factors) {
      const auto opt = made(name, settings(name, factor * usual, start));
      best = std::min(best, end_of(opt, start.again(), without_gradient(name) ? 10 * steps : steps));
      if (best < share * first) break;
    }
    EXPECT_LT(best, share * first) << name;
  }
}

TEST(Convergence, OnAConvexQuadratic) {  // curvatures from 1 to 100
  const auto root = [](int i) { return std::pow(10.0, (i * 7 % 36) / 35.0); };
  Problem problem{6,
                  5,
                  {1, 36},
                  [=](const double* x, double* z) {
                    for (int i = 0; i < 36; ++i) z[i] = root(i) * (x[i] - std::sin(i + 1.0));
                  },
                  [=](const double*, const double* dz, double* g) {
                    for (int i = 0; i < 36; ++i) g[i] = root(i) * dz[i];
                  },
                  {},
                  squares(36)};
  // The largest where it costs least: it bounds the others, and stays, for sparse_mezo.
  for (int i = 0; i < 36; ++i) problem.x[i] = i == 0 ? 1.5 : 0.9 * std::cos(i);
  all_descend(problem, 400, 0.1);
}

TEST(Convergence, OnRosenbrocksFunction) {  // of 18 pairs
  Problem problem{6,
                  5,
                  {1, 36},
                  [](const double* x, double* z) {
                    for (int i = 0; i < 36; i += 2) {
                      z[i] = std::sqrt(2.0) * (1 - x[i]);
                      z[i + 1] = std::sqrt(200.0) * (x[i + 1] - x[i] * x[i]);
                    }
                  },
                  [](const double* x, const double* dz, double* g) {
                    for (int i = 0; i < 36; i += 2) {
                      g[i] = -std::sqrt(2.0) * dz[i] - 2 * x[i] * std::sqrt(200.0) * dz[i + 1];
                      g[i + 1] = std::sqrt(200.0) * dz[i + 1];
                    }
                  },
                  {},
                  squares(36)};
  for (Index i = 0; i < problem.x.size(); ++i) problem.x[i] = i % 2 == 0 ? -1.2 + 0.01 * static_cast<double>(i) : 1;
  all_descend(problem, 400, 0.5);
}

/// Sparse MeZO leaves no number out of the bounds it began in: what is to move is small, and large numbers at home.
TEST(Convergence, OnSmallNumbers) {
  const auto small = [](int i) { return i % 4 == 0; };
  // The first is the largest of the small ones, the bound itself, where nothing moves.
  const auto start = [=](int i) { return i == 0 ? 0.5 : small(i) ? 0.3 * std::cos(i) : 2 + std::sin(i); };
  Problem problem{6,
                  5,
                  {1, 36},
                  [=](const double* x, double* z) {
                    for (int i = 0; i < 36; ++i) z[i] = x[i] + (small(i) && i > 0 ? 0.5 : -1) * start(i);
                  },
                  [](const double*, const double* dz, double* g) { std::copy_n(dz, 36, g); },
                  {},
                  squares(36)};
  for (int i = 0; i < 36; ++i) problem.x[i] = start(i);
  const double first = problem.value();
  EXPECT_LT(end_of(made("sparse_mezo", {{"rate", 0.05}}), problem.again(), 1000), 0.1 * first);
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
  Buffer<double> pixel(n * pixels);
  std::vector<Index> ink;  // those that are 1, a fifth (their iterators were a quarter of the time at -O0)
  std::array<Index, n + 1> begin{};
  std::vector<nn::Token> labels;
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j < pixels; ++j) {
      pixel[i * pixels + j] = images(i, j);
      if (images(i, j) != 0) ink.push_back(j);
    }
    begin[static_cast<std::size_t>(i + 1)] = std::ssize(ink);
    for (Index c = 0; c < classes; ++c)
      if (hot(i, c) != 0) labels.push_back(static_cast<nn::Token>(c));
  }
  Context ctx;
  Problem problem{classes,
                  pixels,
                  {n, classes},
                  [&](const double* x, double* z) {
                    const Index* const starts = begin.data();
                    const Index* const at = ink.data();
                    for (Index i = 0; i < n; ++i)
                      for (Index c = 0; c < classes; ++c) {
                        const double* const row = x + c * pixels;
                        double sum = x[classes * pixels + c];
                        for (Index k = starts[i]; k < starts[i + 1]; ++k) sum += row[at[k]];
                        z[i * classes + c] = sum;
                      }
                  },
                  [&](const double*, const double* dz, double* g) {
                    const Index* const starts = begin.data();
                    const Index* const at = ink.data();
                    std::fill_n(g, classes * (pixels + 1), 0.0);
                    for (Index i = 0; i < n; ++i)
                      for (Index c = 0; c < classes; ++c) {
                        const double d = dz[i * classes + c];
                        double* const row = g + c * pixels;
                        g[classes * pixels + c] += d;
                        for (Index k = starts[i]; k < starts[i + 1]; ++k) row[at[k]] += d;
                      }
                  },
                  MatrixView<const double>(pixel.data(), n, pixels),
                  [&](Targets<double> targets) {
                    return of_classes(ctx, std::move(targets), [&] { return std::span<const nn::Token>(labels); });
                  }};
  EXPECT_NEAR(problem.value(), std::log(10.0), 1e-12);
  for (Index i = 0; i < problem.x.size(); ++i) problem.x[i] = 0.2 * std::sin(static_cast<double>(i));
  all_descend(problem, 40, 0.75, {1, 10, 100, 0.1});
}

}  // namespace
}  // namespace tessera::optim
