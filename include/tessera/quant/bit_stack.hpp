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

namespace tessera::inline TESSERA_ABI {

namespace detail {
struct ByteSigns {
  float of[256][8];
  constexpr ByteSigns() : of() {
    for (int byte = 0; byte < 256; ++byte)
      for (int b = 0; b < 8; ++b) of[byte][b] = ((byte >> b) & 1) != 0 ? -1.0f : 1.0f;
  }
  constexpr const float (&operator[](int byte) const)[8] { return of[byte]; }
};
/// What each bit of a byte of signs multiplies by.
inline constexpr ByteSigns byte_signs;
}  // namespace detail

/// One residual block: sign (M,K), a bit each, times |·| ≈ U (M,k) V (K,k)ᵀ. mn/8 + 4k(m + n) bytes.
struct SignPlane {
  Buffer<std::uint8_t> signs;  // (M, (K + 7) / 8): bit j % 8 of byte j / 8 of a row is set where negative
  Buffer<float> u, v;          // (M,k), (K,k), row-major
  std::size_t bytes() const { return signs.bytes() + u.bytes() + v.bytes(); }
};

/// W (M,K) = sum over blocks of (sign ∘ U Vᵀ) diag(1/s), the first ones mattering most; `first(n)` shares them.
/// A product decodes 64 rows at a time and multiplies them in f32: 2·M·K·(N + blocks·k) flops. Made by
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
    check_apply(*this, op, X, Y);
    constexpr Index tall = 64;
    Workspace::Scope scope(ctx.workspace);
    const MatrixView<float> rows_of(scope.take<float>(tall * cols_), {tall, cols_}, {cols_, 1});
    const MatrixView<float> magnitude(scope.take<float>(tall * cols_), {tall, cols_}, {cols_, 1});
    if (op == Op::transpose) detail::scale_by(ctx, beta, Y);
    for (Index i = 0; i < rows_; i += tall) {
      const Index count = std::min(tall, rows_ - i);
      const auto W = rows_of.slice(0, 0, count);
      decode(ctx, i, magnitude.slice(0, 0, count), W);
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

  /// Rows [i, i + W.rows()) into W.
  template <class = void>
  void decode(Context& ctx, Index i, MatrixView<float> magnitude, MatrixView<float> W) const {
    for (Index r = 0; r < W.rows(); ++r) std::fill_n(&W(r, 0), cols_, 0.0f);
    const Index stride = (cols_ + 7) / 8;
    for (Index p = 0; p < used_; ++p) {
      const SignPlane& from = plane(p);
      gemm<float>(ctx, 1.0f, MatrixView<const float>(from.u.data(), rows_, rank_).slice(0, i, W.rows()),
                  MatrixView<const float>(from.v.data(), cols_, rank_).transposed(), 0.0f, magnitude);
      for (Index r = 0; r < W.rows(); ++r) {
        const std::uint8_t* signs = from.signs.data() + (i + r) * stride;
        float* to = &W(r, 0);
        const float* size = &magnitude(r, 0);
        Index j = 0;
        for (; j + 8 <= cols_; j += 8) {
          const auto& sign = detail::byte_signs[signs[j / 8]];
          float eight[8];
          for (int b = 0; b < 8; ++b) eight[b] = to[j + b] + sign[b] * size[j + b];
          std::copy_n(eight, 8, to + j);
        }
        for (; j < cols_; ++j) to[j] += detail::byte_signs[signs[j / 8]][j % 8] * size[j];
      }
    }
    for (Index r = 0; r < W.rows(); ++r)
      for (Index j = 0; j < cols_; ++j) W(r, j) *= store_->inverse_scales[j];
  }

  Index rows_, cols_, rank_;
  std::shared_ptr<const Store> store_;
  Index used_;
};

}  // namespace tessera::inline TESSERA_ABI
