/// The kernels behind dense products, which nearly every test uses, compiled once: see shared_kernels.cpp.
#pragma once

#include <tessera/expr/explain.hpp>
#include <tessera/expr/expr.hpp>
#include <tessera/kernels/batched/batched.hpp>
#include <tessera/matrix/dense.hpp>
#include <tessera/matrix/detail/thin_qr.hpp>

// TESSERA_TEST_KERNELS(extern) declares them, TESSERA_TEST_KERNELS() is their definition. Modules that are compiled
// with flags of their own have TESSERA_TEST_OWN_KERNELS and instantiate what they use.
namespace tessera::inline TESSERA_ABI {

#define TESSERA_TEST_DENSE(EXTERN, T)                                                                                  \
  EXTERN template void detail::dense_apply<T>(Context&, accum_t<T>, MatrixView<const T>, MatrixView<const accum_t<T>>, \
                                              accum_t<T>, MatrixView<accum_t<T>>);                                     \
  EXTERN template void detail::dense_explain<T>(Context&, MatrixView<const T>, Index, const KernelSink&);
#define TESSERA_TEST_SCALAR(EXTERN, T)                                                                               \
  EXTERN template void gemm<T>(Context&, std::type_identity_t<T>, std::type_identity_t<MatrixView<const T>>,         \
                               std::type_identity_t<MatrixView<const T>>, std::type_identity_t<T>, MatrixView<T>);   \
  EXTERN template void gemv<T>(Context&, std::type_identity_t<T>, std::type_identity_t<MatrixView<const T>>,         \
                               std::type_identity_t<VectorView<const T>>, std::type_identity_t<T>, VectorView<T>);   \
  EXTERN template void detail::gemm_any<T, T, T>(Context&, T, MatrixView<const T>, MatrixView<const T>, T,           \
                                                 MatrixView<T>, ZeroPoints<T>, GemmFinish<T>);                       \
  EXTERN template void detail::run_gemm(Context&, GemmArgs<T, T, T>, GemmKernels<T, T, T>);                          \
  EXTERN template void gemm_batched<T>(Context&, std::type_identity_t<T>, std::type_identity_t<View<const T, 3>>,    \
                                       std::type_identity_t<View<const T, 3>>, std::type_identity_t<T>, View<T, 3>); \
  EXTERN template void detail::add_scaled<T>(Context&, T, MatrixView<const T>, T, MatrixView<T>);                    \
  EXTERN template void detail::scale_by<T>(Context&, T, MatrixView<T>);                                              \
  EXTERN template void detail::scale_rows<T>(Context&, T, VectorView<const T>, MatrixView<const T>, T, MatrixView<T>);
#define TESSERA_TEST_FACTORS(EXTERN, T)                                                           \
  EXTERN template detail::ThinQr<Eigen::MatrixX<T>> detail::thin_qr<T>(const Eigen::MatrixX<T>&); \
  EXTERN template Eigen::MatrixX<T> detail::dense_pseudo_inverse<T>(const Eigen::MatrixX<T>&);
#define TESSERA_TEST_KERNELS(EXTERN)   \
  TESSERA_TEST_FACTORS(EXTERN, float)  \
  TESSERA_TEST_FACTORS(EXTERN, double) \
  TESSERA_TEST_DENSE(EXTERN, float)    \
  TESSERA_TEST_DENSE(EXTERN, double)   \
  TESSERA_TEST_DENSE(EXTERN, bf16)     \
  TESSERA_TEST_SCALAR(EXTERN, float)   \
  TESSERA_TEST_SCALAR(EXTERN, double)

#ifndef TESSERA_TEST_OWN_KERNELS
TESSERA_TEST_KERNELS(extern)
#endif

}  // namespace tessera::inline TESSERA_ABI
