/// A sparse matrix that becomes a dense one where that is faster, by who asks for it.
#pragma once

#include <string>
#include <type_traits>
#include <utility>

#include <tessera/kernels/spmm/crossover.hpp>
#include <tessera/matrix/any.hpp>
#include <tessera/matrix/dense.hpp>

namespace tessera::inline TESSERA_ABI {

/// Held by compressed rows or columns (Csr, CsrView, Csc), of the sums that rates are known for.
template <class A>
concept Densifiable = LinearOperator<A> && std::floating_point<typename A::Scalar> && requires(const A& a) {
  { a.nnz() } -> std::convertible_to<Index>;
  a.to_dense();
};

struct DensifyReport {
  bool dense = false;  // what the operator holds now
  SpmmOutlook outlook;
  std::string source;  // of the rates
  std::size_t bytes_before = 0, bytes_after = 0;

  std::string text() const {
    return detail::concat(dense ? "dense: " : "stays sparse: dense would be ", outlook.text(), ", ", source, "; ",
                          bytes_before, " bytes -> ", bytes_after);
  }
};

template <class S>
struct Densified {
  AnyOperator<S> matrix;
  DensifyReport report;
};

/// A as dense rows if products with `columns` columns are expected to be faster by `costs`, else A itself; a view is
/// kept as one. `op` says whether A or its transpose will be applied. Takes the memory of both for as long as an A that
/// is not moved in lives. O(rows·cols). Throws shape_error for fewer columns than one.
template <class A, class M = std::remove_cvref_t<A>>
requires Densifiable<M> Densified<typename M::Scalar> densify_if_faster(A&& a, Index columns, Op op,
                                                                        const SpmmCosts& costs) {
  using S = typename M::Scalar;
  if (columns < 1)
    throw shape_error(detail::concat("tessera: densify_if_faster of (", describe(a), ") for ", columns,
                                     " columns; expected one or more"));
  // The rates are those of compressed rows: columns are the rows of the transpose.
  const Op by_rows = requires { a.col_ptr(); }
  ? flip(op) : op;
  DensifyReport report{.outlook = spmm_outlook<S>(costs, by_rows, a.rows(), a.cols(), a.nnz(), columns),
                       .source = costs.source,
                       .bytes_before = bytes(a)};
  report.dense = report.outlook.dense_is_faster();
  Densified<S> made{report.dense ? AnyOperator<S>(Dense<S>(a.to_dense())) : AnyOperator<S>(std::forward<A>(a)), report};
  made.report.bytes_after = made.matrix.bytes();
  return made;
}
template <class A, class M = std::remove_cvref_t<A>>
requires Densifiable<M>
auto densify_if_faster(A&& a, Index columns, Op op = Op::none) {
  return densify_if_faster(std::forward<A>(a), columns, op, spmm_costs<typename M::Scalar>());
}

}  // namespace tessera::inline TESSERA_ABI
