// The closed forms and flops that include/tessera/matrix/README.md lists are those of the types.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

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

/// The table: a row's first cell, its flops and its closed forms.
struct Row {
  std::string flops, closed;
};
std::map<std::string, Row> table() {
  std::map<std::string, Row> rows;
  std::ifstream file(TESSERA_TEST_ROOT "/include/tessera/matrix/README.md");
  for (std::string line; std::getline(file, line) && line.rfind("s is the size", 0) != 0;) {
    std::vector<std::string> cells;
    std::istringstream parts(line);
    for (std::string cell; std::getline(parts, cell, '|');) cells.push_back(cell);
    if (cells.size() == 8) rows[cells[1]] = {cells[4], cells[6]};
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
    EXPECT_EQ(listed(row(begin).closed), forms(a)) << begin << ' ' << describe(a);
  }
  /// It says `text`, which is `value` of `a`.
  template <class A>
  void expect_flops(const std::string& begin, const std::string& text, double value, const A& a) const {
    EXPECT_EQ(row(begin).flops.rfind(' ' + text, 0), 0u) << begin << row(begin).flops;
    EXPECT_EQ(flops(a, 1), value) << begin << ' ' << describe(a);
    EXPECT_GE(flops(a, 5), value) << begin << ' ' << describe(a);
  }
  Row row(const std::string& begin) const {
    std::vector<Row> found;
    const bool whole = rows_.count(' ' + begin + ' ') > 0;
    for (const auto& [what, row] : rows_)
      if (whole ? what == ' ' + begin + ' ' : what.rfind(' ' + begin, 0) == 0) found.push_back(row);
    EXPECT_EQ(found.size(), 1u) << begin;
    return found.empty() ? Row{} : found[0];
  }
  static Dense<double> D(Index rows, Index cols) { return Dense<double>(rows, cols); }

  const std::map<std::string, Row> rows_ = table();
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

TEST_F(ReadmeTable, ListsTheFlopsThatTypesCount) {
  const auto four = D(4, 4);
  const Buffer<double> sequence(2 * n - 1);
  expect_flops("dense f32", "2·M·K flops", 2 * n * n, Dense<double>(square_));
  expect_flops("U·Vᵀ", "2·(M + N)·R flops", 2 * (n + n) * 2, low_rank(thin_, thin_));
  expect_flops("Monarch P", "2·rank·(M·col_blocks + N·row_blocks) flops", 2 * 3 * (n * 4 + 24 * 2),
               Monarch<double>(n, 24, 2, 4, 3));
  expect_flops("Monarch of order p", "2·N·(16 + 16 + 16) flops", 2 * n * (2 + 4 + 2), MonarchChain<double>({2, 4, 2}));
  expect_flops("butterfly", "3·N·log2(N) flops", 3 * n * 4, Butterfly<double>(n));
  expect_flops("diag(d)", "N flops", n, Diagonal<double>(Buffer<double>(n)));
  expect_flops("identity", "a copy", 0, identity<double>(n));
  expect_flops("zero", "nothing", 0, zero<double>(n, n));
  expect_flops("diag(d) + U", "N·(2 + 4·R) flops", n * (2 + 4 * 2), diagonal_plus_low_rank(d_, thin_, thin_));
  expect_flops("banded", "2 flops an entry", 2.0 * static_cast<double>(Banded<double>(n, n, 1, 2).parameter_count()),
               Banded<double>(n, n, 1, 2));
  expect_flops("triangular", "N·(N + 64) flops", 128 * (128 + 64),
               triangular<Shape::lower>(Eigen::MatrixXd(Eigen::MatrixXd::Zero(128, 128))));
  expect_flops("P·L·D·U·Q", "2·R·(M + N) + R flops", 2 * 3 * (n + n) + 3, ldu_decompose(square_, 3));
  expect_flops("fine-tuning of D", "2·M·N + 2·R·(M + N) + R flops", 2 * n * n + 2 * 3 * (n + n) + 3,
               Loldu<double>(square_, 3));
  expect_flops("A⊗B⊗", "2·n·Σ rows of square factors", 2 * n * (4 + 4), kronecker(four, four));
  expect_flops("A⊕B⊕", "2·n·Σ sizes", 2 * n * (4 + 4), kronecker_sum(four, four));
  expect_flops("Khatri", "M·K·(1 + 2·N) flops, A of M rows", 4 * n * (1 + 2 * 3), KhatriRao<double>(D(4, n), D(3, n)));
  expect_flops("Toeplitz", "2·M·N flops", 2 * n * n, Toeplitz<double>(n, n, sequence));
  expect_flops("block-circulant", "2·n²·m·p flops", 2 * 4 * 4 * 4 * 4,
               BlockCirculant<double>(4, 4, 4, Buffer<double>(64)));
  expect_flops("Walsh", "n·log2(n) additions", n * 4, Hadamard<double>(n));
  expect_flops("H_1", "R·(4·N + R) flops a column and 2·N·R² once", 3 * (4 * n + 3) + 2 * n * 9,
               random_reflections<double>(n, 3, 1));
  expect_flops("entries that share", "2·M·N flops", 2 * n * n, Hashed<double>(n, n, Buffer<double>(9), 1));
  expect_flops("inverse of a dense", "2·N² flops", 2 * n * n, inverse(Dense<double>(square_)));
}

}  // namespace
}  // namespace tessera::test
