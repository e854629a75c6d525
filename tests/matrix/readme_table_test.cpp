// The closed forms that include/tessera/matrix/README.md lists are those of the types.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

#include <support/shared_kernels.hpp>
#include <tessera/matrix/banded.hpp>
#include <tessera/matrix/block_2x2.hpp>
#include <tessera/matrix/block_diagonal.hpp>
#include <tessera/matrix/butterfly.hpp>
#include <tessera/matrix/circulant.hpp>
#include <tessera/matrix/dft.hpp>
#include <tessera/matrix/diagonal_plus_low_rank.hpp>
#include <tessera/matrix/eigen_sparse.hpp>
#include <tessera/matrix/gather.hpp>
#include <tessera/matrix/hadamard.hpp>
#include <tessera/matrix/hashed.hpp>
#include <tessera/matrix/householder.hpp>
#include <tessera/matrix/identity.hpp>
#include <tessera/matrix/inverse.hpp>
#include <tessera/matrix/khatri_rao.hpp>
#include <tessera/matrix/kronecker.hpp>
#include <tessera/matrix/kronecker_sum.hpp>
#include <tessera/matrix/ldu.hpp>
#include <tessera/matrix/monarch_chain.hpp>
#include <tessera/matrix/monarch_dft.hpp>
#include <tessera/matrix/monarch_product.hpp>
#include <tessera/matrix/packed.hpp>
#include <tessera/matrix/permutation.hpp>
#include <tessera/matrix/stack.hpp>
#include <tessera/matrix/sum_of.hpp>
#include <tessera/matrix/toeplitz.hpp>
#include <tessera/matrix/triangular.hpp>

namespace tessera::test {
namespace TESSERA_TEST_FILE {

constexpr Index n = 16;
constexpr std::pair<const char*, Form> names[] = {
    {"solve", Form::solve},         {"inverse", Form::inverse},  {"logdet", Form::log_determinant},
    {"trace", Form::diagonal_sum},  {"diag", Form::diagonal},    {"norm", Form::frobenius_norm},
    {"svd", Form::singular_values}, {"eigs", Form::eigenvalues}, {"pinv", Form::pseudo_inverse},
    {"exp", Form::exponential},     {"sqrt", Form::square_root}};

/// "solve, trace; in prose" as the names it has, "all", "all but …" and "—" too.
std::string listed(const std::string& cell) {
  const std::string list = cell.substr(0, cell.find(';'));
  std::istringstream words(list);
  std::vector<std::string> named;
  for (std::string word; words >> word;) named.push_back(word.substr(0, word.find(',')));
  const bool but = !named.empty() && named[0] == "all";
  std::string result;
  for (const auto& [name, form] : names) {
    (void)form;
    if (but != (std::find(named.begin(), named.end(), name) != named.end())) result += std::string(name) + ' ';
  }
  return result;
}

/// The table: a row's first cell and its closed forms.
std::map<std::string, std::string> table() {
  std::map<std::string, std::string> rows;
  std::ifstream file(TESSERA_TEST_ROOT "/include/tessera/matrix/README.md");
  for (std::string line; std::getline(file, line) && line.rfind("s is the size", 0) != 0;) {
    std::vector<std::string> cells;
    std::istringstream parts(line);
    for (std::string cell; std::getline(parts, cell, '|');) cells.push_back(cell);
    if (cells.size() == 8) rows[cells[1]] = cells[6];
  }
  return rows;
}

template <class A>
std::string forms(const A& a) {
  std::string result;
  for (const auto& [name, form] : names)
    if ((detail::any_forms<A> & static_cast<unsigned>(form)) != 0 && detail::any_knows(a, form))
      result += std::string(name) + ' ';
  return result;
}

class ReadmeTable : public ::testing::Test {
 protected:
  /// The one row of that name, or that begins so, lists the forms of `a`.
  template <class A>
  void expect(const std::string& begin, const A& a) const {
    int found = 0;
    const bool whole = rows_.count(' ' + begin + ' ') > 0;
    for (const auto& [what, closed] : rows_) {
      if (whole ? what != ' ' + begin + ' ' : what.rfind(' ' + begin, 0) != 0) continue;
      ++found;
      EXPECT_EQ(listed(closed), forms(a)) << what << describe(a);
    }
    EXPECT_EQ(found, 1) << begin;
  }
  static Dense<double> D(Index rows, Index cols) { return Dense<double>(rows, cols); }

  const std::map<std::string, std::string> rows_ = table();
  const Eigen::MatrixXd square_ = Eigen::MatrixXd::Random(n, n), thin_ = Eigen::MatrixXd::Random(n, 2);
  const Eigen::VectorXd d_ = Eigen::VectorXd::Random(n);
};

TEST_F(ReadmeTable, ListsTheClosedFormsOfDenseAndStructured) {
  ASSERT_GT(rows_.size(), 40u);
  const Monarch<double> M(n, n, 4, 4);
  expect("dense f32", Dense<double>(square_));
  expect("dense, someone", DenseView(view(square_)));
  expect("dense, packed", pack(square_));
  expect("U·Vᵀ", low_rank(thin_, thin_));
  expect("Monarch P", M);
  expect("Monarch P", MonarchView<double>(M));
  expect("M₁·M₂", monarch_product(M, M));
  expect("Monarch of order p", MonarchChain<double>({2, 4, 2}));
  expect("DFT as a Monarch", MonarchConvolution<double>(Buffer<double>(n)));
  expect("butterfly", Butterfly<double>(n));
  expect("diag(d)", Diagonal<double>(Buffer<double>(n)));
  std::vector<Index> p(n);
  std::iota(p.begin(), p.end(), Index{0});
  expect("permutation", permutation<double>(p));
  expect("identity", identity<double>(n));
  expect("zero", zero<double>(n, n));
  expect("diag(d) + U", diagonal_plus_low_rank(d_, thin_, thin_));
  expect("banded", Banded<double>(n, n, 1, 2));
  expect("triangular", triangular<Shape::lower>(square_));
  expect("P·L·D·U·Q", ldu_decompose(square_));
  EXPECT_EQ(forms(ldu_decompose(square_, 3)), "logdet ");
  expect("fine-tuning of D", Loldu<double>(square_, 3));
}

TEST_F(ReadmeTable, ListsTheClosedFormsOfCompositionsAndTransforms) {
  const auto four = D(4, 4);
  std::vector<Index> p(n, 3);
  expect("rows at a stride", Range<double>(n, 0, n));
  expect("rows by a list", Gather<double>(n, p));
  expect("above, beside", vertical_stack(D(4, n), D(12, n)));
  expect("[A B; C D]", block_2x2(four, four, four, four));
  const Eigen::SparseMatrix<double> sparse = square_.sparseView();
  expect("Eigen's sparse", eigen_sparse(sparse));
  expect("low rank plus sparse", low_rank_plus_sparse(thin_, thin_, sparse));
  expect("A⊗B⊗", kronecker(four, four));
  expect("A⊗B⊗", kronecker(std::vector{four, four}));
  expect("(A⊗B)(C⊗D)", kronecker(four, four) * kronecker(four, four));
  expect("A⊕B⊕", kronecker_sum(four, four));
  expect("sums of many", sum_of(std::vector{four, four}));
  expect("Khatri", KhatriRao<double>(D(4, n), D(4, n)));
  expect("Toeplitz", Toeplitz<double>(n, n, Buffer<double>(2 * n - 1)));
  expect("Toeplitz", Hankel<double>(n, n, Buffer<double>(2 * n - 1)));
  expect("circulant", Circulant<double>(Buffer<double>(n)));
  expect("block-circulant", BlockCirculant<double>(4, 4, 4, Buffer<double>(64)));
  expect("Walsh", Hadamard<double>(n));
  expect("DFT on pairs", Dft<double>(n / 2));
  expect("DFT on pairs", Dct<double>(n));
  expect("H_1", random_reflections<double>(n, 3, 1));
  expect("Haar", random_orthogonal<double>(n, 1));
  expect("entries that share", Hashed<double>(n, n, Buffer<double>(9), 1));
  expect("blocks on the diagonal", block_diagonal(four, four));
  expect("inverse of a dense", inverse(Dense<double>(square_)));
  expect("inverse of a banded", inverse(Banded<double>(n, n, 1, 2)));
}

}  // namespace
}  // namespace tessera::test
