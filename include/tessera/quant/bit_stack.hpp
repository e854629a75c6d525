/// Sign planes with low-rank magnitudes, as many of them as memory allows.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <tessera/core/buffer.hpp>
#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/expr/expr.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/kernels/sign_planes/list.hpp>

namespace tessera::inline TESSERA_ABI {

/// One residual block: sign (M,K), a bit each, times |·| ≈ U (M,k) V (K,k)ᵀ. mn/8 + 4k(m + n) bytes.
struct SignPlane {
  Buffer<std::uint8_t> signs;  // (M, (K + 7) / 8): bit j % 8 of byte j / 8 of a row is set where negative
  Buffer<float> u, v;          // (M,k), (K,k), row-major
  std::size_t bytes() const { return signs.bytes() + u.bytes() + v.bytes(); }
};

/// W (M,K) = sum over blocks of (sign ∘ U Vᵀ) diag(1/s), the first ones mattering most; `first(n)` shares them.
/// Up to 16/k columns are multiplied by the signs as they are, 2·M·K·blocks·k flops a column: signs are read once and
/// nothing is decoded. More of them meet 64 decoded rows at a time in f32: 2·M·K·(N + blocks·k) flops. Made by
/// BitStackQuantizer.
class BitStack : public OperatorBase<BitStack> {
 public:
  using Scalar = float;

  BitStack(Index rows, Index cols, Index rank, Buffer<float> inverse_scales, std::vector<SignPlane> planes)
      : rows_(rows),
        cols_(cols),
        rank_(rank),
        store_(std::make_shared<const Store>(Store{std::move(inverse_scales), std::move(planes)})),
        used_(static_cast<Index>(store_->planes.size())) {}

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  Index rank() const { return rank_; }
  /// Blocks in use, of `held()`.
  Index used() const { return used_; }
  Index held() const { return static_cast<Index>(store_->planes.size()); }
  std::string describe() const { return detail::concat("BitStack<", used_, "> ", detail::shape_text(rows_, cols_)); }

  /// The same with the first n blocks alone, not copied. Throws shape_error for more than there are.
  BitStack first(Index n) const {
    if (n < 0 || n > held())
      throw shape_error(detail::concat("tessera: first ", n, " blocks of a BitStack of ", held()));
    BitStack part = *this;
    part.used_ = n;
    return part;
  }
  /// As many blocks as fit in `most` bytes, scales included. May be none.
  BitStack within(std::size_t most) const {
    Index n = 0;
    for (std::size_t total = store_->inverse_scales.bytes(); n < held(); ++n) {
      total += plane(n).bytes();
      if (total > most) break;
    }
    return first(n);
  }
  /// Of the blocks in use.
  std::size_t bytes() const {
    std::size_t total = store_->inverse_scales.bytes();
    for (Index p = 0; p < used_; ++p) total += plane(p).bytes();
    return total;
  }
  double flops(Index n) const {
    return 2.0 * static_cast<double>(rows_) * static_cast<double>(cols_) * static_cast<double>(n + used_ * rank_);
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    f(ByteRange{store_->inverse_scales.begin(), store_->inverse_scales.end()});
    for (Index p = 0; p < used_; ++p) {
      f(ByteRange{plane(p).signs.begin(), plane(p).signs.end()});
      f(ByteRange{plane(p).u.begin(), plane(p).u.end()});
      f(ByteRange{plane(p).v.begin(), plane(p).v.end()});
    }
  }

  template <class = void>
  void apply(Context& ctx, Op op, float alpha, MatrixView<const float> X, float beta, MatrixView<float> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    Workspace::Scope scope(ctx.workspace);
    SignPlanesArgs args;
    args.bytes = (cols_ + 7) / 8;
    args.rank = rank_;
    args.planes = used_;
    auto* const each = scope.take<SignPlanesArgs::Plane>(used_);
    for (Index p = 0; p < used_; ++p) each[p] = {plane(p).signs.data(), plane(p).u.data()};
    args.plane = each;
    const Index padded = 8 * args.bytes, factors = used_ * rank_;
    if (op == Op::none && X.cols() * rank_ <= 16) {
      args.n = X.cols();
      float* const z = scope.take<float>(args.n * factors * padded);
      for (Index c = 0; c < args.n; ++c)
        scaled_factors(ctx, z + c * factors * padded, [&](Index j) { return X(j, c); });
      args.rows = z;
      args.alpha = alpha;
      args.beta = beta;
      args.Y = Y;
      constexpr Index each_piece = Index{1} << 17;  // signs times factors, some microseconds
      const Index height = each_piece / std::max<Index>(1, factors * padded);
      launch(ctx, SignPlanesKernels::select(ctx, args), args, rows_, std::max<Index>(height / 4 * 4, 32));
      return;
    }
    float* const v = scope.take<float>(factors * padded);
    scaled_factors(ctx, v, [](Index) { return 1.0f; });
    args.rows = v;
    const auto& kernel = SignPlanesKernels::select(ctx, args);
    constexpr Index tall = 64;
    args.out = scope.take<float>(tall * padded);
    if (op == Op::transpose) detail::scale_by(ctx, beta, Y);
    for (Index i = 0; i < rows_; i += tall) {
      const Index count = std::min(tall, rows_ - i);
      launch(ctx, kernel, args, count, 8);
      for (Index p = 0; p < used_; ++p) {
        each[p].signs += count * args.bytes;
        each[p].u += count * rank_;
      }
      const MatrixView<const float> W(args.out, {count, cols_}, {padded, 1});
      if (op == Op::none)
        gemm<float>(ctx, alpha, W, X, beta, Y.slice(0, i, count));
      else
        gemm<float>(ctx, alpha, W.transposed(), X.slice(0, i, count), 1.0f, Y);
    }
  }

 private:
  struct Store {
    Buffer<float> inverse_scales;  // (K)
    std::vector<SignPlane> planes;
  };
  const SignPlane& plane(Index p) const { return store_->planes[static_cast<std::size_t>(p)]; }

  /// Row p·k + r of `to` is V_p(:, r) ∘ x / s, and zeros up to whole bytes of signs.
  template <class F>
  void scaled_factors(Context& ctx, float* to, F&& x) const {
    const Index padded = (cols_ + 7) / 8 * 8;
    Workspace::Scope scope(ctx.workspace);
    float* const scaled = scope.take<float>(cols_);
    for (Index j = 0; j < cols_; ++j) scaled[j] = store_->inverse_scales[j] * x(j);
    for (Index p = 0; p < used_; ++p)
      for (Index r = 0; r < rank_; ++r, to += padded) {
        const float* v = plane(p).v.data() + r;
        for (Index j = 0; j < cols_; ++j) to[j] = v[j * rank_] * scaled[j];
        std::fill(to + cols_, to + padded, 0.0f);
      }
  }

  Index rows_, cols_, rank_;
  std::shared_ptr<const Store> store_;
  Index used_;
};

}  // namespace tessera::inline TESSERA_ABI
