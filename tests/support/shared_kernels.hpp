/// The kernels behind dense products, which nearly every test uses, compiled once: see shared_kernels.cpp.
#pragma once

#include <tessera/expr/explain.hpp>
#include <tessera/expr/expr.hpp>

namespace tessera::inline TESSERA_ABI {

// TESSERA_TEST_KERNELS(extern) declares them, TESSERA_TEST_KERNELS() is their definition.
#define TESSERA_TEST_DENSE(EXTERN, T)                                                                                  \
  EXTERN template void detail::dense_apply<T>(Context&, accum_t<T>, MatrixView<const T>, MatrixView<const accum_t<T>>, \
                                              accum_t<T>, MatrixView<accum_t<T>>);                                     \
  EXTERN template void detail::dense_explain<T>(Context&, MatrixView<const T>, Index, const KernelSink&);
#define TESSERA_TEST_SCALAR(EXTERN, T)                                                                             \
  EXTERN template void gemm<T>(Context&, std::type_identity_t<T>, std::type_identity_t<MatrixView<const T>>,       \
                               std::type_identity_t<MatrixView<const T>>, std::type_identity_t<T>, MatrixView<T>); \
  EXTERN template void gemv<T>(Context&, std::type_identity_t<T>, std::type_identity_t<MatrixView<const T>>,       \
                               std::type_identity_t<VectorView<const T>>, std::type_identity_t<T>, VectorView<T>); \
  EXTERN template void detail::gemm_any<T, T, T>(Context&, T, MatrixView<const T>, MatrixView<const T>, T,         \
                                                 MatrixView<T>, ZeroPoints<T>, GemmFinish<T>);                     \
  EXTERN template void detail::add_scaled<T>(Context&, T, MatrixView<const T>, T, MatrixView<T>);                  \
  EXTERN template void detail::scale_by<T>(Context&, T, MatrixView<T>);                                            \
  EXTERN template void detail::scale_rows<T>(Context&, T, VectorView<const T>, MatrixView<const T>, T, MatrixView<T>);
#define TESSERA_TEST_KERNELS(EXTERN) \
  TESSERA_TEST_DENSE(EXTERN, float)  \
  TESSERA_TEST_DENSE(EXTERN, double) \
  TESSERA_TEST_DENSE(EXTERN, bf16)   \
  TESSERA_TEST_SCALAR(EXTERN, float) \
  TESSERA_TEST_SCALAR(EXTERN, double)

TESSERA_TEST_KERNELS(extern)

}  // namespace tessera::inline TESSERA_ABI
