/// Matrix times vector.
#pragma once

#include <algorithm>
#include <concepts>
#include <type_traits>

#include <tessera/kernels/gemv/list.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

template <class T>
void scale_into(T beta, VectorView<T> y) {
  for (Index i = 0; i < y.extent(0); ++i) y[i] = beta == T(0) ? T(0) : beta * y[i];
}

template <class TA, class T>
void gemv_any(Context& ctx, T alpha, MatrixView<const TA> A, VectorView<const T> x, T beta, VectorView<T> y) {
  if (A.cols() != x.extent(0))
    throw shape_error(concat("tessera: gemv of (", shape_text(A.rows(), A.cols()), ") * (", shape_text(x.extent(0), 1),
                             "): columns ", A.cols(), " != rows ", x.extent(0)));
  if (A.rows() != y.extent(0))
    throw shape_error(concat("tessera: gemv of (", shape_text(A.rows(), A.cols()), ") * (", shape_text(x.extent(0), 1),
                             ") is ", shape_text(A.rows(), 1), ", the destination is ", shape_text(y.extent(0), 1)));
  if (A.rows() == 0) return;
  if (A.cols() == 0 || alpha == T(0)) return scale_into(beta, y);
  GemvArgs<TA, T> args;
  args.alpha = alpha;
  args.beta = beta;
  args.A = A;
  args.x = x;
  args.y = y;
  const auto& kernel = GemvKernels<TA, T>::select(ctx, args);
  // A piece is at least 128 KiB of A: less does not pay for waking a thread. Columns are read in runs of 4 KiB or more.
  const Index least = A.col_stride() != 1 && A.row_stride() == 1 ? 4096 / static_cast<Index>(sizeof(TA)) : 64;
  const Index grain = std::max(least, (Index{1} << 17) / static_cast<Index>(sizeof(TA)) / A.cols() / 64 * 64);
  launch(ctx, kernel, args, A.rows(), ctx.concurrency() == 1 ? A.rows() : grain);
}

}  // namespace detail

/// y = alpha*A*x + beta*y, for float and double. Any strides; rows or columns of A that are contiguous are fast.
/// y must not overlap A or x. beta == 0 overwrites y without reading it; alpha == 0 reads neither A nor x.
/// Reads A once: 2*M*K flops. Throws shape_error.
template <class T>
requires std::floating_point<T>
void gemv(Context& ctx, std::type_identity_t<T> alpha, std::type_identity_t<MatrixView<const T>> A,  // (M,K)
          std::type_identity_t<VectorView<const T>> x,                                               // (K)
          std::type_identity_t<T> beta, VectorView<T> y) {                                           // (M)
  detail::gemv_any<T, T>(ctx, alpha, A, x, beta, y);
}

/// The same with A stored as bf16 or f16; sums are in float.
template <std::same_as<float> T>
void gemv(Context& ctx, std::type_identity_t<T> alpha, MatrixView<const bf16> A,  // (M,K)
          VectorView<const float> x,                                              // (K)
          std::type_identity_t<T> beta, VectorView<T> y) {                        // (M)
  detail::gemv_any<bf16, float>(ctx, alpha, A, x, beta, y);
}
template <std::same_as<float> T>
void gemv(Context& ctx, std::type_identity_t<T> alpha, MatrixView<const f16> A,  // (M,K)
          VectorView<const float> x,                                             // (K)
          std::type_identity_t<T> beta, VectorView<T> y) {                       // (M)
  detail::gemv_any<f16, float>(ctx, alpha, A, x, beta, y);
}

}  // namespace tessera::inline TESSERA_ABI
