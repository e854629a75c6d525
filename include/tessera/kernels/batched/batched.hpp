/// Many products of small matrices.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <span>
#include <type_traits>

#include <tessera/kernels/batched/ref.hpp>
#include <tessera/kernels/batched/tiles.hpp>
#include <tessera/kernels/gemm/gemm.hpp>

namespace tessera::inline TESSERA_ABI {

/// Kernels of small products, best first.
#if TESSERA_X86
using BatchedKernels = KernelList<BatchedAvx512Quads, BatchedAvx512Square, BatchedAvx2Quads, BatchedAvx2Square,
                                  BatchedAvx512, BatchedAvx2Fixed, BatchedAvx2, BatchedRef>;
#else
using BatchedKernels = KernelList<BatchedRef>;
#endif

#define TESSERA_DETAIL_SHARE(T) \
  TESSERA_SHARED(KernelEntries<BatchedKernels, BatchedArgs<T>> BatchedKernels::entries<BatchedArgs<T>>())
TESSERA_DETAIL_SHARE(float);
TESSERA_DETAIL_SHARE(double);
#undef TESSERA_DETAIL_SHARE

/// C[b] = alpha*A[b]*B[b] + beta*C[b] for every b of the first dimension, float or double. Any strides: a factor whose
/// first stride is 0 is shared. C must overlap neither A, B nor itself; beta == 0 overwrites C without reading it.
/// Products of up to 64 rows, columns and terms run in place, others as gemm does each. 2*batch*M*N*K flops.
/// Throws shape_error.
template <class T>
requires std::floating_point<T>
void gemm_batched(Context& ctx, std::type_identity_t<T> alpha, std::type_identity_t<View<const T, 3>> A,  // (batch,M,K)
                  std::type_identity_t<View<const T, 3>> B,                                               // (batch,K,N)
                  std::type_identity_t<T> beta, View<T, 3> C) {                                           // (batch,M,N)
  const Index batch = C.extent(0), m = C.extent(1), n = C.extent(2), k = A.extent(2);
  const auto text = [](const auto& v) { return detail::concat(v.extent(0), "x", v.extent(1), "x", v.extent(2)); };
  if (A.extent(0) != batch || B.extent(0) != batch || A.extent(1) != m || B.extent(1) != k || B.extent(2) != n)
    throw shape_error(detail::concat("tessera: gemm_batched of (", text(A), ") * (", text(B), ") into (", text(C),
                                     "): expected (batch,M,K) * (batch,K,N) into (batch,M,N)"));
  if (C.empty()) return;
  BatchedArgs<T> args;
  args.alpha = alpha;
  args.beta = beta;
  args.A = A;
  args.B = B;
  args.C = C;
  // Kernels write rows of C: where its columns are contiguous, the transposed product is computed.
  if (C.stride(1) == 1 && C.stride(2) != 1) {
    const auto turned = []<class V>(const V& v) {
      return V(v.data(), {v.extent(0), v.extent(2), v.extent(1)}, {v.stride(0), v.stride(2), v.stride(1)});
    };
    args.A = turned(B);
    args.B = turned(A);
    args.C = turned(C);
  }
  const auto& kernel = BatchedKernels::select(ctx, args);
  const bool gemms = ctx.forced("gemm_batched").empty() && kernel.name == BatchedRef::name;
  if (k == 0 || alpha == T(0) || gemms) {
    for_each_chunk(ctx, batch, std::max<Index>(1, 65536 / std::max<Index>(1, m * n * k)),
                   [&](Context& worker, Index begin, Index end) {
                     for (Index b = begin; b < end; ++b) gemm(worker, alpha, A[b], B[b], beta, C[b]);
                   });
    return;
  }
  launch(ctx, kernel, args, batch, ctx.concurrency() == 1 ? batch : std::max<Index>(1, (Index{1} << 18) / (m * n * k)));
}

/// Matrices of one shape and layout, each with an address of its own.
template <class T>
struct BatchOf {
  std::span<T* const> data;
  Index rows = 0, cols = 0, row_stride = 0, col_stride = 1;

  Index batch() const { return static_cast<Index>(data.size()); }
  MatrixView<T> operator[](Index b) const {
    return {data[static_cast<std::size_t>(b)], {rows, cols}, {row_stride, col_stride}};
  }
  /// Matrices [first, first + count), which lie at equal distances.
  View<T, 3> run(Index first, Index count) const {
    return {data[static_cast<std::size_t>(first)],
            {count, rows, cols},
            {count > 1 ? distance(first) : 0, row_stride, col_stride}};
  }
  /// Elements from matrix b to the next; 0 where that is none.
  Index distance(Index b) const {
    const auto at = [&](Index i) { return reinterpret_cast<std::intptr_t>(data[static_cast<std::size_t>(i)]); };
    const std::intptr_t bytes = at(b + 1) - at(b), size = static_cast<std::intptr_t>(sizeof(T));
    return bytes % size == 0 ? bytes / size : 0;
  }
};

/// The same for matrices that are anywhere in memory: C[b] = alpha*A[b]*B[b] + beta*C[b]. Those that lie one after
/// another, in all three arrays, run as a strided batch does. A C must not occur twice.
template <class T>
requires std::floating_point<T>
void gemm_batched(Context& ctx, std::type_identity_t<T> alpha,
                  std::type_identity_t<BatchOf<const T>> A,      // batch x (M,K)
                  std::type_identity_t<BatchOf<const T>> B,      // batch x (K,N)
                  std::type_identity_t<T> beta, BatchOf<T> C) {  // batch x (M,N)
  const Index batch = C.batch();
  const auto text = [](const auto& v) { return detail::concat(v.batch(), "x", v.rows, "x", v.cols); };
  if (A.batch() != batch || B.batch() != batch || A.rows != C.rows || B.rows != A.cols || B.cols != C.cols)
    throw shape_error(detail::concat("tessera: gemm_batched of (", text(A), ") * (", text(B), ") into (", text(C),
                                     "): expected (batch,M,K) * (batch,K,N) into (batch,M,N)"));
  if (C.rows == 0 || C.cols == 0) return;
  // Kernels read the gaps between neighbours of a strided batch: only what lies densely is one.
  const auto dense = [](const auto& v, Index b) { return v.distance(b) == v.rows * v.cols; };
  const Index work = std::max<Index>(1, C.rows * C.cols * A.cols);
  for_each_chunk(ctx, batch, std::max<Index>(1, (Index{1} << 18) / work), [&](Context& worker, Index begin, Index end) {
    for (Index b = begin, count; b < end; b += count) {
      count = 1;
      while (b + count < end && dense(A, b + count - 1) && dense(B, b + count - 1) && dense(C, b + count - 1)) ++count;
      gemm_batched(worker, alpha, A.run(b, count), B.run(b, count), beta, C.run(b, count));
    }
  });
}

}  // namespace tessera::inline TESSERA_ABI
