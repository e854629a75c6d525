#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "optim/coordinates.hpp"
#include "optim/promises.hpp"
#include "optim/targets.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

/// Every column.
void reflect(Buffer<double>& w, Index rows, Index cols) {
  std::vector<double> v(static_cast<std::size_t>(rows));
  double square = 0;
  for (std::size_t i = 0; i < v.size(); ++i) square += (v[i] = std::cos(3.0 * static_cast<double>(i) + 1)) * v[i];
  for (Index j = 0; j < cols; ++j) {
    double along = 0;
    for (Index i = 0; i < rows; ++i) along += v[static_cast<std::size_t>(i)] * w[i * cols + j];
    for (Index i = 0; i < rows; ++i) w[i * cols + j] -= 2 / square * along * v[static_cast<std::size_t>(i)];
  }
}

/// W and its gradients reflected, W ends reflected: how far from it.
double off_reflected(const AnyOptimizer<double>& opt, Index rows, Index cols) {
  Model<double> plain(rows, cols), turned(rows, cols);
  reflect(turned.w, rows, cols);
  run(opt, plain, 5, [] {});
  run(opt, turned, 5, [&] { reflect(turned.dw, rows, cols); });
  reflect(plain.w, rows, cols);
  return farthest(plain, turned);
}

enum : unsigned {
  scale = 1,  // gradients times 8, and the loss
  sign = 2,   // parameters and gradients of the other sign
  units = 4,  // parameters times 8, gradients over 8
  rows = 8,   // in another order, of the matrix
  columns = 16,
  elements = 32 | rows | columns,  // in any order, of either block
  left = 64 | rows,                // rotations of each column
  right = 128 | columns            // and of each row
};
/// The same steps in other coordinates; what is not among `promised` they do not keep, and `why` says why not, or
/// what does it.
struct Promise {
  std::vector<std::string> names;
  unsigned promised;
  std::string why;
  Hyper hyper{};         // beside ε of 0
  double bound = 1e-11;  // beside the way gone
};

std::vector<Promise> promises() {
  return {
      {{"sgd", "momentum", "optimistic_gradient_descent", "mfac"},
       sign | elements | left | right,
       "linear in gradients, or in their inverses: lengths follow them"},
      {{"adam",
        "adamw",
        "nadam",
        "nadamw",
        "adagrad",
        "rmsprop",
        "rmsprop_centered",
        "amsgrad",
        "adamax",
        "adamaxw",
        "adan",
        "adopt",
        "lion",
        "mars",
        "grokfast",
        "simplified_ademamix",
        "cautious",
        "rprop",
        "optimistic_adam",
        "cocob",
        "sign_sgd",
        "signum",
        "lookahead",
        "schedule_free",
        "sam",
        "averaged",
        "polyak_averaged",
        "swa",
        "frugal_blocks",
        "badam",
        "momo_adam",
        "lion_lp"},
       scale | sign | elements,
       "each element over its own size, which is not that of a turned one"},
      {{"ademamix"}, scale | sign | elements, "its ε of 1e-8 has no name", {}, 1e-6},
      {{"adabelief", "mechanize"}, scale | sign | elements, "an ε of theirs stays", {}, 1e-8},
      {{"radam"},
       sign | elements,
       "first steps are momentum, which has the gradients' scale",
       {{"b2", 0.9}, {"threshold", 4.1}}},
      {{"adadelta"}, sign | elements, "ε is what it starts from", {{"eps", 1e-6}}},
      {{"yogi"}, sign | elements, "the second moment starts at 1e-6"},
      {{"lion_huber", "lion_relativistic"}, sign | elements, "the corner's width is a gradient's"},
      {{"madgrad"}, sign | elements, "over a cube root"},
      {{"acprop"}, sign | elements, "the first step is the gradient"},
      {{"sophia"}, sign | elements, "Newton's, inverse to the scale, where nothing is clipped", {{"gamma", 100}}},
      {{"prodigy", "dadapt_adam"}, sign | elements, "ε of 1e-8 beside gradients times a distance of 1e-6"},
      {{"target_surrogate"}, sign | elements, "η bounds steps of targets", {{"eps", 1e-8}}},
      {{"noisy_sgd"}, 0, "the noise is drawn by place, whatever the gradient"},
      {{"adamw_bf16", "adamw_8bit", "adamw_4bit"},
       scale | sign,
       "codes are rounded by place, and share blocks' scales"},
      {{"mezo", "sparse_mezo"}, sign, "directions are drawn by place; steps are as the loss", {{"eps", 1e-3}}},
      {{"lamb"}, scale | sign | units | elements, "lengths are the block's", {{"weight_decay", 0}}},
      {{"lars"}, scale | sign | units | elements | left | right, "lengths are the block's", {{"weight_decay", 0}}},
      {{"fromage", "polyak_sgd"}, scale | sign | units | elements | left | right, "by norms and the loss alone"},
      {{"momo"}, scale | sign | units | elements | left | right, "no bound on its rate", {{"rate", 1e9}}},
      {{"natural_gradient"},
       scale | sign | units | elements | left | right,
       "undamped, to its solver's tolerance",
       {{"damping", 0}},
       1e-5},
      {{"novograd", "lbfgs"}, scale | sign | elements | left | right, "first steps have a length of their own"},
      {{"zoom"}, scale | sign | elements | left | right, "the first length tried is no parameter's"},
      {{"dog"}, scale | sign | elements | left | right, "the first distance is beside 1 + |x|; ε of 1e-8", {}, 1e-8},
      {{"dowg"}, sign | elements | left | right, "the first distance is ε", {{"eps", 1e-4}}},
      {{"backtracking"}, sign | elements | left | right, "the first length tried is a number, 1", {{"max_rate", 1}}},
      {{"muon", "scion", "lion_spectral"},
       scale | sign | left | right,
       "by singular values; ε beside the norm",
       {},
       1e-6},
      {{"soap"}, scale | sign | left | right, "Adam's, in a basis that turns along"},
      {{"kfac", "mkor"}, sign | left | right, "a factor a side; lengths follow the gradients or their inverses"},
      {{"shampoo"}, sign | rows | columns, "directions turn along, but lengths are Adam's; ε·I in the factors"},
      {{"shampoo_tiles"}, sign, "tiles are cut by place", {{"side", 4}}},
      {{"galore"}, scale | sign | left | columns, "the shorter side is projected, the other one's elements are Adam's"},
      {{"frugal_svd"}, scale | sign | rows | columns, "signs of what the subspace leaves"},
      {{"apollo", "apollo_mini", "flora", "frugal"}, scale | sign | columns, "rows are drawn or mixed by place"},
      {{"adam_mini", "lion_rows"}, scale | sign | rows | right, "a length for each row"},
      {{"sm3"}, scale | sign | rows | columns, "covers are rows and columns"},
      {{"adafactor"}, scale | sign | units | rows | columns, "factors are rows and columns", {{"min_dim", 2}}},
  };
}

TEST(Invariances, OfEveryName) {
  const auto reordered = Coordinates::permutation(), turned = Coordinates::reflection();
  const std::vector<std::tuple<unsigned, std::string, Coordinates>> all{
      {scale, "scale", {.factor = 8}},     {sign, "sign", {.unit = -1}},
      {units, "units", {.unit = 8}},       {elements, "elements", {.shuffled = true}},
      {rows, "rows", {.left = reordered}}, {columns, "columns", {.right = reordered}},
      {left, "left", {.left = turned}},    {right, "right", {.right = turned}}};
  std::vector<std::string> listed;
  for (const auto& promise : promises())
    for (const auto& name : promise.names) {
      listed.push_back(name);
      EXPECT_FALSE(promise.why.empty()) << name;
      Hyper hyper = promise.hyper;
      for (const auto& [usual, value] : std::map<std::string, double>{{"rank", 3},
                                                                      {"refresh", 2},
                                                                      {"every", 2},
                                                                      {"invert_every", 1},
                                                                      {"period", 2},
                                                                      {"eps", 0},
                                                                      {"initial", 0},
                                                                      {"min_norm", 0},
                                                                      {"max_rate", 1e9}})
        if (std::none_of(hyper.begin(), hyper.end(), [&](const auto& h) { return h.name == usual; }))
          hyper.emplace_back(usual, value);
      const auto opt = made(name, hyper);
      const auto start = end_in({}, opt, 0), end = end_in({}, opt);
      const auto strays = [&](const std::vector<double>& from) {
        double most = 0;
        for (std::size_t i = 0; i < end.size(); ++i) most = std::max(most, std::abs(end[i] - from[i]));
        return most;
      };
      const double way = strays(start);
      for (const auto& [flag, what, coordinates] : all) {
        const double off = strays(end_in(coordinates, opt)) / way;
        if ((promise.promised & flag) == flag)
          EXPECT_LE(off, promise.bound) << name << ' ' << what;
        else
          EXPECT_GT(off, std::max(1e-6, 10 * promise.bound)) << name << " keeps " << what;
      }
    }
  auto names = optimizer_names<double>();
  std::sort(names.begin(), names.end());
  std::sort(listed.begin(), listed.end());
  EXPECT_EQ(listed, names);  // each once
}

/// GaLore turns on the side that it projects, the shorter one, with its whole spectrum too.
TEST(Invariances, OfGaloresSides) {
  for (const double rank : {3.0, 7.0}) {
    const auto galore = made("galore", {{"rank", rank}, {"refresh", 2}});
    EXPECT_LT(off_reflected(galore, 7, 9), 1e-8) << rank;
    EXPECT_GT(off_reflected(galore, 9, 7), 1e-5) << rank;
  }
}

/// Shampoo's directions turn along; its lengths are Adam's, which do not.
TEST(Invariances, OfRotationOfDirections) {
  const auto opt = made("shampoo", {{"momentum", 0}, {"weight_decay", 0}, {"every", 2}, {"rate", 1}});
  Model<double> plain(8, 8), turned(8, 8);
  Context ctx;
  auto state = opt.init(plain.params), its = opt.init(turned.params);
  const auto direction = [&](Model<double>& model, AnyState<double>& of, Index step, bool reflected) {
    Buffer<double> u = model.w;
    model.draw(step);
    if (reflected) reflect(model.dw, 8, 8);
    opt.update(ctx, model.grads, of, model.params);
    double square = 0;
    for (Index i = 0; i < u.size(); ++i) square += (u[i] = model.w[i] - u[i]) * u[i];
    for (double& e : u) e /= std::sqrt(square);
    return u;
  };
  for (Index step = 0; step < 5; ++step) {
    auto expected = direction(plain, state, step, false);
    const auto got = direction(turned, its, step, true);
    reflect(expected, 8, 8);
    for (Index i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], 1e-8) << step << ' ' << i;
  }
}

/// APOLLO only scales each column of the gradient, APOLLO-Mini all of it.
TEST(Invariances, OfColumnsDirections) {
  constexpr Index rows_of = 7, cols_of = 9;
  for (const std::string name : {"apollo", "apollo_mini"}) {
    Model<double> model(rows_of, cols_of);
    Buffer<double> before;
    run(made(name, {{"rank", 3}, {"weight_decay", 0}}), model, 1, [&] { before = model.w; });
    double factor = 0;
    for (Index j = 0; j < cols_of; ++j) {
      if (j == 0 || name == "apollo") factor = (model.w[j] - before[j]) / model.dw[j];
      EXPECT_LT(factor, 0);
      for (Index i = 0; i < rows_of; ++i)
        EXPECT_NEAR(model.w[i * cols_of + j] - before[i * cols_of + j], factor * model.dw[i * cols_of + j], 1e-14)
            << name;
    }
  }
}

/// Where FRUGAL's subspace is all there is nothing is left for signs but rounding, which they leave alone.
TEST(Invariances, OfAWholeSubspace) {
  Model<double> one(9, 7), other(9, 7), part(9, 7);
  run(made("frugal_svd", {{"rank", 9}, {"free_rate", 1}}), one, 5, [] {});
  run(made("frugal_svd", {{"rank", 9}, {"free_rate", 100}}), other, 5, [] {});
  run(made("frugal_svd", {{"rank", 6}, {"free_rate", 1}}), part, 5, [] {});
  EXPECT_EQ(farthest(one, other), 0);
  EXPECT_GT(farthest(one, part), 1e-4);
}

/// Natural gradient moves what the model says the same way whatever its parameters: here to 1 - rate of it.
TEST(Invariances, OfCoordinates) {
  for (const double stretch : {1.0, 3.0}) {
    Model<double> model(9, 7);
    Context ctx;
    const auto targets = linear_targets(model, 5, stretch);
    Buffer<double> before(targets.rows * targets.cols), after(before.size());
    const auto at = [&](Buffer<double>& z) { return MatrixView<double>(z.data(), targets.rows, targets.cols); };
    const auto gradient = [&] {
      Buffer<double> dz(before.size());
      targets.forward(at(after));
      const double loss = targets.loss(at(after), at(dz));
      targets.backward(at(dz), {});
      return loss;
    };
    const auto opt = made("natural_gradient", {{"rate", 0.25}, {"damping", 1e-9}, {"iterations", 200}});
    auto state = opt.init(model.params);
    const auto w = model.w;
    targets.forward(at(before));
    opt.step(ctx, {gradient, gradient, targets}, model.grads, state, model.params);
    targets.forward(at(after));
    for (Index i = 0; i < before.size(); ++i) ASSERT_NEAR(after[i], 0.75 * before[i], 1e-5) << stretch << ' ' << i;
    EXPECT_FALSE(same_bits(w, model.w));
  }
}

}  // namespace
}  // namespace tessera::optim
