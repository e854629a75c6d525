#include "structured.hpp"

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <tessera/expr/expr.hpp>
#include <tessera/optim/optim.hpp>
#include <tessera/project/kronecker.hpp>
#include <tessera/project/low_rank.hpp>
#include <tessera/project/monarch.hpp>
#include <utility>

namespace lm {

namespace {

namespace optim = tessera::optim;
using tessera::Dense;
using tessera::Monarch;
using LowRank = tessera::LowRank<Dense<float>, Dense<float>>;
using Kronecker = tessera::Kronecker<Dense<float>, Dense<float>>;
using KroneckerSum = tessera::KroneckerSum2<float>;

/// Its parameters block by block, in the order of `grad`.
template <class F>
void for_each_block(Dense<float>& A, F&& f) {
  f(A.parameters());
}
template <class F>
void for_each_block(Monarch<float>& A, F&& f) {
  f(A.parameters());
}
template <class F>
void for_each_block(LowRank& A, F&& f) {
  for_each_block(A.left(), f);
  for_each_block(A.right(), f);
}
template <class F>
void for_each_block(KroneckerSum& A, F&& f) {
  for (std::size_t i = 0; i < A.terms().size(); ++i) {
    Kronecker& term = A.term(static_cast<Index>(i));
    for_each_block(term.factor<0>(), f);
    for_each_block(term.factor<1>(), f);
  }
}

/// A trained by Adam to the outputs W X of X Xᵀ = G, and returned as it was where that gains nothing.
template <class A>
A finetuned(Context& ctx, A a, MatrixView<const float> W, const Eigen::MatrixXd& G, Index steps) {
  const Index K = W.cols();
  const double scale = G.diagonal().mean();
  if (steps < 1 || !(scale > 0)) return a;
  Eigen::MatrixXd H = G / scale;
  H.diagonal().array() += 1e-4;
  const Eigen::MatrixXf X = Eigen::MatrixXd(Eigen::LLT<Eigen::MatrixXd>(H).matrixL()).cast<float>();
  const Eigen::MatrixXf target = tessera::DenseView(W) * X;
  const auto loss = [&](Eigen::MatrixXf& E) {
    E = -target;
    a.apply(ctx, tessera::Op::none, 1, tessera::view(X), 1, tessera::view(E));
    return E.squaredNorm();
  };
  const A before = a;
  Eigen::MatrixXf E(W.rows(), K);
  const float first = loss(E);

  std::vector<float> gradient(static_cast<std::size_t>(a.parameter_count()));
  optim::Parameters<float> parameters, gradients;
  std::size_t at = 0;
  double energy = 0;
  for_each_block(a, [&](std::span<float> block) {
    const std::string name = std::to_string(at);
    parameters.emplace_back(name, block);
    gradients.emplace_back(name, std::span(gradient).subspan(at, block.size()));
    at += block.size();
    for (const float p : block) energy += static_cast<double>(p) * static_cast<double>(p);
  });
  const double rate = 0.03 * std::sqrt(energy / static_cast<double>(std::max<std::size_t>(at, 1)));
  const optim::warmup_cosine schedule{
      .init = 0, .peak = rate, .warmup_steps = std::max<Index>(steps / 20, 1), .decay_steps = steps, .end = 0};
  const auto adam = optim::chain(optim::scale_by_adam({}), optim::scale_by_learning_rate(schedule));
  auto state = adam.init(parameters);
  for (Index step = 0; step < steps; ++step) {
    loss(E);
    a.grad(ctx, tessera::view(X), tessera::view(std::as_const(E)), 0, gradient);
    adam.update(ctx, gradients, state, parameters);
  }
  return loss(E) < first ? a : before;
}

constexpr double share = 0.375;  // of the bytes of f32

LowRank nearest_low_rank(MatrixView<const float> W, const Eigen::MatrixXd* gram) {
  const double size = static_cast<double>(W.size());
  const auto rank = static_cast<Index>(share * size / static_cast<double>(W.rows() + W.cols()));
  return tessera::project<LowRank>(W, {.rank = std::max<Index>(rank, 1), .gram = gram}).matrix;
}

/// The largest divisor of n up to `most`.
Index divisor(Index n, Index most) {
  Index d = std::clamp<Index>(most, 1, n);
  while (n % d != 0) --d;
  return d;
}

/// 8 by 8 blocks, of as high a rank as the share allows.
Monarch<float> nearest_monarch(MatrixView<const float> W) {
  const Index rows = divisor(W.rows(), 8), cols = divisor(W.cols(), 8);
  const double each = static_cast<double>(W.rows() * cols + W.cols() * rows);
  const auto rank = static_cast<Index>(share * static_cast<double>(W.size()) / each);
  return tessera::project<Monarch<float>>(W, {.row_blocks = rows, .col_blocks = cols, .rank = std::max<Index>(rank, 1)})
      .matrix;
}

KroneckerSum nearest_kronecker(MatrixView<const float> W) {
  const Index rows = divisor(W.rows(), 16), cols = divisor(W.cols(), 16);
  const double each = static_cast<double>(rows * cols + W.size() / (rows * cols));
  const auto terms = static_cast<Index>(share * static_cast<double>(W.size()) / each);
  return tessera::project<KroneckerSum>(W, {.left_rows = rows, .left_cols = cols, .terms = std::max<Index>(terms, 1)})
      .matrix;
}

}  // namespace

std::vector<WeightFormat> structured_weight_formats(const GramOf& gram, Index finetune) {
  std::vector<WeightFormat> all;
  const auto add = [&](const std::string& name, Index steps, auto make) {
    all.push_back({steps > 0 ? name + ", trained" : name, [=](Context& ctx, MatrixView<const float> W) {
                     return AnyOperator<float>(finetuned(ctx, make(W), W, gram(W), steps));
                   }});
  };
  const auto both = [&](const std::string& name, auto make) {
    add(name, 0, make);
    if (finetune > 0) add(name, finetune, make);
  };
  both("low-rank 3/8", [](MatrixView<const float> W) { return nearest_low_rank(W, nullptr); });
  // What training would look for, found in closed form.
  add("low-rank 3/8, calibrated", 0, [gram](MatrixView<const float> W) { return nearest_low_rank(W, &gram(W)); });
  both("Monarch 3/8", [](MatrixView<const float> W) { return nearest_monarch(W); });
  both("Kronecker 3/8", [](MatrixView<const float> W) { return nearest_kronecker(W); });
  return all;
}

}  // namespace lm
