/// Low-rank adapters of linear layers.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include <tessera/core/buffer.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/matrix/low_rank.hpp>
#include <tessera/optim/parameters.hpp>

namespace tessera::inline TESSERA_ABI::nn {

/// What is added to a layer W (out, in) that stays as it is: scale·B·A with A (rank, in) and B (out, rank).
/// E. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (ICLR 2022), eq. 3.
template <class T>
class Lora {
 public:
  /// scale = alpha/rank. A is drawn from N(0, 1/in), B is zero: a new adapter changes nothing.
  /// Throws shape_error for a rank outside 1 to min(out, in).
  Lora(Index out, Index in, Index rank, double alpha, std::uint64_t seed = 0)
      : out_(out), in_(in), rank_(rank), scale_(static_cast<T>(alpha / static_cast<double>(rank))) {
    if (rank < 1 || rank > out || rank > in)
      throw shape_error(tessera::detail::concat("tessera: Lora of a (", tessera::detail::shape_text(out, in),
                                                ") layer: rank ", rank, "; expected 1 to ", std::min(out, in)));
    a_ = Buffer<T>(rank * in);
    b_ = Buffer<T>(out * rank);
    draw(seed);
  }

  Index rank() const { return rank_; }
  T scale() const { return scale_; }
  MatrixView<T> A() { return {a_.data(), rank_, in_}; }
  MatrixView<T> B() { return {b_.data(), out_, rank_}; }
  MatrixView<const T> A() const { return {a_.data(), rank_, in_}; }
  MatrixView<const T> B() const { return {b_.data(), out_, rank_}; }

  /// B·A as an operator; times `scale()` it is what the adapter adds.
  auto product() const { return tessera::low_rank(B(), A().transposed()); }

  /// Of these two an optimizer takes care: "<name>.A", "<name>.B".
  optim::Parameters<T> parameters(const std::string& name) { return blocks(name, A(), B()); }
  /// Their gradients, as `backward` writes them.
  static optim::Parameters<T> blocks(const std::string& name, MatrixView<T> A, MatrixView<T> B) {
    return {{name + ".A", A}, {name + ".B", B}};
  }

  /// Y += scale·X·Aᵀ·Bᵀ. 2·n·rank·(in + out) flops.
  void forward(Context& ctx, MatrixView<const T> X, MatrixView<T> Y) const {  // (n, in), (n, out)
    product().apply(ctx, Op::none, scale_, X.transposed(), T(1), Y.transposed());
  }

  /// dA = beta·dA + scale·(dY·B)ᵀ·X, dB = beta·dB + scale·dYᵀ·(X·Aᵀ), and dX += scale·dY·B·A where it has data.
  void backward(Context& ctx, MatrixView<const T> X, MatrixView<const T> dY, MatrixView<T> dX, T beta, MatrixView<T> dA,
                MatrixView<T> dB) const {
    Workspace::Scope scope(ctx.workspace);
    const MatrixView<T> inner(scope.take<T>(X.rows() * rank_), X.rows(), rank_);
    gemm<T>(ctx, T(1), X, A().transposed(), T(0), inner);
    gemm<T>(ctx, scale_, dY.transposed(), inner, beta, dB);
    gemm<T>(ctx, T(1), dY, B(), T(0), inner);
    gemm<T>(ctx, scale_, MatrixView<const T>(inner).transposed(), X, beta, dA);
    if (dX.data() != nullptr) gemm<T>(ctx, scale_, inner, A(), T(1), dX);
  }

  /// W += sign·scale·B·A: 1 takes the adapter in, -1 out again (up to rounding).
  void merge(Context& ctx, MatrixView<T> W, T sign = T(1)) const { gemm<T>(ctx, sign * scale_, B(), A(), T(1), W); }

  /// Into W, and begun anew: over several restarts the change is no longer of low rank. The optimizer's state for A and
  /// B should begin anew too. V. Lialin et al., "ReLoRA: High-Rank Training Through Low-Rank Updates" (ICLR 2024).
  void restart(Context& ctx, MatrixView<T> W, std::uint64_t seed) {
    merge(ctx, W);
    draw(seed);
  }

 private:
  void draw(std::uint64_t seed) {
    const Philox draws(seed);
    for (Index i = 0; i < a_.size(); ++i)
      a_[i] = static_cast<T>(draws.normal(static_cast<std::uint64_t>(i)) / std::sqrt(static_cast<double>(in_)));
    std::fill(b_.begin(), b_.end(), T(0));
  }

  Index out_, in_, rank_;
  T scale_;
  Buffer<T> a_, b_;
};

}  // namespace tessera::inline TESSERA_ABI::nn
