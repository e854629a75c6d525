#include "structured.hpp"

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <tessera/compress/sparse_gpt.hpp>
#include <tessera/expr/expr.hpp>
#include <tessera/matrix/bitmap.hpp>
#include <tessera/matrix/bsr.hpp>
#include <tessera/matrix/nm.hpp>
#include <tessera/matrix/quantized_sparse.hpp>
#include <tessera/optim/optim.hpp>
#include <tessera/project/kronecker.hpp>
#include <tessera/project/low_rank.hpp>
#include <tessera/project/monarch.hpp>
#include <type_traits>
#include <utility>

#include "stacked_kronecker.hpp"

namespace lm {

namespace {

namespace optim = tessera::optim;
using tessera::Dense;
using tessera::Monarch;
using LowRank = tessera::LowRank<Dense<float>, Dense<float>>;

constexpr double share = 0.375;  // of the bytes of f32

/// An operator that is trained as it is held; `parts(a)` are its parameters in grad's order.
template <class A, class F>
StructuredLayer in_place(A a, F&& parts) {
  StructuredLayer layer;
  layer.op = AnyOperator<float>(std::move(a));
  layer.blocks = parts(*layer.op.target<A>());
  layer.changed = [] {};
  layer.held = [op = layer.op] { return op; };
  return layer;
}

StructuredLayer nearest_low_rank(MatrixView<const float> W, const Eigen::MatrixXd* gram) {
  const auto rank =
      static_cast<Index>(share * static_cast<double>(W.size()) / static_cast<double>(W.rows() + W.cols()));
  return in_place(tessera::project<LowRank>(W, {.rank = std::max<Index>(rank, 1), .gram = gram}).matrix,
                  [](LowRank& A) {
                    return std::vector<std::span<float>>{A.left().parameters(), A.right().parameters()};
                  });
}

/// The largest divisor of n up to `most`.
Index divisor(Index n, Index most) {
  Index d = std::clamp<Index>(most, 1, n);
  while (n % d != 0) --d;
  return d;
}

/// 8 by 8 blocks, of as high a rank as the share allows.
StructuredLayer nearest_monarch(MatrixView<const float> W) {
  const Index rows = divisor(W.rows(), 8), cols = divisor(W.cols(), 8);
  const double each = static_cast<double>(W.rows() * cols + W.cols() * rows);
  const auto rank = static_cast<Index>(share * static_cast<double>(W.size()) / each);
  return in_place(
      tessera::project<Monarch<float>>(W, {.row_blocks = rows, .col_blocks = cols, .rank = std::max<Index>(rank, 1)})
          .matrix,
      [](Monarch<float>& A) { return std::vector<std::span<float>>{A.parameters()}; });
}

/// As many terms of 16 by 16 left factors as the share allows.
StructuredLayer nearest_kronecker(MatrixView<const float> W) {
  const Index rows = divisor(W.rows(), 16), cols = divisor(W.cols(), 16);
  const double each = static_cast<double>(rows * cols + W.size() / (rows * cols));
  const auto terms = std::max<Index>(static_cast<Index>(share * static_cast<double>(W.size()) / each), 1);
  const auto sum =
      tessera::project<tessera::KroneckerSum2<float>>(W, {.left_rows = rows, .left_cols = cols, .terms = terms}).matrix;
  StructuredLayer layer;
  layer.op = AnyOperator<float>(KroneckerInTraining(sum));
  auto* trained = layer.op.target<KroneckerInTraining>();
  layer.blocks = {trained->left(), trained->right()};
  layer.changed = [trained] { trained->changed(); };
  layer.held = [op = layer.op] { return AnyOperator<float>(op.target<KroneckerInTraining>()->stacked()); };
  return layer;
}

/// Entries of a pattern while they are trained: products are those of the matrix with its zeros, the gradient is read
/// where the pattern is. Beside a batch of text both are faster than a sparse product and its gradient.
class SparseInTraining : public tessera::OperatorBase<SparseInTraining> {
 public:
  using Scalar = float;
  static constexpr std::string_view type_name = "SparseInTraining";

  explicit SparseInTraining(tessera::Csr<float> A) : sparse_(std::move(A)), dense_(rows() * cols()) { changed(); }
  Index rows() const { return sparse_.rows(); }
  Index cols() const { return sparse_.cols(); }
  const tessera::Csr<float>& sparse() const { return sparse_; }
  std::span<float> values() { return sparse_.values(); }

  /// To be called when the values were written.
  void changed() {
    for_each_entry([&](std::size_t e, Index at) { dense_[at] = sparse_.values()[e]; });
  }
  void apply(Context& ctx, tessera::Op op, float alpha, MatrixView<const float> X, float beta,
             MatrixView<float> Y) const {
    tessera::DenseView<float>(MatrixView<const float>(dense_.data(), rows(), cols())).apply(ctx, op, alpha, X, beta, Y);
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    sparse_.for_each_buffer(f);
    f(tessera::ByteRange{dense_.begin(), dense_.end()});
  }
  Index parameter_count() const { return sparse_.nnz(); }
  void grad(Context& ctx, MatrixView<const float> X, MatrixView<const float> dY, float beta,
            std::span<float> dparams) const {
    tessera::detail::check_grad(*this, X, dY, dparams);
    tessera::Workspace::Scope scope(ctx.workspace);
    float* const dW = scope.take<float>(rows() * cols());
    tessera::gemm<float>(ctx, 1.0f, dY, X.transposed(), 0.0f, MatrixView<float>(dW, rows(), cols()));
    for_each_entry([&](std::size_t e, Index at) { dparams[e] = beta == 0 ? dW[at] : beta * dparams[e] + dW[at]; });
  }

 private:
  /// f(which value, where in the matrix, row-major).
  template <class F>
  void for_each_entry(F&& f) const {
    std::size_t e = 0;
    for (Index i = 0; i < rows(); ++i)
      for (; e < static_cast<std::size_t>(sparse_.row_ptr()[static_cast<std::size_t>(i) + 1]); ++e)
        f(e, i * cols() + sparse_.col_idx()[e]);
  }

  tessera::Csr<float> sparse_;
  Buffer<float> dense_;
};

/// What `method` leaves of each layer, held by `hold(Csr)` or, in int8, by `round(Csr)`; trained on its pattern.
template <class F, class G = std::nullptr_t>
Structure pruned(std::string name, tessera::SparseGpt method, double rate, F hold, G round = {}) {
  constexpr bool rounds = !std::is_same_v<G, std::nullptr_t>;
  const auto nearest = [=](MatrixView<const float> W, const Eigen::MatrixXd& gram) {
    const auto seen = tessera::Calibration::from_gram(gram, 1);
    StructuredLayer layer;
    layer.op = AnyOperator<float>(SparseInTraining(method.prune(tessera::default_context(), W, seen).matrix));
    auto* trained = layer.op.target<SparseInTraining>();
    layer.blocks = {trained->values()};
    layer.changed = [trained] { trained->changed(); };
    layer.held = [op = layer.op, hold] { return AnyOperator<float>(hold(op.target<SparseInTraining>()->sparse())); };
    if constexpr (rounds)
      layer.int8 = [op = layer.op, round] {
        return AnyOperator<float>(round(op.target<SparseInTraining>()->sparse()));
      };
    return layer;
  };
  return {.name = std::move(name), .nearest = nearest, .rate = rate, .training = 0.5, .int8 = rounds};
}

}  // namespace

std::vector<Structure> structures() {
  using Gram = const Eigen::MatrixXd&;
  using Rows = tessera::Csr<float>;
  const auto bits = [](const Rows& A) { return tessera::bitmap_from_csr(A); };
  return {{"low-rank 3/8", [](MatrixView<const float> W, Gram) { return nearest_low_rank(W, nullptr); }},
          {"low-rank 3/8, calibrated", [](MatrixView<const float> W, Gram gram) { return nearest_low_rank(W, &gram); }},
          {"Monarch 3/8", [](MatrixView<const float> W, Gram) { return nearest_monarch(W); }, true},
          {"Kronecker 3/8", [](MatrixView<const float> W, Gram) { return nearest_kronecker(W); }, true},
          // Half of the entries are near enough to where they were for the usual rate to do harm.
          pruned("sparse 1/2", {.density = 0.5}, 3e-4, bits),
          pruned(
              "sparse 2:4", {.n = 2, .m = 4}, 3e-4, [](const Rows& A) { return tessera::nm_from_csr(A, 2, 4); },
              [](const Rows& A) { return tessera::pack_n_of_m(A, 2, 4); }),
          pruned("sparse 1/4", {.density = 0.25}, 1e-3, bits),
          pruned("sparse 1/4, blocks of 4", {.density = 0.25, .block = 4}, 3e-3,
                 [](const Rows& A) { return tessera::bsr_from_csr(A, 4, 1); })};
}

void fit_outputs(Context& ctx, StructuredLayer& layer, MatrixView<const float> W, const Eigen::MatrixXd& gram,
                 Index steps) {
  const Index K = W.cols();
  const double scale = gram.diagonal().mean();
  if (steps < 1 || !(scale > 0)) return;
  Eigen::MatrixXd H = gram / scale;
  H.diagonal().array() += 1e-4;
  const Eigen::MatrixXf X = Eigen::MatrixXd(Eigen::LLT<Eigen::MatrixXd>(H).matrixL()).cast<float>();
  const Eigen::MatrixXf target = tessera::DenseView(W) * X;
  Eigen::MatrixXf E(W.rows(), K);
  const auto loss = [&] {
    E = -target;
    layer.op.apply(ctx, tessera::Op::none, 1, tessera::view(X), 1, tessera::view(E));
    return E.squaredNorm();
  };
  const float first = loss();

  std::vector<float> gradient(static_cast<std::size_t>(layer.op.parameter_count())), before;
  optim::Parameters<float> parameters, gradients;
  std::size_t at = 0;
  double energy = 0;
  for (const std::span<float> block : layer.blocks) {
    const std::string name = std::to_string(at);
    parameters.emplace_back(name, block);
    gradients.emplace_back(name, std::span(gradient).subspan(at, block.size()));
    at += block.size();
    before.insert(before.end(), block.begin(), block.end());
    for (const float p : block) energy += static_cast<double>(p) * static_cast<double>(p);
  }
  const double rate = 0.03 * std::sqrt(energy / static_cast<double>(std::max<std::size_t>(at, 1)));
  const optim::warmup_cosine schedule{
      .init = 0, .peak = rate, .warmup_steps = std::max<Index>(steps / 20, 1), .decay_steps = steps, .end = 0};
  const auto adam = optim::chain(optim::scale_by_adam({}), optim::scale_by_learning_rate(schedule));
  auto state = adam.init(parameters);
  for (Index step = 0; step < steps; ++step) {
    loss();
    layer.op.grad(ctx, tessera::view(X), tessera::view(std::as_const(E)), 0, gradient);
    adam.update(ctx, gradients, state, parameters);
    layer.changed();
  }
  if (loss() < first) return;
  at = 0;
  for (const std::span<float> block : layer.blocks) {
    std::copy_n(before.begin() + static_cast<std::ptrdiff_t>(at), block.size(), block.begin());
    at += block.size();
  }
  layer.changed();
}

}  // namespace lm
