/// Many products of small matrices.
#pragma once

#include <concepts>
#include <type_traits>

#include <tessera/kernels/batched/ref.hpp>
#include <tessera/kernels/batched/tiles.hpp>
#include <tessera/kernels/gemm/gemm.hpp>

namespace tessera::inline TESSERA_ABI {

/// Kernels of small products, best first.
#if TESSERA_X86
using BatchedKernels =
    KernelList<BatchedAvx512Quads, BatchedAvx512Square, BatchedAvx2Square, BatchedAvx512, BatchedAvx2, BatchedRef>;
#else
using BatchedKernels = KernelList<BatchedRef>;
#endif

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

}  // namespace tessera::inline TESSERA_ABI
