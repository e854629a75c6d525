/// Products of sparse matrices, masked or not, over any semiring.
#pragma once

#include <utility>

#include <tessera/kernels/spgemm/spgemm.hpp>
#include <tessera/sparse/semiring.hpp>

namespace tessera::inline TESSERA_ABI {

/// C = A·B with every entry that any product contributes to, also where they cancel. The cost and the errors of the
/// `spgemm` of kernels/spgemm/spgemm.hpp, which also leaves rows unsorted if asked.
template <CompressedRows A, CompressedRows B, class S = PlusTimes<element_of<A>>>
requires std::same_as<element_of<A>, element_of<B>> && std::same_as<index_of<A>, index_of<B>> &&
    Semiring<S, element_of<A>>
        Csr<element_of<A>, index_of<A>> spgemm(Context& ctx, const A& a, const B& b, const S& semiring = {},
                                               SpgemmReport* report = nullptr) {
  auto C = spgemm(ctx, sparse_rows(a), sparse_rows(b), semiring, nullptr, {}, report);
  return {trusted, a.rows(), b.cols(), std::move(C.row_ptr), std::move(C.col_idx), std::move(C.values)};
}

/// C⟨M⟩ = A·B: of the product, the entries where `mask` has one (whatever its value); O(products), but memory for the
/// mask's entries alone.
template <CompressedRows M, CompressedRows A, CompressedRows B, class S = PlusTimes<element_of<A>>>
requires std::same_as<element_of<A>, element_of<B>> && std::same_as<index_of<A>, index_of<B>> &&
    std::same_as<index_of<A>, index_of<M>> && Semiring<S, element_of<A>>
        Csr<element_of<A>, index_of<A>> spgemm_masked(Context& ctx, const M& mask, const A& a, const B& b,
                                                      const S& semiring = {}, SpgemmReport* report = nullptr) {
  const CsrArrays<element_of<A>, index_of<A>> pattern{mask.rows(), mask.cols(), mask.row_ptr().data(),
                                                      mask.col_idx().data(), nullptr};
  auto C = spgemm(ctx, sparse_rows(a), sparse_rows(b), semiring, &pattern, {}, report);
  return {trusted, a.rows(), b.cols(), std::move(C.row_ptr), std::move(C.col_idx), std::move(C.values)};
}

}  // namespace tessera::inline TESSERA_ABI
