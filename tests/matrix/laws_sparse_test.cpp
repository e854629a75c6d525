#include <vector>

#include <support/operator_laws.hpp>
#include <support/sparse_patterns.hpp>
#include <tessera/matrix/csr.hpp>

namespace tessera::test {
namespace {

/// `convert(Csr<T>)` of a few patterns.
template <class Op, class T, Op (*convert)(Csr<T>)>
struct SparseCase {
  using Operator = Op;
  static std::vector<Operator> samples() {
    std::vector<Operator> all;
    all.push_back(convert(Csr<T>(0, 0)));
    all.push_back(convert(csr_from_coo<T>(scattered<T>(1, 1, 1))));
    all.push_back(convert(csr_from_coo<T>(scattered<T>(70, 45, 0.3))));
    all.push_back(convert(csr_from_coo<T>(scattered<T>(33, 33, 0.1))));
    all.push_back(convert(csr_from_coo<T>(filled<T>(7, 130, [](Index i, Index j) { return i == 2 || j == i; }))));
    return all;
  }
};

template <class T>
Csr<T> itself(Csr<T> A) {
  return A;
}
template <class T>
Csr<T, std::int64_t> wide(Csr<T> A) {
  return csr_from_coo<T, std::int64_t>(to_coo(A));
}

using Types =
    ::testing::Types<SparseCase<Csr<float>, float, itself<float>>, SparseCase<Csr<double>, double, itself<double>>,
                     SparseCase<Csr<double, std::int64_t>, double, wide<double>>,
                     SparseCase<Csr<bf16>, bf16, itself<bf16>>>;
INSTANTIATE_TYPED_TEST_SUITE_P(Sparse, OperatorLaws, Types);

}  // namespace
}  // namespace tessera::test
