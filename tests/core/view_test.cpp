#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include <tessera/core/view.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

template <class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const shape_error& e) {
    return e.what();
  }
  return "nothing thrown";
}

class Views : public ::testing::Test {
 protected:
  Views() : data(2 * 3 * 4 * 5) { std::iota(data.begin(), data.end(), 0); }
  std::vector<int> data;
};

TEST_F(Views, LastIndexIsFastest) {
  const View<int, 4> a(data.data(), {2, 3, 4, 5});
  EXPECT_EQ(a.size(), 120);
  EXPECT_TRUE(a.contiguous());
  for (Index i = 0; i < 2; ++i)
    for (Index j = 0; j < 3; ++j)
      for (Index k = 0; k < 4; ++k)
        for (Index l = 0; l < 5; ++l) {
          EXPECT_EQ(a(i, j, k, l), ((i * 3 + j) * 4 + k) * 5 + l);
          EXPECT_EQ(a[i][j][k][l], a(i, j, k, l));
        }
}

TEST_F(Views, SlicesKeepStrides) {
  const View<int, 3> a(data.data(), {4, 5, 6});
  const auto s = a.slice(0, 1, 2).slice(1, 2, 3).slice(2, 5, 1);
  EXPECT_EQ(s.extents(), (View<int, 3>::Shape{2, 3, 1}));
  EXPECT_EQ(s.strides(), a.strides());
  EXPECT_EQ(s(1, 2, 0), a(2, 4, 5));
  EXPECT_FALSE(s.contiguous());
  EXPECT_TRUE(a.slice(0, 4, 0).empty());
  EXPECT_TRUE(a.slice(0, 1, 3).contiguous());
  EXPECT_TRUE(a.slice(0, 2, 1).slice(1, 1, 2).contiguous()) << "a dimension of one entry has no say";
}

TEST(View, OfNothingIsCutLikeOthers) {  // no offsets from a null pointer, which UBSan would tell
  const MatrixView<float> none = MatrixView<float>(nullptr, 0, 5).transposed();
  EXPECT_EQ(none.row(3).data(), nullptr);
  EXPECT_EQ(none[4].data(), nullptr);
  EXPECT_EQ(none.slice(0, 2, 3).data(), nullptr);
  EXPECT_EQ((MatrixView<float>(nullptr, 0, 5).col(2).data()), nullptr);
  EXPECT_EQ(none.slice(0, 2, 3).rows(), 3);
}

TEST_F(Views, MatrixRowsColumnsBlocksAndTranspose) {
  const MatrixView<int> A(data.data(), 6, 7);
  EXPECT_EQ(A.row(2)[3], A(2, 3));
  EXPECT_EQ(A.col(3)[2], A(2, 3));
  EXPECT_EQ(A.col(3).stride(0), 7);
  const auto T = A.transposed();
  EXPECT_EQ(T.rows(), 7);
  EXPECT_EQ(T.cols(), 6);
  EXPECT_EQ(T.row_stride(), 1);
  EXPECT_EQ(T.col_stride(), 7);
  EXPECT_FALSE(T.contiguous());
  EXPECT_TRUE(T.transposed().contiguous());
  const auto B = A.block(1, 2, 3, 4);
  for (Index i = 0; i < 3; ++i)
    for (Index j = 0; j < 4; ++j) {
      EXPECT_EQ(B(i, j), A(1 + i, 2 + j));
      EXPECT_EQ(B.transposed()(j, i), B(i, j));
    }
  EXPECT_EQ(as_column(A.col(3))(4, 0), A(4, 3));
}

TEST_F(Views, NegativeAndZeroStrides) {
  const VectorView<int> reversed(data.data() + 9, {10}, {-1});
  for (Index i = 0; i < 10; ++i) EXPECT_EQ(reversed[i], 9 - i);
  const MatrixView<int> repeated(data.data(), {3, 4}, {0, 1});
  EXPECT_EQ(repeated(2, 3), 3);
  EXPECT_FALSE(reversed.contiguous());
  EXPECT_FALSE(repeated.contiguous());
}

TEST_F(Views, MutableConvertsToConst) {
  const MatrixView<int> A(data.data(), 2, 3);
  const MatrixView<const int> B = A;
  EXPECT_EQ(B.data(), A.data());
  EXPECT_EQ(&B(1, 2), &A(1, 2));
  A(1, 2) = 77;
  EXPECT_EQ(B(1, 2), 77);
  static_assert(!std::is_convertible_v<MatrixView<const int>, MatrixView<int>>);
}

TEST_F(Views, BadSlicesSayWhatAndWhere) {
  const MatrixView<int> A(data.data(), 4, 6);
  EXPECT_EQ(message_of([&] { A.slice(1, 5, 2); }), "tessera: slice of 2 from 5 of dimension 1, which has 6 entries");
  EXPECT_NE(message_of([&] { A.slice(0, -1, 2); }).find("from -1"), std::string::npos);
  EXPECT_NE(message_of([&] { A.slice(0, 0, -2); }).find("of -2"), std::string::npos);
  EXPECT_NE(message_of([&] { A.slice(2, 0, 1); }).find("rank 2"), std::string::npos);
  EXPECT_NE(message_of([&] { A.slice(-1, 0, 1); }).find("dimension -1"), std::string::npos);
  constexpr Index huge = std::numeric_limits<Index>::max();
  EXPECT_THROW(A.slice(0, huge, 1), shape_error);
  EXPECT_THROW(A.slice(0, 1, huge), shape_error);
  EXPECT_THROW(A.block(0, 0, 5, 1), shape_error);
  EXPECT_NO_THROW(A.slice(0, 4, 0));
}

TEST_F(Views, ByteRangesCoverWhatIsTouched) {
  const MatrixView<int> A(data.data(), 4, 6);
  const auto range = byte_range(A.block(1, 1, 2, 2));
  EXPECT_EQ(range.first, data.data() + 7);
  EXPECT_EQ(range.last, data.data() + 15);
  const VectorView<int> reversed(data.data() + 9, {10}, {-1});
  EXPECT_EQ(byte_range(reversed).first, data.data());
  EXPECT_EQ(byte_range(reversed).last, data.data() + 10);
  EXPECT_TRUE(byte_range(A).overlaps(byte_range(reversed)));
  EXPECT_FALSE(byte_range(A.row(0)).overlaps(byte_range(A.row(1))));
  EXPECT_TRUE(byte_range(A.col(0)).overlaps(byte_range(A.col(1)))) << "interleaved counts as overlap";
  EXPECT_FALSE(byte_range(A.slice(0, 0, 0)).overlaps(byte_range(A)));
  EXPECT_FALSE(byte_range(MatrixView<int>()).overlaps(byte_range(A)));
}

TEST(View, IsAConstantExpression) {
  static constexpr int data[6] = {0, 1, 2, 3, 4, 5};
  constexpr MatrixView<const int> A(data, 2, 3);
  static_assert(A(1, 2) == 5 && A.transposed()(2, 1) == 5 && A.row(1)[0] == 3 && A.block(0, 1, 2, 2)(1, 1) == 5);
  EXPECT_TRUE(A.contiguous());
}

}  // namespace
}  // namespace tessera
