/// Low-rank, LDU, Kronecker, block-diagonal matrices and sums of them whose dense parts are quantized, and what that
/// loses.
#pragma once

#include <tuple>
#include <utility>
#include <vector>

#include <tessera/matrix/block_diagonal.hpp>
#include <tessera/matrix/detail/quantized_part.hpp>
#include <tessera/matrix/diagonal_plus_low_rank.hpp>
#include <tessera/matrix/kronecker.hpp>
#include <tessera/matrix/ldu.hpp>
#include <tessera/matrix/low_rank.hpp>
#include <tessera/matrix/sum_of.hpp>
#include <tessera/quant/report.hpp>

namespace tessera::inline TESSERA_ABI {

/// U Vᵀ with U and Vᵀ quantized, each along its rows: a product reads both as qgemm does, the transposed one decodes
/// squares of them. `mode` as in Quantized. `auto Q = quantize<Q8_0>(ctx, low_rank(U, V))`.
template <PanelFormat F, detail::DensePart U, detail::DensePart V>
auto quantize(Context& ctx, const LowRank<U, V>& A, Activations mode = Activations::int8) {
  const DenseView turned(MatrixView<const typename V::Element>(A.right().view()).transposed());
  return LowRank(detail::quantized_part<F>(ctx, A.left(), mode),
                 Transposed(detail::quantized_part<F>(ctx, turned, mode)));
}

/// A_0 ⊗ A_1 ⊗ … with every factor quantized along its rows. Its modes multiply decoded factors: they are small, and
/// each is applied to many columns.
template <PanelFormat F, detail::DensePart... As>
auto quantize(Context& ctx, const Kronecker<As...>& A) {
  return std::apply(
      [&](const As&... a) {
        auto factors = std::make_tuple(detail::quantized_part<F>(ctx, a, Activations::exact)...);
        return Kronecker(std::move(factors));
      },
      A.factor_tuple());
}

/// The same of a list of factors.
template <PanelFormat F, detail::DensePart A>
auto quantize(Context& ctx, const KroneckerOf<A>& K) {
  std::vector<decltype(detail::quantized_part<F>(ctx, std::declval<const A&>(), Activations::exact))> factors;
  for (const A& a : K.factor_list()) factors.push_back(detail::quantized_part<F>(ctx, a, Activations::exact));
  return kronecker(std::move(factors));
}

/// A_0 + A_1 + … with every term quantized as its type is.
template <PanelFormat F, LinearOperator A>
requires requires(Context& ctx, const A& a) { quantize<F>(ctx, a); }
auto quantize(Context& ctx, const SumOf<A>& sum) {
  std::vector<decltype(quantize<F>(ctx, std::declval<const A&>()))> terms;
  for (const A& a : sum.terms()) terms.push_back(quantize<F>(ctx, a));
  return sum_of(std::move(terms));
}

/// diag(d) + U Vᵀ as the sum of diag(d), which stays f32, and a low-rank matrix quantized: products only, since what
/// Woodbury solves with is the unquantized U and V.
template <PanelFormat F>
auto quantize(Context& ctx, const DiagonalPlusLowRank<float>& A, Activations mode = Activations::int8) {
  return Diagonal<float>(A.main()) + quantize<F>(ctx, low_rank(A.left(), A.right()), mode);
}

/// P L diag(d) U Q as the product of its factors, L and U quantized along their rows, their zeros too: products only.
template <PanelFormat F, DenseElement T>
requires std::same_as < accum_t<T>,
float > auto quantize(Context& ctx, const Ldu<T>& A, Activations mode = Activations::int8) {
  return Permutation<float>(A.P()) * detail::quantized_part<F>(ctx, A.L(), mode) * Diagonal<float>(A.d()) *
         detail::quantized_part<F>(ctx, A.U(), mode) * Permutation<float>(A.Q());
}
/// R + alpha · P L diag(z) U Q, R, L and U quantized along their rows.
template <PanelFormat F, DenseElement T>
requires std::same_as < accum_t<T>,
float > auto quantize(Context& ctx, const Loldu<T>& A, Activations mode = Activations::int8) {
  return detail::quantized_part<F>(ctx, A.residual(), mode) + A.alpha() * quantize<F>(ctx, A.adapter(), mode);
}

/// diag(B_0, B_1, …) with every block quantized along its rows.
template <PanelFormat F, detail::DensePart B>
auto quantize(Context& ctx, const BlockDiagonal<B>& A, Activations mode = Activations::int8) {
  std::vector<decltype(detail::quantized_part<F>(ctx, std::declval<const B&>(), mode))> blocks;
  blocks.reserve(A.blocks().size());
  for (const auto& b : A.blocks()) blocks.push_back(detail::quantized_part<F>(ctx, b, mode));
  return BlockDiagonal(std::move(blocks));
}

/// quantize<F>(ctx, A) of any structure that has it, with its report: bytes, bits for each entry of A, the relative
/// errors of A and, where the calibration has samples, of its products. Makes both dense: 16·M·N bytes.
template <class F, LinearOperator A>
requires requires(Context& ctx, const A& a) { quantize<F>(ctx, a); }
auto quantize(Context& ctx, const A& a, const Calibration& calibration) {
  const detail::RowMatrix<float> dense = to_dense(a);
  return detail::reported(ctx, view(dense), calibration, [&] { return quantize<F>(ctx, a); });
}

}  // namespace tessera::inline TESSERA_ABI
