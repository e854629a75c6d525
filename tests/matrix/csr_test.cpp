// Compressed rows: what is refused, conversions, and products of every pattern.
#include <tessera/matrix/csr.hpp>

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <io/io_test.hpp>
#include <support/oracle.hpp>
#include <support/sparse_patterns.hpp>
#include <tessera/io/matrix_market.hpp>
#include <tessera/matrix/csc.hpp>

namespace tessera::test {
namespace TESSERA_TEST_FILE {

template <class T>
Buffer<T> buffer(std::initializer_list<T> list) {
  Buffer<T> made(static_cast<Index>(list.size()));
  std::copy(list.begin(), list.end(), made.begin());
  return made;
}
template <class I>
Csr<float, I> made(Index rows, Index cols, std::initializer_list<I> row_ptr, std::initializer_list<I> col_idx,
                   Index values) {
  return {rows, cols, buffer(row_ptr), buffer(col_idx), Buffer<float>(values)};
}

template <class I>
void refuses_corrupt_structures() {
  EXPECT_NO_THROW((made<I>(2, 3, {0, 1, 3}, {2, 0, 1}, 3)));
  EXPECT_REFUSED((made<I>(-1, 3, {0}, {}, 0)), format_error, "Csr -1x3: expected sizes of 0 or more");
  EXPECT_REFUSED((made<I>(2, 3, {0, 1, 3}, {2, 0, 1}, 4)), format_error, "col_idx has 3 entries, values has 4");
  EXPECT_REFUSED((made<I>(2, 3, {0, 3}, {2, 0, 1}, 3)), format_error, "row_ptr has 2 entries");
  EXPECT_REFUSED((made<I>(2, 3, {}, {}, 0)), format_error, "row_ptr has 0 entries");
  EXPECT_REFUSED((made<I>(std::numeric_limits<Index>::max(), 3, {0}, {}, 0)), format_error, "row_ptr has 1 entries");
  EXPECT_REFUSED((made<I>(2, 3, {1, 1, 3}, {2, 0, 1}, 3)), format_error, "row_ptr[0] is 1");
  EXPECT_REFUSED((made<I>(3, 3, {0, 2, 1, 3}, {0, 2, 1}, 3)), format_error, "row_ptr falls from 2 to 1 at row 1");
  EXPECT_REFUSED((made<I>(2, 3, {0, 1, 2}, {2, 0, 1}, 3)), format_error, "row_ptr ends at 2; there are 3 nonzeros");
  EXPECT_REFUSED((made<I>(2, 3, {0, 1, 4}, {2, 0, 1}, 3)), format_error, "row_ptr ends at 4");
  EXPECT_REFUSED((made<I>(2, 3, {0, 1, 3}, {2, 0, 3}, 3)), format_error, "col_idx[2] of row 1 is 3; expected 0 to 2");
  EXPECT_REFUSED((made<I>(2, 3, {0, 1, 3}, {-1, 0, 2}, 3)), format_error, "col_idx[0] of row 0 is -1");
  EXPECT_REFUSED((made<I>(2, 3, {0, 1, 3}, {2, 1, 0}, 3)), format_error, "col_idx goes from 1 to 0 in row 1");
  EXPECT_REFUSED((made<I>(2, 3, {0, 1, 3}, {2, 1, 1}, 3)), format_error, "col_idx goes from 1 to 1 in row 1");
  EXPECT_REFUSED((made<I>(2, 0, {0, 0, 1}, {0}, 1)), format_error, "col_idx[0] of row 1 is 0");
}

TEST(Csr, RefusesCorruptStructures) {
  refuses_corrupt_structures<std::int32_t>();
  refuses_corrupt_structures<std::int64_t>();
}

TEST(Csr, IndicesThatCannotCountAreRefused) {
  const Index beyond = Index{1} << 31;
  EXPECT_REFUSED((made<std::int32_t>(1, beyond + 1, {0, 0}, {}, 0)), format_error, "which counts to 2147483647");
  EXPECT_NO_THROW((made<std::int32_t>(1, beyond, {0, 0}, {}, 0)));
  const std::array<std::int32_t, 2> starts{0, 0};
  // As many nonzeros as do not fit, by a length alone: nothing is read before it is refused.
  const std::size_t many = (std::size_t{1} << 31) + 5;
  EXPECT_REFUSED((CsrView<float>(1, 4, starts, std::span<const std::int32_t>(starts.data(), many),
                                 std::span<const float>(static_cast<const float*>(nullptr), many))),
                 format_error, "nonzeros do not fit row_ptr");
  Coo<float> wide;
  wide.rows = 1;
  wide.cols = beyond * 4;
  wide.row = {0, 0};
  wide.col = {beyond * 3, 5};
  wide.value = {2, 3};
  EXPECT_REFUSED(csr_from_coo<float>(wide), format_error, "do not fit an index");
  Csr<float, std::int64_t> A(1, wide.cols, buffer<std::int64_t>({0, 2}), buffer<std::int64_t>({5, beyond * 3}),
                             buffer<float>({3, 2}));
  EXPECT_EQ(A(0, beyond * 3), 2.0f);
  EXPECT_EQ(A(0, 6), 0.0f);
  EXPECT_REFUSED(A(0, wide.cols), shape_error, "(0, 8589934592)");
  EXPECT_REFUSED((Csr<float>(-1, 2)), shape_error, "Csr(-1, 2)");
}

TEST(Csr, ListsOfEntriesAreChecked) {
  Coo<double> list;
  list.rows = 3;
  list.cols = 4;
  list.row = {2, 0, 1, 0, 2};
  list.col = {3, 1, 2, 0, 3};
  list.value = {1, 2, 3, 4, 10};
  const auto A = csr_from_coo<double>(list);
  EXPECT_EQ(A.nnz(), 4);
  EXPECT_EQ(A(2, 3), 11);
  EXPECT_TRUE(std::ranges::equal(A.col_idx(), std::array{0, 1, 2, 3}));
  EXPECT_REFUSED(csr_from_coo<double>(list, Duplicates::error), format_error, "(2, 3) is listed more than once");
  const Coo<std::int8_t> bytes{3, 4, {2, 0, 2}, {3, 1, 3}, {100, 2, 27}, Symmetry::general};
  EXPECT_EQ(csr_from_coo<std::int8_t>(bytes)(2, 3), 127);
  Coo<std::int8_t> full = bytes;
  full.value[2] = 28;
  EXPECT_REFUSED(csr_from_coo<std::int8_t>(full), format_error, "(2, 3) adds up to 128");
  auto bad = list;
  bad.col[1] = 4;
  EXPECT_REFUSED(csr_from_coo<double>(bad), format_error, "entry 1 is at (0, 4)");
  bad = list;
  bad.row[4] = -1;
  EXPECT_REFUSED(csr_from_coo<double>(bad), format_error, "entry 4 is at (-1, 3)");
  bad = list;
  bad.row.pop_back();
  EXPECT_REFUSED(csr_from_coo<double>(bad), format_error, "4 rows, 5 columns and 5 values");
  bad = list;
  bad.symmetry = Symmetry::symmetric;
  EXPECT_REFUSED(csr_from_coo<double>(bad), format_error, "square");
  bad.row = {2, 1};
  bad.col = {0, 1};
  bad.value = {5, 6};
  bad.cols = 3;
  EXPECT_EQ((csr_from_coo<double>(bad)(0, 2)), 5);
}

TEST(Csr, ConversionsRoundTrip) {
  for (const auto& [name, list] : sparse_patterns<double>()) {
    SCOPED_TRACE(name);
    const auto A = csr_from_coo<double>(list);
    const auto dense = to_dense(list);
    const Eigen::MatrixXd expected = detail::eigen_map(MatrixView<const double>(dense.data(), list.rows, list.cols));
    EXPECT_EQ(A.to_dense(), expected);
    EXPECT_EQ(A.transposed().to_dense(), expected.transpose());
    EXPECT_EQ((csr_from_coo<double, std::int64_t>(to_coo(A)).to_dense()), expected);
    EXPECT_EQ(csr_from_dense(view(expected)).to_dense(), expected);
    EXPECT_EQ(Eigen::MatrixXd(eigen_map(A)), expected);
    EXPECT_NO_THROW((CsrView<double>(A.rows(), A.cols(), A.row_ptr(), A.col_idx(), A.values())));
    const Csr<double> copy(A.view()), twice = A.transposed().transposed();
    EXPECT_TRUE(std::ranges::equal(copy.values(), A.values()));
    EXPECT_TRUE(std::ranges::equal(twice.values(), A.values()));
    EXPECT_TRUE(std::ranges::equal(twice.col_idx(), A.col_idx()));
    auto shuffled = list;
    std::ranges::reverse(shuffled.row);
    std::ranges::reverse(shuffled.col);
    std::ranges::reverse(shuffled.value);
    EXPECT_EQ(csr_from_coo<double>(shuffled).to_dense(), expected);
  }
}

TEST(Csr, SharesArraysWithEigen) {
  const auto A = csr_from_coo<double>(scattered<double>(40, 30, 0.2));
  Eigen::SparseMatrix<double, Eigen::RowMajor> E = eigen_map(A);
  const auto B = csr_view(E);
  EXPECT_EQ(B.values().data(), E.valuePtr());
  EXPECT_EQ(B.col_idx().data(), E.innerIndexPtr());
  const Eigen::MatrixXd X = Eigen::MatrixXd::Random(30, 5), Y = B * X;
  EXPECT_LE((Y - E * X).norm(), 1e-12 * Y.norm());
  E.insert(0, 29) = 1;
  EXPECT_REFUSED(csr_view(E), unsupported_error, "makeCompressed()");
  const Eigen::SparseMatrix<double> columns = eigen_map(A);
  EXPECT_EQ(csr_from_eigen(columns).to_dense(), A.to_dense());
}

TEST(Csc, SharesArraysWithEigen) {
  const auto A = csr_from_coo<double>(scattered<double>(40, 30, 0.2));
  const Csc<double> own = csc_from_csr(A);
  Eigen::SparseMatrix<double> E = eigen_map(own);
  EXPECT_EQ(eigen_map(own).valuePtr(), own.values().data());
  EXPECT_EQ(Eigen::MatrixXd(E), A.to_dense());
  const auto B = csc_view(E);
  EXPECT_EQ(B.values().data(), E.valuePtr());
  EXPECT_EQ(B.row_idx().data(), E.innerIndexPtr());
  EXPECT_EQ(B.to_dense(), A.to_dense());
  const Eigen::MatrixXd X = Eigen::MatrixXd::Random(30, 5), Z = Eigen::MatrixXd::Random(40, 5), Y = B * X,
                        back = B.transpose() * Z;
  EXPECT_LE((Y - E * X).norm(), 1e-12 * Y.norm());
  EXPECT_LE((back - E.transpose() * Z).norm(), 1e-12 * back.norm());
  E.insert(39, 0) = 1;
  EXPECT_REFUSED(csc_view(E), unsupported_error, "makeCompressed()");
  const std::array<std::int32_t, 3> starts{0, 1, 2}, rows{0, 2, 0};
  const std::array<double, 2> values{1, 2};
  EXPECT_REFUSED((CscView<double>(2, 2, starts, std::span(rows).first(2), values)), format_error,
                 "row_idx[1] of column 1 is 2");
}

TEST(Csr, MatricesOfMatrixMarket) {
  for (const char* name : {"1138_bus", "bcsstk13", "cryg2500", "jagmesh7", "karate", "olm1000", "west0067"}) {
    TESSERA_DATA_OR_SKIP(path, detail::concat("matrix_market/", name, ".mtx"));
    SCOPED_TRACE(name);
    const auto A = csr_from_coo<double>(read_matrix_market<double>(path));
    const auto E = eigen_map(A);
    const Eigen::MatrixXd X = Eigen::MatrixXd::Random(A.cols(), 9), Z = Eigen::MatrixXd::Random(A.rows(), 9);
    const Eigen::MatrixXd forward = A * X, backward = A.transpose() * Z;
    const Eigen::VectorXd one = A * X.col(0), back = A.transpose() * Z.col(0);
    EXPECT_LE((forward - E * X).norm(), 1e-13 * forward.norm());
    EXPECT_LE((backward - E.transpose() * Z).norm(), 1e-13 * backward.norm());
    EXPECT_LE((one - E * X.col(0)).norm(), 1e-13 * one.norm());
    EXPECT_LE((back - E.transpose() * Z.col(0)).norm(), 1e-13 * back.norm());
    EXPECT_EQ(A.diagonal(), Eigen::VectorXd(Eigen::SparseMatrix<double>(E).diagonal()));
  }
}

TEST(Csr, ValuesOfOtherTypes) {
  const auto list = scattered<std::int8_t>(30, 50, 0.3);
  const auto A = csr_from_coo<std::int8_t>(list);
  static_assert(std::same_as<Csr<std::int8_t>::Scalar, std::int32_t> && std::same_as<Csr<bf16>::Scalar, float>);
  Eigen::MatrixXi X(50, 3), Y(30, 3);
  for (Index i = 0; i < X.size(); ++i) X.data()[i] = static_cast<int>(i * 37 % 255 - 127);
  Y.setConstant(7);
  A.apply(default_context(), Op::none, 2, view(std::as_const(X)), -1, view(Y));
  EXPECT_EQ(Y, 2 * A.to_dense() * X - Eigen::MatrixXi::Constant(30, 3, 7));
  A.apply(default_context(), Op::transpose, 1, view(std::as_const(Y)), 0, view(X));
  EXPECT_EQ(X, A.to_dense().transpose() * Y);
}

TEST(Csr, ZeroTimesNothingReadsNothing) {
  const auto A = csr_from_coo<float>(scattered<float>(20, 20, 0.3));
  const Eigen::MatrixXf X = Eigen::MatrixXf::Constant(20, 4, std::numeric_limits<float>::quiet_NaN());
  Eigen::MatrixXf Y = Eigen::MatrixXf::Ones(20, 4);
  for (const Op op : {Op::none, Op::transpose}) A.apply(default_context(), op, 0, view(X), 2, view(Y));
  EXPECT_EQ(Y, Eigen::MatrixXf::Constant(20, 4, 4));
}

}  // namespace
}  // namespace tessera::test
