/// Rows through a matrix and back through another.
#pragma once

#include <Eigen/Core>
#include <memory>
#include <utility>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kernels/gemm/gemm.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// c = x E, read as c D, for any E (d, width) and D (width, d). Copies share both.
class LinearMap {
 public:
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  /// Throws shape_error unless they are (d, width) and (width, d).
  LinearMap(Matrix encode, Matrix decode) {
    if (encode.rows() != decode.cols() || encode.cols() != decode.rows() || encode.size() == 0)
      throw shape_error(tessera::detail::concat(
          "tessera: LinearMap of ", tessera::detail::shape_text(encode.rows(), encode.cols()), " and back ",
          tessera::detail::shape_text(decode.rows(), decode.cols()), ": expected (d, width) and (width, d)"));
    both_ = std::make_shared<const Both>(Both{std::move(encode), std::move(decode)});
  }
  /// The first `width` columns of U (d, d or more than width), orthonormal: c = x U, read as c Uᵀ.
  static LinearMap leading(const Matrix& U, Index width) {
    if (width < 1 || width > U.cols())
      throw shape_error(tessera::detail::concat("tessera: LinearMap of the first ", width, " columns of ",
                                                tessera::detail::shape_text(U.rows(), U.cols())));
    return {U.leftCols(width), U.leftCols(width).transpose()};
  }

  Index channels() const { return both_->encode.rows(); }
  Index width() const { return both_->encode.cols(); }
  void encode(Context& ctx, MatrixView<const float> rows, MatrixView<float> out) const {
    gemm(ctx, 1, rows, view(both_->encode), 0, out);
  }
  void decode(Context& ctx, MatrixView<const float> rows, MatrixView<float> out) const {
    gemm(ctx, 1, rows, view(both_->decode), 0, out);
  }
  void absorb(Context& ctx, MatrixView<const float> rows, MatrixView<float> out) const {
    gemm(ctx, 1, rows, view(both_->decode).transposed(), 0, out);
  }

 private:
  struct Both {
    Matrix encode, decode;
  };
  static MatrixView<const float> view(const Matrix& of) { return {of.data(), {of.rows(), of.cols()}, {of.cols(), 1}}; }

  std::shared_ptr<const Both> both_;
};

}  // namespace tessera::inline TESSERA_ABI::kv
