/// Pruned weights in int8 with a scale a row: blocks of R×1, N:M groups, compressed rows.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include <tessera/kernels/sparse_int8/sparse_int8.hpp>
#include <tessera/matrix/activations.hpp>
#include <tessera/matrix/bsr.hpp>
#include <tessera/matrix/nm.hpp>

namespace tessera::inline TESSERA_ABI {

/// An int8 whose products are summed in f32: Csr<Int8Code> and the like multiply f32, converting as they load.
struct Int8Code {
  std::int8_t value = 0;
  constexpr Int8Code() = default;
  template <class T>
  requires std::is_arithmetic_v<T>
  explicit constexpr Int8Code(T x) : value(static_cast<std::int8_t>(x)) {}
  constexpr operator float() const { return static_cast<float>(value); }
};
template <>
struct detail::accum<Int8Code> {
  using type = float;
};

namespace detail {

inline const std::int8_t* bytes_of(std::span<const Int8Code> codes) {
  return reinterpret_cast<const std::int8_t*>(codes.data());
}
inline BsrInt8Args blocks_int8(Index rows, Index cols, Index block_rows, std::span<const std::int32_t> ptr,
                               std::span<const std::int32_t> columns, std::span<const Int8Code> codes) {
  BsrInt8Args args;
  args.rows = rows;
  args.cols = cols;
  args.block_rows = block_rows;
  args.block_ptr = ptr.data();
  args.block_col = columns.data();
  args.values = bytes_of(codes);
  return args;
}
inline BsrInt8Args int8_args(const Csr<Int8Code>& A) {
  return blocks_int8(A.rows(), A.cols(), 1, A.row_ptr(), A.col_idx(), A.values());
}
inline BsrInt8Args int8_args(const Bsr<Int8Code>& A) {
  return blocks_int8(A.rows(), A.cols(), A.block_rows(), A.block_ptr(), A.block_col(), A.values());
}
inline NmInt8Args int8_args(const Nm<Int8Code>& A) {
  NmInt8Args args;
  args.rows = A.rows();
  args.cols = A.cols();
  args.n = A.n();
  args.m = A.m();
  args.bits = Nm<Int8Code>::bits(A.m());
  args.line = Nm<Int8Code>::line(A.cols(), A.n(), A.m());
  args.values = bytes_of(A.values());
  args.codes = A.codes().data();
  return args;
}

/// f(column, code) of everything stored in row i.
template <class F>
void for_each_code(const BsrInt8Args& a, Index i, F&& f) {
  const Index R = a.block_rows;
  for (Index e = a.block_ptr[i / R]; e < a.block_ptr[i / R + 1]; ++e) f(Index{a.block_col[e]}, a.values[e * R + i % R]);
}
template <class F>
void for_each_code(const NmInt8Args& a, Index i, F&& f) {
  for (Index k = 0, each = a.groups() * a.n; k < each; ++k)
    if (const Index j = a.column(i, k); j < a.cols) f(j, a.values[i * each + k]);
}

}  // namespace detail

/// Rows of no more codes have sums of products of int8 that fit int32.
inline constexpr Index most_int8_codes = (Index{1} << 31) / (128 * 128) - 1;

/// diag(scales) codes (M,K), codes of int8 held as `Store`: Bsr<Int8Code> of R×1 blocks, Nm<Int8Code> or
/// Csr<Int8Code>. W * X rounds each column of X to int8 with one scale, sums products of integers exactly in int32 and
/// scales the sums, so that every kernel and any number of threads return the same bits; compressed rows multiply f32
/// unless asked otherwise (Activations), as gathering costs them more than multiplying; unsupported_error where a row
/// has more than most_int8_codes. A column of X, or row of W,
/// with a value that is not finite becomes NaN. Owns its arrays. 2 operations a stored code and column. Blocks of 4×1
/// and 16×1 are those of H. Shen et al., "An Efficient Sparse Inference Software Accelerator for Transformer-based
/// Language Models on CPUs" (2023).
template <class Store>
class QuantizedSparse : public OperatorBase<QuantizedSparse<Store>> {
 public:
  using Scalar = float;
  static constexpr std::string_view type_name = "QuantizedSparse";

  QuantizedSparse() = default;
  /// scales (M). Throws shape_error for another number, format_error for blocks of more than one column.
  QuantizedSparse(Store codes, Buffer<float> scales) : codes_(std::move(codes)), scales_(std::move(scales)) {
    if (scales_.size() != rows())
      throw shape_error(detail::concat("tessera: QuantizedSparse of (", tessera::describe(codes_), ") with ",
                                       scales_.size(), " scales: expected ", rows(), ", one a row"));
    for (const float scale : scales_)
      if (std::abs(scale) < std::numeric_limits<float>::infinity() && scale != 0)
        exponent_ = std::max(exponent_, std::ilogb(scale));
    for (Index i = 0; i < rows(); ++i)
      if constexpr (std::same_as<Store, Csr<Int8Code>>)
        longest_ = std::max<Index>(longest_, codes_.row_ptr().data()[i + 1] - codes_.row_ptr().data()[i]);
      else
        longest_ = std::max(longest_, codes_.most_nonzeros(i, i + 1));
    if constexpr (std::same_as<Store, Bsr<Int8Code>>)
      if (codes_.block_cols() != 1)
        throw format_error(detail::concat("tessera: QuantizedSparse of (", tessera::describe(codes_),
                                          "): expected blocks of one column"));
  }

  Index rows() const { return codes_.rows(); }
  Index cols() const { return codes_.cols(); }
  const Store& codes() const { return codes_; }
  VectorView<const float> scales() const { return {scales_.data(), scales_.size()}; }  // (M)
  /// The same codes in another store.
  template <class To>
  QuantizedSparse<To> with(To codes) const {
    return {std::move(codes), scales_};
  }
  std::size_t bytes() const { return codes_.bytes() + scales_.bytes(); }
  double flops(Index n) const { return codes_.flops(n); }
  std::string describe() const { return detail::concat("QuantizedSparse<", tessera::describe(codes_), ">"); }
  template <class F>
  void for_each_buffer(F&& f) const {
    codes_.for_each_buffer(f);
    f(ByteRange{scales_.begin(), scales_.end()});
  }

  /// The same matrix with another treatment of x; copies its arrays.
  QuantizedSparse activations(Activations mode) const {
    QuantizedSparse copy = *this;
    copy.mode_ = mode;
    return copy;
  }
  Activations activations() const { return mode_; }

  /// Op::transpose always multiplies f32, Op::none as activations() says.
  void apply(Context& ctx, Op op, float alpha, MatrixView<const float> X, float beta, MatrixView<float> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    Workspace::Scope scope(ctx.workspace);
    if (op == Op::transpose) {
      const MatrixView<float> scaled(scope.take<float>(X.size()), X.rows(), X.cols());
      for (Index i = 0; i < X.rows(); ++i)
        for (Index j = 0; j < X.cols(); ++j) scaled(i, j) = scales_[i] * X(i, j);
      codes_.apply(ctx, op, alpha, scaled, beta, Y);
    } else if (mode_ == Activations::exact) {
      const MatrixView<float> sums(scope.take<float>(Y.size()), Y.rows(), Y.cols());
      codes_.apply(ctx, op, alpha, X, 0.0f, sums);
      for (Index i = 0; i < Y.rows(); ++i)
        for (Index j = 0; j < Y.cols(); ++j)
          Y(i, j) = beta == 0 ? scales_[i] * sums(i, j) : scales_[i] * sums(i, j) + beta * Y(i, j);
    } else {
      if (longest_ > most_int8_codes)
        throw unsupported_error(detail::concat(
            "tessera: (", describe(), ") * (", detail::shape_text(X.rows(), X.cols()), ") in int8: a row of ", longest_,
            " codes; expected at most ", most_int8_codes, ", or activations(Activations::exact)"));
      float* const columns = scope.take<float>(X.cols());
      // Sums times scales of rows may overflow where the scales of columns make them finite again: 2^down comes last.
      const int down = std::clamp(126 - std::max(0, std::ilogb(alpha)), 0, exponent_);
      VectorView<const float> by_row = scales();
      if (down > 0) {
        float* const lower = scope.take<float>(rows());
        for (Index i = 0; i < rows(); ++i) lower[i] = std::ldexp(scales_[i], -down);
        by_row = {lower, rows()};
      }
      const auto scaled = epilogue::scale_per_row(by_row) |
                          epilogue::scale_per_column(VectorView<const float>(columns, X.cols())) |
                          epilogue::scale(std::ldexp(alpha, down));
      if (beta == 0)
        sparse_int8_to(ctx, detail::int8_args(codes_), X, scaled, Y, 0, columns);
      else
        sparse_int8_to(ctx, detail::int8_args(codes_), X, scaled | epilogue::residual(MatrixView<const float>(Y), beta),
                       Y, 0, columns);
    }
  }

  /// C (M,N) = alpha * codes * (X (K,N) - zero) + beta * C modulo 2^32, X of int8 or uint8: exact, without the scales.
  template <class T>
  requires detail::Byte<std::remove_const_t<T>>
  void multiply(Context& ctx, std::int32_t alpha, MatrixView<T> X, std::int32_t beta, MatrixView<std::int32_t> C,
                std::int32_t zero = 0) const {
    sparse_int8(ctx, detail::int8_args(codes_), alpha, MatrixView<const std::remove_const_t<T>>(X), beta, C, zero);
  }
  /// D (M,N) = epilogue(codes * (X (K,N) - zero)), as gemm_to's: the scales of weights and activations are steps of it.
  ///   W.multiply_to(ctx, X8, scale_per_row(W.scales()) | scale(sx) | bias_per_row(b) | gelu() | requantize(z), D8,
  ///   zx);
  template <class T, epilogue::Step E, class D>
  requires detail::Byte<std::remove_const_t<T>>
  void multiply_to(Context& ctx, MatrixView<T> X, const E& epilogue, MatrixView<D> to, std::int32_t zero = 0) const {
    sparse_int8_to(ctx, detail::int8_args(codes_), MatrixView<const std::remove_const_t<T>>(X), epilogue, to, zero);
  }

  /// What apply(ctx, Op::none, 1, x, 0, y) may differ by in row `row` from the product of the decoded weights with x
  /// in exact arithmetic: half a step of each activation times its weight and roundings, of sums of f32 if exact.
  double error_bound(Index row, VectorView<const float> x) const {  // (K)
    constexpr double u = 0x1p-24;
    double most = 0, weights = 0, magnitude = 0, stored = 0;
    for (Index k = 0; k < cols(); ++k) most = std::max(most, std::abs(static_cast<double>(x[k])));
    detail::for_each_code(detail::int8_args(codes_), row, [&](Index j, std::int8_t code) {
      const double w = std::abs(static_cast<double>(scales_[row]) * code);
      weights += w;
      magnitude += w * std::abs(static_cast<double>(x[j]));
      stored += 1;
    });
    const double k = (stored + 8) * u;
    if (mode_ == Activations::exact) return k / (1 - k) * magnitude + stored * 0x1p-149;
    const double off = std::max(most / 254 * (1 + 520 * u), most < 0x1p-118 ? most : 0.0);
    return weights * off + 8 * u * (magnitude + weights * off) + stored * 0x1p-149;
  }
  Eigen::MatrixXf to_dense() const {
    Eigen::MatrixXf dense = Eigen::MatrixXf::Zero(rows(), cols());
    for (Index i = 0; i < rows(); ++i)
      detail::for_each_code(detail::int8_args(codes_), i,
                            [&](Index j, std::int8_t code) { dense(i, j) = scales_[i] * static_cast<float>(code); });
    return dense;
  }
  /// The kernels considered for n columns.
  void explain(Context& ctx, Op op, Index n, const KernelSink& sink) const {
    if (rows() == 0 || cols() == 0 || n == 0) return;
    if (op == Op::none && mode_ == Activations::int8) {
      auto args = detail::int8_args(codes_);
      args.C = {nullptr, rows(), n};
      detail::SparseInt8List<decltype(args)>::type::explain(ctx, args, sink);
    } else if constexpr (requires { codes_.explain(ctx, op, n, sink); }) {
      codes_.explain(ctx, op, n, sink);
    }
  }

 private:
  Store codes_;
  Buffer<float> scales_;
  Index longest_ = 0;  // codes of a row
  int exponent_ = 0;   // of the largest scale from 1 on
  Activations mode_ = std::same_as<Store, Csr<Int8Code>> ? Activations::exact : Activations::int8;
};

/// W (M,K) in int8 as compressed rows: each row rounded to nearest multiples of max|W(i,:)| / 127, ties to even. A row
/// with a value that is not finite becomes NaN. From a mask: quantize_sparse(masked_csr(mask, W)). O(nonzeros).
template <class = void>
QuantizedSparse<Csr<Int8Code>> quantize_sparse(const Csr<float>& W) {
  Buffer<float> scales(W.rows());
  Buffer<std::int32_t> row_ptr(W.rows() + 1), col_idx(W.nnz(), uninitialized);
  Buffer<Int8Code> codes(W.nnz());
  std::copy(W.row_ptr().begin(), W.row_ptr().end(), row_ptr.begin());
  std::copy(W.col_idx().begin(), W.col_idx().end(), col_idx.begin());
  for (Index i = 0; i < W.rows(); ++i) {
    std::uint32_t bits = 0;
    for (Index e = row_ptr[i]; e < row_ptr[i + 1]; ++e)
      bits = std::max(bits, Int8PanelArgs<float>::magnitude(W.values()[static_cast<std::size_t>(e)]));
    const auto by = detail::activation_scale(bits);
    scales[i] = by.scale;
    if (by.inverse != 0)
      for (Index e = row_ptr[i]; e < row_ptr[i + 1]; ++e)
        codes[e] = Int8Code(std::nearbyint(W.values()[static_cast<std::size_t>(e)] * by.inverse));
  }
  return {Csr<Int8Code>(trusted, W.rows(), W.cols(), std::move(row_ptr), std::move(col_idx), std::move(codes)),
          std::move(scales)};
}

/// The same in blocks of `block_rows`×1, zeros filled in where a block has a nonzero. Throws format_error for blocks of
/// other than 1 to 64 rows.
template <class = void>
QuantizedSparse<Bsr<Int8Code>> pack_block_sparse(const Csr<float>& W, Index block_rows) {
  const auto rows = quantize_sparse(W);
  return rows.with(bsr_from_csr(rows.codes(), block_rows, 1));
}
/// The same with N of each M columns. Throws format_error where a group of M has more.
template <class = void>
QuantizedSparse<Nm<Int8Code>> pack_n_of_m(const Csr<float>& W, Index n, Index m) {
  const auto rows = quantize_sparse(W);
  return rows.with(nm_from_csr(rows.codes(), n, m));
}

}  // namespace tessera::inline TESSERA_ABI
