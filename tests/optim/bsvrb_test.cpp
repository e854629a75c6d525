// Many-block bilevel problems: quadratics whose hypergradient is known, and a ridge for each of many regressions.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <support/message_of.hpp>
#include <tessera/optim/bsvrb.hpp>
#include <utility>
#include <vector>

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

using Vector = Eigen::VectorXd;
using Matrix = Eigen::MatrixXd;

Matrix draws(Index rows, Index cols, std::uint64_t seed) {
  const Philox words(seed);
  return Matrix::NullaryExpr(rows, cols,
                             [&](Index i, Index j) { return words.normal(static_cast<std::uint64_t>(i * cols + j)); });
}

/// g_i = ½yᵀA_i y - yᵀ(C_i x + b_i), f_i = ½|y - t_i|² + ½|x|², every sample of A_i times 1 + noise, of b_i and t_i
/// plus.
struct Quadratic {
  static constexpr Index m = 12, n = 3, p = 4;
  double noise;
  std::vector<Matrix> A, C;
  std::vector<Vector> b, t;

  explicit Quadratic(double size) : noise(size) {
    for (Index i = 0; i < m; ++i) {
      const auto seed = static_cast<std::uint64_t>(10 * i);
      const Matrix M = draws(n, n, seed);
      A.push_back(Matrix::Identity(n, n) + 0.2 * M * M.transpose());
      C.push_back(draws(n, p, seed + 1));
      b.emplace_back(draws(n, 1, seed + 2));
      t.emplace_back(draws(n, 1, seed + 3));
    }
  }
  double mean(const BatchDraw& d, std::uint64_t which) const {
    double sum = 0;
    for (Index k = 0; k < d.size; ++k) sum += d.words.normal(which * 1000 + static_cast<std::uint64_t>(k));
    return noise * sum / static_cast<double>(d.size);
  }
  static std::size_t at(Index i) { return static_cast<std::size_t>(i); }
  Matrix sampled(Index i, const BatchDraw& d) const { return A[at(i)] * (1 + 0.3 * std::tanh(mean(d, 0))); }

  static Index blocks() { return m; }
  static Index upper_size() { return p; }
  static Index lower_size(Index) { return n; }
  Vector lower_gradient(Index i, const Vector& x, const Vector& y, const BatchDraw& d) const {
    return sampled(i, d) * y - C[at(i)] * x - b[at(i)] + Vector::Constant(n, mean(d, 1));
  }
  Matrix lower_hessian(Index i, const Vector&, const Vector&, const BatchDraw& d) const { return sampled(i, d); }
  Vector lower_product(Index i, const Vector&, const Vector&, const Vector& v, const BatchDraw& d) const {
    return sampled(i, d) * v;
  }
  Vector cross_product(Index i, const Vector&, const Vector&, const Vector& v, const BatchDraw&) const {
    return -C[at(i)].transpose() * v;
  }
  std::pair<Vector, Vector> upper_gradients(Index i, const Vector& x, const Vector& y, const BatchDraw& d) const {
    return {x, y - t[at(i)] + Vector::Constant(n, mean(d, 2))};
  }
  Vector hypergradient(const Vector& x) const {
    Vector sum = Vector::Zero(p);
    for (Index i = 0; i < m; ++i) {
      const auto llt = A[at(i)].llt();
      const Vector y = llt.solve(C[at(i)] * x + b[at(i)]);
      sum += x + C[at(i)].transpose() * llt.solve(y - t[at(i)]);
    }
    return sum / m;
  }
};

TEST(Bsvrb, TrackersConvergeToTheHypergradientByInversesAndByProducts) {
  const Quadratic problem(0);
  const Vector one = Vector::Ones(Quadratic::p);
  Vector end[2];
  for (const bool products : {false, true}) {
    BsvrbOptions options{.blocks = Quadratic::m, .rate = 0.05, .lower_rate = 0.1, .products = products};
    Bsvrb<Quadratic> all(problem, options, one);
    for (int step = 0; step < 500; ++step) all.step();
    EXPECT_LT((all.hypergradient() - problem.hypergradient(all.x())).norm(), 1e-5) << products;
    EXPECT_LT(problem.hypergradient(all.x()).norm(), 1e-5) << products;
    end[products] = all.x();
    options.rate = 0;  // where x stays the tracker's limit is the closed form
    Bsvrb<Quadratic> still(problem, options, one);
    for (int step = 0; step < 300; ++step) still.step();
    EXPECT_LT((still.hypergradient() - problem.hypergradient(one)).norm(), 1e-8) << products;
    // With some of the blocks what is left is their difference from each other, √β of it.
    Bsvrb<Quadratic> some(problem, {.blocks = 4, .rate = 0.02, .lower_rate = 0.05, .beta = 0.005, .products = products},
                          one);
    for (int step = 0; step < 1200; ++step) some.step();
    const double left = problem.hypergradient(some.x()).norm();
    std::printf("4 of 12 blocks: |grad F| %.4f of %.4f, tracker off by %.4f\n", left, problem.hypergradient(one).norm(),
                (some.hypergradient() - problem.hypergradient(some.x())).norm());
    EXPECT_LT(left, 0.1 * problem.hypergradient(one).norm()) << products;
  }
  EXPECT_LT((end[0] - end[1]).norm(), 1e-5);
}

/// The mean of |∇F| over the second half of 300 steps.
double accuracy(const BsvrbOptions& options) {
  const Quadratic problem(1);
  Bsvrb<Quadratic> opt(problem, options, Vector::Ones(Quadratic::p));
  double sum = 0;
  for (int step = 0; step < 300; ++step) {
    opt.step();
    if (step >= 150) sum += problem.hypergradient(opt.x()).norm() / 150;
  }
  return sum;
}

TEST(Bsvrb, GoesOnFromItsBuffersToTheSameBits) {
  const Quadratic problem(0.1);
  for (const bool products : {false, true}) {
    const BsvrbOptions options{.blocks = 3, .rate = 0.05, .lower_rate = 0.02, .products = products, .seed = 4};
    Bsvrb<Quadratic> whole(problem, options, Vector::Ones(Quadratic::p));
    std::map<std::string, std::vector<std::byte>> file;
    for (int step = 0; step < 40; ++step) {
      if (step == 20)
        whole.for_each_buffer([&](const std::string& name, auto values) {
          const auto bytes = std::as_bytes(values);
          EXPECT_TRUE(file.emplace(name, std::vector<std::byte>(bytes.begin(), bytes.end())).second) << name;
        });
      whole.step();
    }
    Bsvrb<Quadratic> resumed(problem, options, Vector::Zero(Quadratic::p));
    resumed.for_each_buffer([&](const std::string& name, auto values) {
      std::copy_n(file.at(name).begin(), file.at(name).size(), std::as_writable_bytes(values).begin());
    });
    for (int step = 20; step < 40; ++step) resumed.step();
    EXPECT_EQ(whole.x(), resumed.x());
    EXPECT_EQ(whole.hypergradient(), resumed.hypergradient());
    resumed.for_each_buffer([&](const std::string& name, auto values) {
      if constexpr (std::is_same_v<decltype(values), std::span<Index>>)
        if (name == "order") std::fill(values.begin(), values.end(), Index{1} << 40);
    });
    EXPECT_THROW(resumed.step(), format_error);
  }
}

TEST(Bsvrb, MoreBlocksAndMoreSamplesAreMoreAccurate) {
  BsvrbOptions options{.rate = 0.1, .lower_rate = 0.05, .alpha = 0.05, .beta = 0.01};
  const auto with = [&](Index I, Index B) {
    options.blocks = I, options.samples = B;
    return accuracy(options);
  };
  const double two = with(2, 1), four = with(4, 1), twelve = with(12, 1), twelve4 = with(12, 4),
               twelve16 = with(12, 16);
  options.variance_reduction = false;
  const double plain = with(4, 1);
  options.variance_reduction = true;
  options.products = true;
  const double products = with(4, 1);
  std::printf("I=2 %.4f, 4 %.4f, 12 %.4f, 12 with B=4 %.4f, 16 %.4f; plain %.4f; products %.4f\n", two, four, twelve,
              twelve4, twelve16, plain, products);
  EXPECT_LT(four, 0.8 * two);
  EXPECT_LT(twelve, 0.8 * four);
  EXPECT_LT(twelve4, 0.8 * twelve);
  EXPECT_LT(twelve16, 0.7 * twelve4);
  EXPECT_LT(four, 0.7 * plain);
  EXPECT_LT(products, 1.5 * four);
}

/// Task i: ½ mean (a·y - b)² + ½r(x_i)·|y|² on what it is trained with, validation error above. x (tasks).
struct Ridges {
  static constexpr Index m = 10, n = 6, rows = 24;
  std::vector<Matrix> train, held;  // (rows, n + 1), the target last
  Ridges() {
    for (Index i = 0; i < m; ++i) {
      const auto seed = static_cast<std::uint64_t>(900 + 10 * i);
      const Vector truth = draws(n, 1, seed);
      for (auto* set : {&train, &held}) {
        Matrix data = draws(rows, n + 1, seed + (set == &train ? 1 : 2));
        data.col(n) = data.leftCols(n) * truth + (0.5 + 0.3 * static_cast<double>(i)) * data.col(n);
        set->push_back(data);
      }
    }
  }
  static double ridge(double x) { return 2 / (1 + std::exp(-x)); }
  static std::size_t at(Index i) { return static_cast<std::size_t>(i); }
  static Matrix pick(const Matrix& data, const BatchDraw& d, std::uint64_t which) {
    Matrix some(d.size, data.cols());
    for (Index k = 0; k < d.size; ++k)
      some.row(k) = data.row(static_cast<Index>(
          d.words.below(which * 1000 + static_cast<std::uint64_t>(k), static_cast<std::uint64_t>(rows))));
    return some;
  }
  static Vector slope(const Matrix& data, const Vector& y) {
    return data.leftCols(n).transpose() * (data.leftCols(n) * y - data.col(n)) / static_cast<double>(data.rows());
  }
  static Index blocks() { return m; }
  static Index upper_size() { return m; }
  static Index lower_size(Index) { return n; }
  Vector lower_gradient(Index i, const Vector& x, const Vector& y, const BatchDraw& d) const {
    return slope(pick(train[at(i)], d, 0), y) + ridge(x[i]) * y;
  }
  Matrix lower_hessian(Index i, const Vector& x, const Vector&, const BatchDraw& d) const {
    const Matrix a = pick(train[at(i)], d, 0).leftCols(n);
    return a.transpose() * a / static_cast<double>(d.size) + ridge(x[i]) * Matrix::Identity(n, n);
  }
  Vector lower_product(Index i, const Vector& x, const Vector& y, const Vector& v, const BatchDraw& d) const {
    return lower_hessian(i, x, y, d) * v;
  }
  static Vector cross_product(Index i, const Vector& x, const Vector& y, const Vector& v, const BatchDraw&) {
    Vector out = Vector::Zero(m);
    out[i] = ridge(x[i]) * (1 - ridge(x[i]) / 2) * y.dot(v);
    return out;
  }
  std::pair<Vector, Vector> upper_gradients(Index i, const Vector&, const Vector& y, const BatchDraw& d) const {
    return {Vector::Zero(m), slope(pick(held[at(i)], d, 1), y)};
  }
  /// Mean validation error of the exact solutions.
  double value(const Vector& x) const {
    double sum = 0;
    for (Index i = 0; i < m; ++i) {
      const Matrix a = train[at(i)].leftCols(n);
      const Vector y = (a.transpose() * a / rows + ridge(x[i]) * Matrix::Identity(n, n))
                           .llt()
                           .solve(a.transpose() * train[at(i)].col(n) / rows);
      sum += (held[at(i)].leftCols(n) * y - held[at(i)].col(n)).squaredNorm() / (2 * rows * m);
    }
    return sum;
  }
};

TEST(Bsvrb, FindsARidgeForEachTaskBetterThanPlainStochasticStepsSlow) {
  const Ridges problem;
  double excess[2][2] = {};
  Vector grid = Vector::Constant(Ridges::m, -8);
  for (Index i = 0; i < Ridges::m; ++i) {  // tasks do not see each other's x
    double least = 1e9, best = 0;
    for (double at = -8; at < 3; at += 0.05) {
      Vector x = grid;
      x[i] = at;
      if (const double f = problem.value(x); f < least) least = f, best = at;
    }
    grid[i] = best;
  }
  const double least = problem.value(grid), start = problem.value(Vector::Zero(Ridges::m)) - least;
  for (const bool reduced : {false, true})
    for (const bool products : {false, true}) {
      for (std::uint64_t seed = 0; seed < 4; ++seed) {
        Bsvrb<Ridges> opt(problem,
                          {.blocks = 3,
                           .samples = 4,
                           .rate = 0.2,
                           .lower_rate = 0.02,
                           .alpha = 0.05,
                           .beta = 0.02,
                           .products = products,
                           .curvature = 0.3,
                           .variance_reduction = reduced,
                           .seed = seed},
                          Vector::Zero(Ridges::m));
        for (int step = 0; step < 3000; ++step) opt.step();
        excess[reduced][products] += (problem.value(opt.x()) - least) / 4;
      }
    }
  std::printf("over the best: at first %.4f, plain %.4f %.4f, reduced %.4f %.4f\n", start, excess[0][0], excess[0][1],
              excess[1][0], excess[1][1]);
  for (const bool products : {false, true}) {
    EXPECT_LT(excess[1][products], 0.1 * start);
    EXPECT_LT(excess[1][products], 0.8 * excess[0][products]);
  }
  EXPECT_THROW((Bsvrb<Ridges>(problem, {.blocks = 11}, Vector::Zero(Ridges::m))), unsupported_error);
  EXPECT_THROW((Bsvrb<Ridges>(problem, {}, Vector::Zero(3))), shape_error);
  EXPECT_THROW((Bsvrb<Ridges>(problem, {.alpha = 1}, Vector::Zero(Ridges::m))), unsupported_error);
}

/// One block's answers spoilt from step to step: other sizes, or NaN.
struct Spoilt : Quadratic {
  enum Which { none, lower, hessian, product, cross, upper_x, upper_y } which = none;
  Index more = 0;     // elements
  double factor = 1;  // of all
  Spoilt() : Quadratic(0) {}
  template <class V>
  V spoil(Index i, Which what, V x) const {
    if (what != which || i != 5) return x;
    return V(V::Constant(x.rows() + more, x.cols(), factor));
  }
  Vector lower_gradient(Index i, const Vector& x, const Vector& y, const BatchDraw& d) const {
    return spoil(i, lower, Quadratic::lower_gradient(i, x, y, d));
  }
  Matrix lower_hessian(Index i, const Vector& x, const Vector& y, const BatchDraw& d) const {
    return spoil(i, hessian, Quadratic::lower_hessian(i, x, y, d));
  }
  Vector lower_product(Index i, const Vector& x, const Vector& y, const Vector& v, const BatchDraw& d) const {
    return spoil(i, product, Quadratic::lower_product(i, x, y, v, d));
  }
  Vector cross_product(Index i, const Vector& x, const Vector& y, const Vector& v, const BatchDraw& d) const {
    return spoil(i, cross, Quadratic::cross_product(i, x, y, v, d));
  }
  std::pair<Vector, Vector> upper_gradients(Index i, const Vector& x, const Vector& y, const BatchDraw& d) const {
    const auto [fx, fy] = Quadratic::upper_gradients(i, x, y, d);
    return {spoil(i, upper_x, Vector(fx)), spoil(i, upper_y, Vector(fy))};
  }
};

TEST(Bsvrb, RefusesBySizeAndByBlockWhatIsNotFiniteAndGoesOnAsBefore) {
  using test::message_of;
  const std::map<Spoilt::Which, std::string> names{
      {Spoilt::lower, "lower gradient"},        {Spoilt::hessian, "lower Hessian"},
      {Spoilt::product, "lower product"},       {Spoilt::cross, "cross product"},
      {Spoilt::upper_x, "upper gradient of x"}, {Spoilt::upper_y, "upper gradient of y"}};
  for (const bool products : {false, true})
    for (const auto& [which, name] : names) {
      if (which == (products ? Spoilt::hessian : Spoilt::product)) continue;
      Spoilt problem;
      const BsvrbOptions options{.blocks = 9, .rate = 0.05, .lower_rate = 0.02, .products = products};
      Bsvrb<Spoilt> whole(problem, options, Vector::Ones(Quadratic::p)), stopped(whole);
      for (int step = 0; step < 12; ++step) whole.step();
      Index refused = 0;
      const auto try_step = [&] {
        const auto text = message_of<error>([&] { stopped.step(); });
        if (text == "nothing was thrown") return false;
        ++refused;
        EXPECT_SAYS(text, "bsvrb: the " + name + " of block 5 is ");
        return true;
      };
      for (int step = 0; step < 12; ++step) {
        problem.which = which;
        problem.factor = std::numeric_limits<double>::quiet_NaN();
        bool done = !try_step();
        problem.factor = 1, problem.more = 1;
        if (!done) done = !try_step();
        problem.which = Spoilt::none, problem.more = 0;
        if (!done) stopped.step();
      }
      EXPECT_GE(refused, 12) << name;
      EXPECT_EQ(whole.x(), stopped.x());
      EXPECT_EQ(whole.y(5), stopped.y(5));
    }
}

/// Without lower variables there is nothing to solve: gradient descent.
TEST(Bsvrb, BlocksMayBeEmptyAndOptionsAreChecked) {
  struct Empty {
    static Index blocks() { return 2; }
    static Index upper_size() { return 2; }
    static Index lower_size(Index) { return 0; }
    static Vector lower_gradient(Index, const Vector&, const Vector& y, const BatchDraw&) { return y; }
    static Matrix lower_hessian(Index, const Vector&, const Vector&, const BatchDraw&) { return {}; }
    static Vector lower_product(Index, const Vector&, const Vector&, const Vector& v, const BatchDraw&) { return v; }
    static Vector cross_product(Index, const Vector& x, const Vector&, const Vector&, const BatchDraw&) {
      return 0 * x;
    }
    static std::pair<Vector, Vector> upper_gradients(Index, const Vector& x, const Vector& y, const BatchDraw&) {
      return {x, y};
    }
  };
  const Empty problem;
  for (const bool products : {false, true}) {
    Bsvrb<Empty> opt(problem, {.rate = 0.5, .products = products}, Vector::Ones(2));
    for (int step = 0; step < 3; ++step) opt.step();
    EXPECT_EQ(opt.x(), Vector::Constant(2, 0.125));
  }
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  for (const BsvrbOptions& wrong : {BsvrbOptions{.rate = nan}, BsvrbOptions{.lower_rate = nan},
                                    BsvrbOptions{.curvature = 0}, BsvrbOptions{.radius = nan}})
    EXPECT_SAYS(test::message_of<unsupported_error>([&] { Bsvrb<Empty>(problem, wrong, Vector::Ones(2)); }),
                "expected finite rates, curvature and radius above 0");
}

}  // namespace
}  // namespace tessera::optim
