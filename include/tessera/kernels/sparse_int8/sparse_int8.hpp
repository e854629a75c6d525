/// Products of sparse int8 with bytes or rounded floats, and what follows them.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <type_traits>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/kernels/gemm/epilogue.hpp>
#include <tessera/kernels/sparse_int8/list.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

template <class T>
concept Byte = std::same_as<T, std::int8_t> || std::same_as<T, std::uint8_t>;

template <class Args>
struct SparseInt8List;
template <>
struct SparseInt8List<BsrInt8Args> {
  using type = BsrInt8Kernels;
};
template <>
struct SparseInt8List<NmInt8Args> {
  using type = NmInt8Kernels;
};

/// Columns of X at a time: what is packed of them and their sums stay small.
inline constexpr Index sparse_int8_columns = 512;
/// Of `left` columns as many as are next, so that those of the last part, too, fill a tile.
inline Index next_columns(Index left) {
  constexpr Index most = sparse_int8_columns;
  return left > most && left < most + 16 ? most - 64 : std::min(most, left);
}

/// C = alpha * A * (X - zero) + beta * C, then `finish`, whose column is that of C.
template <class Args, class T>
void sparse_int8_part(Context& ctx, Args args, MatrixView<const T> X, std::int32_t zero, float* scales) {
  if (args.cols == 0 || args.rows == 0) {
    for (Index i = 0; i < args.C.rows(); ++i)
      for (Index j = 0; j < args.C.cols(); ++j) args.C(i, j) = args.joined(args.C(i, j), 0, true);
    if (scales != nullptr) std::fill_n(scales, X.cols(), 0.0f);
    for (Index j = 0; j < args.C.cols(); j += args.panel) args.done(0, args.C.rows(), j);
    return;
  }
  const auto& kernel = SparseInt8List<Args>::type::select(ctx, args);
  Workspace::Scope scope(ctx.workspace);
  const bool tiles = kernel.isa == Isa::amx_int8;
  if (kernel.isa == Isa::avx512_vnni || kernel.isa == Isa::avx512_vbmi || tiles) {
    Int8BytesArgs<T> panels;
    panels.X = X;
    panels.zero = zero;
    panels.scales = scales;
    args.byte_panel = args.most_byte_panel;
    args.narrow = args.takes_narrow && !tiles;
    args.zero = panels.byte_zero();
    panels.to = args;
    panels.bytes = scope.take<std::uint8_t>(panels.size());
    launch(ctx, Int8BytesKernels<T>::select(ctx, panels), panels, panels.down(), 1);
    args.bytes = panels.bytes;
  } else {
    Int8PanelArgs<T> panels;
    panels.X = X;
    panels.zero = zero;
    panels.scales = scales;
    constexpr Index panel = SparseInt8Args::panel;
    panels.panels = scope.take<std::int16_t>(panels.down() * panel * X.rows());
    launch(ctx, Int8PanelKernels<T>::select(ctx, panels), panels, panels.down(), 1);
    args.panels = panels.panels;
  }
  launch(ctx, kernel, args, args.down(), args.step());
}

template <class T>
void check_sparse_int8(Index rows, Index cols, const MatrixView<const T>& X, Index to_rows, Index to_cols,
                       std::int32_t zero) {
  if (X.rows() != cols || to_rows != rows || to_cols != X.cols())
    throw shape_error(concat("tessera: product of sparse int8 (", shape_text(rows, cols), ") * (",
                             shape_text(X.rows(), X.cols()), ") into (", shape_text(to_rows, to_cols), "): expected ",
                             shape_text(cols, X.cols()), " into ", shape_text(rows, X.cols())));
  if constexpr (Byte<T>) check_zero_point<T>("X", zero);
}

}  // namespace detail

/// C (M,N) = alpha * A * (X (K,N) - zero) + beta * C modulo 2^32, `args` A as BsrInt8Args or NmInt8Args. Exact. One
/// operation in 16 of a core's VPMADDWD lanes a nonzero and column. Throws shape_error, and unsupported_error for a
/// zero point that X's type does not hold.
template <class Args, detail::Byte T>
void sparse_int8(Context& ctx, Args args, std::int32_t alpha, MatrixView<const T> X, std::int32_t beta,
                 MatrixView<std::int32_t> C, std::int32_t zero = 0) {
  detail::check_sparse_int8(args.rows, args.cols, X, C.rows(), C.cols(), zero);
  if (C.empty()) return;
  args.alpha = alpha;
  args.beta = beta;
  for (Index j = 0, some = 0; j < C.cols(); j += some) {
    some = detail::next_columns(C.cols() - j);
    args.C = C.slice(1, j, some);
    detail::sparse_int8_part(ctx, args, X.slice(1, j, some), zero, nullptr);
  }
}

/// D (M,N) = epilogue(A * (X - zero)), D of f32, bf16, f16, int8 or uint8, as gemm_to does: block by block while sums
/// are in cache. With floats, `scales` (N) are those of X's columns, known to the epilogue only then (Int8PanelArgs).
template <class Args, class T, epilogue::Step E, class D>
void sparse_int8_to(Context& ctx, Args args, MatrixView<const T> X, const E& epilogue, MatrixView<D> to,
                    std::int32_t zero = 0, float* scales = nullptr) {
  static_assert(detail::Byte<T> || std::same_as<T, float>, "tessera: X is of int8, uint8 or float");
  static_assert(std::same_as<D, float> || detail::is_half<D> || sizeof(D) == 1,
                "tessera: a product of bytes is stored as f32, bf16, f16, int8 or uint8");
  static_assert(!detail::has_integer_bias<E> || detail::leading_integer_bias<E>,
                "tessera: a bias of integers is the first step of a product of bytes");
  detail::check_sparse_int8(args.rows, args.cols, X, to.rows(), to.cols(), zero);
  epilogue.check(to.rows(), to.cols());
  tessera::epilogue::detail::check_destination(epilogue, to, false);
  if (to.empty()) return;
  const Index m = to.rows(), n = to.cols(), most = std::min(n, detail::sparse_int8_columns);
  Workspace::Scope scope(ctx.workspace);
  auto* const sums = scope.take<std::int32_t>(m * most);
  const bool columns = to.row_stride() == 1 && to.col_stride() != 1;
  const detail::EpilogueJob<E, float, D, true> job{epilogue, to};
  args.alpha = 1;
  args.beta = 0;
  args.finish = detail::gemm_finish<std::int32_t>(ctx, job);
  args.finish.turned = columns;
  for (Index j = 0, some = 0; j < n; j += some) {
    some = detail::next_columns(n - j);
    (columns ? args.finish.row : args.finish.col) = j;
    args.C = columns ? MatrixView<std::int32_t>(sums, {m, some}, {1, m})
                     : MatrixView<std::int32_t>(sums, {m, some}, {some, 1});
    detail::sparse_int8_part(ctx, args, X.slice(1, j, some), zero, scales == nullptr ? nullptr : scales + j);
  }
}

}  // namespace tessera::inline TESSERA_ABI
