/// The randomized Hadamard rotation.
#pragma once

#include <Eigen/Core>
#include <cmath>
#include <cstdint>
#include <string_view>

#include <tessera/core/buffer.hpp>
#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/core/view.hpp>
#include <tessera/expr/expr.hpp>
#include <tessera/kernels/fwht/fwht.hpp>

namespace tessera::inline TESSERA_ABI {

/// R = (I ⊗ H_b / √b) diag(±1) (N,N), b the largest power of two that divides N and random signs: orthogonal, and
/// spreads what is large in one feature over b of them. N log b operations a column, 4 bytes a feature. Seed 0 has no
/// random signs.
class HadamardRotation : public OperatorBase<HadamardRotation> {
 public:
  using Scalar = float;
  static constexpr std::string_view type_name = "HadamardRotation";

  explicit HadamardRotation(Index n, std::uint64_t seed = 1) : signs_(n, uninitialized), block_(n & -n) {
    const Philox draws(seed, 0x4ad);
    for (Index i = 0; i < n; ++i)
      signs_[i] = seed != 0 && (draws.bits(static_cast<std::uint64_t>(i)) & 1) != 0 ? -1.0f : 1.0f;
  }

  Index rows() const { return signs_.size(); }
  Index cols() const { return signs_.size(); }
  Index block() const { return block_; }
  std::size_t bytes() const { return signs_.bytes(); }
  double flops(Index n) const {
    return static_cast<double>(n) * static_cast<double>(rows()) * (2 + std::log2(static_cast<double>(block_ + 1)));
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    f(ByteRange{signs_.begin(), signs_.end()});
  }

  void apply(Context& ctx, Op op, float alpha, MatrixView<const float> X, float beta, MatrixView<float> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    const Index n = rows();
    const float scale = alpha / std::sqrt(static_cast<float>(block_));
    for_each_chunk(ctx, X.cols(), 16, [&](Context& worker, Index begin, Index end) {
      Workspace::Scope scope(worker.workspace);
      const MatrixView<float> T(scope.take<float>(n * (end - begin)), end - begin, n);
      const MatrixView<float> blocks(T.data(), T.size() / block_, block_);
      for (Index j = begin; j < end; ++j)
        for (Index i = 0; i < n; ++i) T(j - begin, i) = op == Op::none ? signs_[i] * X(i, j) : X(i, j);
      fwht(worker, blocks, scale, blocks);
      for (Index j = begin; j < end; ++j)
        for (Index i = 0; i < n; ++i) {
          const float value = op == Op::none ? T(j - begin, i) : signs_[i] * T(j - begin, i);
          Y(i, j) = beta == 0 ? value : value + beta * Y(i, j);
        }
    });
  }

 private:
  Buffer<float> signs_;
  Index block_;
};

}  // namespace tessera::inline TESSERA_ABI
