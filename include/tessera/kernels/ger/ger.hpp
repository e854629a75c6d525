/// Rank-one updates.
#pragma once

#include <algorithm>
#include <concepts>
#include <type_traits>

#include <tessera/kernels/ger/avx2.hpp>
#include <tessera/kernels/ger/avx512.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail::ger_portable {
#include <tessera/kernels/ger/loop.inl>
}  // namespace detail::ger_portable

/// The unit's own flags.
struct GerXsimd : detail::ger_portable::GerLoop<simd::Portable<>> {
  static constexpr std::string_view name = "ger:xsimd";
  static constexpr Isa isa = Isa::portable;
};

/// The obvious loop.
struct GerRef {
  static constexpr std::string_view name = "ger:ref";
  static constexpr Isa isa = Isa::portable;
  template <class T>
  static const char* reject(const GerArgs<T>&) {
    return nullptr;
  }
  template <class T>
  static void run(const GerArgs<T>& a, RowRange rows) noexcept {
    for (Index i = rows.begin; i < rows.end; ++i)
      for (Index j = 0; j < a.A.cols(); ++j) a.A(i, j) += a.alpha * a.x[i] * a.y[j];
  }
};

/// Best first.
#if TESSERA_X86
using GerKernels = KernelList<GerAvx512, GerAvx2, GerXsimd, GerRef>;
#else
using GerKernels = KernelList<GerXsimd, GerRef>;
#endif

/// A += alpha*x*yᵀ, float or double. Any strides; contiguous rows or columns of A are fast. x and y must not overlap A;
/// alpha == 0 reads neither. Reads and writes A once: 2*M*N flops. Throws shape_error.
template <class T>
requires std::floating_point<T>
void ger(Context& ctx, std::type_identity_t<T> alpha, std::type_identity_t<VectorView<const T>> x,  // (M)
         std::type_identity_t<VectorView<const T>> y,                                               // (N)
         MatrixView<T> A) {                                                                         // (M,N)
  if (A.rows() != x.extent(0) || A.cols() != y.extent(0))
    throw shape_error(detail::concat("tessera: ger of ", x.extent(0), " by ", y.extent(0), " entries into (",
                                     detail::shape_text(A.rows(), A.cols()), "); expected (",
                                     detail::shape_text(x.extent(0), y.extent(0)), ")"));
  if (A.empty() || alpha == T(0)) return;
  GerArgs<T> args{{}, alpha, x, y, A};
  if (A.row_stride() == 1 && A.col_stride() != 1) args = {{}, alpha, y, x, A.transposed()};
  const Index grain = std::max<Index>(1, (Index{1} << 15) / args.A.cols());
  launch(ctx, GerKernels::select(ctx, args), args, args.A.rows(), ctx.concurrency() == 1 ? args.A.rows() : grain);
}

}  // namespace tessera::inline TESSERA_ABI
