// The other sparse formats: conversions of every pattern there and back, and what each refuses.
#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <io/io_test.hpp>
#include <support/amx_emulator.hpp>
#include <support/oracle.hpp>
#include <support/sparse_patterns.hpp>
#include <tessera/matrix/bitmap.hpp>
#include <tessera/matrix/bsr.hpp>
#include <tessera/matrix/coo.hpp>
#include <tessera/matrix/csc.hpp>
#include <tessera/matrix/csr_delta.hpp>
#include <tessera/matrix/dia.hpp>
#include <tessera/matrix/hypersparse.hpp>
#include <tessera/matrix/nm.hpp>
#include <tessera/matrix/sell.hpp>
#include <tessera/matrix/tiled_csl.hpp>

namespace tessera::test {
namespace TESSERA_TEST_FILE {

template <class T>
Buffer<T> buffer(std::initializer_list<T> list) {
  Buffer<T> made(static_cast<Index>(list.size()));
  std::copy(list.begin(), list.end(), made.begin());
  return made;
}
using Counts = Buffer<std::int32_t>;
Counts counts(std::initializer_list<std::int32_t> list) { return buffer(list); }
Buffer<float> floats(Index n) { return Buffer<float>(n); }

void expect_same(const Csr<double>& A, const Csr<double>& B) {
  EXPECT_EQ(A.rows(), B.rows());
  EXPECT_EQ(A.cols(), B.cols());
  EXPECT_TRUE(std::ranges::equal(A.row_ptr(), B.row_ptr()));
  EXPECT_TRUE(std::ranges::equal(A.col_idx(), B.col_idx()));
  EXPECT_TRUE(std::ranges::equal(A.values(), B.values()));
}

TEST(SparseFormats, ConversionsRoundTrip) {
  for (const auto& [name, list] : sparse_patterns<double>()) {
    SCOPED_TRACE(name);
    const auto A = csr_from_coo<double>(list);
    expect_same(csc_from_csr(A).to_csr(), A);
    expect_same(coo_matrix(list).to_csr(), A);
    expect_same(csr_from_coo<double>(to_coo(coo_from_csr(A)), Duplicates::error), A);
    expect_same(hypersparse_from_csr(A).to_csr(), A);
    expect_same(bitmap_from_csr(A).to_csr(), A);
    expect_same(csr_delta_from_csr(A).to_csr(), A);
    expect_same(tiled_csl_from_csr(A).to_csr(), A);
    expect_same(dia_from_csr(A).to_csr(), A);
    for (const auto& [r, c] : {std::pair<Index, Index>{1, 1}, {4, 1}, {16, 1}, {3, 5}, {64, 64}})
      expect_same(bsr_from_csr(A, r, c).to_csr(), A);
    for (const auto& [slice, window] : {std::pair<Index, Index>{1, 1}, {8, 64}, {32, 1000}, {5, 7}})
      expect_same(sell_from_csr(A, slice, window).to_csr(), A);
    for (const Index m : {1, 2, 4, 7, 32}) expect_same(nm_from_csr(A, m, m).to_csr(), A);
  }
}

TEST(SparseFormats, WhatTheyTake) {
  const auto A = csr_from_coo<float>(filled<float>(128, 128, [](Index i, Index j) { return (i + j) % 2 == 0; }));
  EXPECT_EQ(nm_from_csr(A, 2, 4).bytes(), 128u * 64 * 4 + 128 * 16 + 8);      // 4.25 bytes a nonzero
  EXPECT_EQ(tiled_csl_from_csr(A).bytes(), 128u * 64 * 6 + 5 * 8);            // 6
  EXPECT_EQ(bitmap_from_csr(A).bytes(), 128u * 64 * 4 + 128 * 16 + 129 * 8);  // 1 bit a position
  EXPECT_EQ(csr_delta_from_csr(A).bytes(), 128u * 64 * 6 + 129 * 8 + 128 * 4);
  EXPECT_EQ(A.bytes(), 128u * 64 * 8 + 129 * 4);
  for (const double density : {0.4, 0.3, 0.2, 0.1}) {  // 60 to 90% zeros: a value and a place each, less than dense
    const auto T = tiled_csl_from_csr(csr_from_coo<float>(scattered<float>(130, 200, density)));
    EXPECT_EQ(T.bytes(), T.values().size() * 6 + (3 * 4 + 1) * 8);
    EXPECT_NEAR(static_cast<double>(T.values().size()), 26000 * density, 400);
    EXPECT_LT(T.bytes(), 130u * 200 * 4);
  }
}

// More rows than the pieces of any format have.
TEST(SparseFormats, ThreadsChangeNoBit) {
  const auto expect_alike = [](const auto& A) {
    for (const Op op : {Op::none, Op::transpose})
      for (const Index n : {1, 9}) {
        const Index cols = op == Op::none ? A.cols() : A.rows(), rows = A.rows() + A.cols() - cols;
        const auto x = random_buffer<float>(cols * n, 3);
        Buffer<float> y[2];
        for (const Index more : {0, 1}) {
          Context ctx = Context::with_threads(1 + 2 * more);
          y[more] = random_buffer<float>(rows * n, 4);
          A.apply(ctx, op, 2, MatrixView<const float>(x.data(), cols, n), 3,
                  MatrixView<float>(y[more].data(), rows, n));
        }
        EXPECT_TRUE(std::equal(y[0].begin(), y[0].end(), y[1].begin())) << describe(A) << int(op) << ' ' << n;
      }
  };
  const auto A = csr_from_coo<float>(scattered<float>(2500, 150, 0.03));
  expect_alike(A);
  expect_alike(csr_from_coo<float, std::int64_t>(to_coo(A)));
  expect_alike(coo_matrix(twice(to_coo(A))));
  expect_alike(csc_from_csr(A));
  expect_alike(bsr_from_csr(A, 4, 1));
  expect_alike(sell_from_csr(A, 8, 64));
  expect_alike(nm_from_csr(A, 8, 8));
  expect_alike(tiled_csl_from_csr(A));
  expect_alike(bitmap_from_csr(A));
  expect_alike(csr_delta_from_csr(A));
  expect_alike(hypersparse_from_csr(A));
  expect_alike(
      dia_from_csr(csr_from_coo<float>(filled<float>(2500, 40, [](Index i, Index j) { return i - j < 2 && j <= i; }))));
}

TEST(SparseFormats, CorruptBlocksAreRefused) {
  const auto make = [](Index r, Index c, Counts ptr, Counts col, Index values) {
    return Bsr<float>(5, 6, r, c, std::move(ptr), std::move(col), floats(values));
  };
  EXPECT_NO_THROW(make(4, 2, counts({0, 1, 3}), counts({2, 0, 1}), 24));
  EXPECT_REFUSED(make(0, 2, counts({0}), counts({}), 0), format_error, "blocks of 0x2");
  EXPECT_REFUSED(make(4, 2, counts({0, 1, 3}), counts({2, 0, 1}), 23), format_error, "values has 23 entries");
  EXPECT_REFUSED(make(4, 2, counts({0, 3}), counts({2, 0, 1}), 24), format_error, "block_ptr has 2 entries");
  EXPECT_REFUSED(make(4, 2, counts({0, 1, 3}), counts({3, 0, 1}), 24), format_error, "block_col[0]");
  EXPECT_REFUSED(make(4, 2, counts({0, 1, 3}), counts({2, 1, 1}), 24), format_error, "block_col goes from 1 to 1");
  EXPECT_REFUSED(Bsr<float>(-1, 6, 1, 1, counts({0}), counts({}), floats(0)), format_error, "Bsr -1x6");
  EXPECT_REFUSED(bsr_from_csr(Csr<float>(3, 3), 4, 65), format_error, "4x65");
}

TEST(SparseFormats, CorruptSlicesAreRefused) {
  const auto make = [](Counts order, Buffer<Index> ptr, Counts lengths, Counts col, Index values) {
    return Sell<float>(3, 4, 2, std::move(order), std::move(ptr), std::move(lengths), std::move(col), floats(values));
  };
  const auto ptr = buffer<Index>({0, 2, 3});
  EXPECT_NO_THROW(make(counts({2, 0, 1}), ptr, counts({2, 1, 1}), counts({0, 3, 2, 0, 1, 0}), 6));
  EXPECT_REFUSED(make(counts({2, 0, 2}), ptr, counts({2, 1, 1}), counts({0, 3, 2, 0, 1, 0}), 6), format_error,
                 "order[2] is 2");
  EXPECT_REFUSED(make(counts({2, 0, 3}), ptr, counts({2, 1, 1}), counts({0, 3, 2, 0, 1, 0}), 6), format_error,
                 "order[2] is 3");
  EXPECT_REFUSED(make(counts({2, 0, 1}), ptr, counts({3, 1, 1}), counts({0, 3, 2, 0, 1, 0}), 6), format_error,
                 "lengths[0] is 3");
  EXPECT_REFUSED(make(counts({2, 0, 1}), ptr, counts({2, 1, 1}), counts({2, 3, 2, 0, 1, 0}), 6), format_error,
                 "col_idx of row 2 goes from 2 to 2");
  EXPECT_REFUSED(make(counts({2, 0, 1}), ptr, counts({2, 1, 1}), counts({0, 4, 2, 0, 1, 0}), 6), format_error,
                 "col_idx[1] is 4");
  EXPECT_REFUSED(make(counts({2, 0, 1}), buffer<Index>({0, 4, 3}), counts({2, 1, 1}), counts({0, 3, 2, 0, 1, 0}), 6),
                 format_error, "slice_ptr goes from 0 to 4");
  EXPECT_REFUSED(make(counts({2, 0, 1}), buffer<Index>({0, 2, 2}), counts({2, 1, 0}), counts({0, 3, 2, 0, 1, 0}), 6),
                 format_error, "slice_ptr ends at 2");
  EXPECT_REFUSED(make(counts({2, 0}), ptr, counts({2, 1, 1}), counts({0, 3, 2, 0, 1, 0}), 6), format_error,
                 "order has 2");
  EXPECT_REFUSED(sell_from_csr(Csr<float>(3, 3), 65), format_error, "slices of 65");
  EXPECT_REFUSED(Sell<float>(1, 0, 1, counts({0}), buffer<Index>({0, 1}), counts({1}), counts({0}), floats(1)),
                 format_error, "lengths[0] is 1");
}

TEST(SparseFormats, CorruptEntriesAreRefused) {
  const auto make = [](Counts rows, Counts cols, Index values) {
    return CooMatrix<float>(3, 4, std::move(rows), std::move(cols), floats(values));
  };
  EXPECT_NO_THROW(make(counts({0, 0, 0, 2}), counts({1, 1, 3, 0}), 4));
  EXPECT_REFUSED(make(counts({0, 3}), counts({1, 1}), 2), format_error, "entry 1 is at (3, 1)");
  EXPECT_REFUSED(make(counts({0, 2}), counts({-1, 1}), 2), format_error, "entry 0 is at (0, -1)");
  EXPECT_REFUSED(make(counts({0, 0}), counts({2, 1}), 2), format_error, "entry 1 at (0, 1) follows one at (0, 2)");
  EXPECT_REFUSED(make(counts({1, 0}), counts({1, 1}), 2), format_error, "entry 1 at (0, 1) follows one at (1, 1)");
  EXPECT_REFUSED(make(counts({0}), counts({1, 1}), 2), format_error, "row_idx has 1 entries, col_idx 2, values 2");
  const auto twofold = make(counts({1, 1}), counts({2, 2}), 2);
  EXPECT_EQ(twofold.to_csr().nnz(), 1);
  EXPECT_REFUSED(twofold.to_csr(Duplicates::error), format_error, "(1, 2) is listed more than once");
  EXPECT_REFUSED(coo_matrix(Coo<float>{2, 2, {0}, {2}, {1}}), format_error, "entry 0 is at (0, 2)");
}

// Rows and columns beyond 32 bits, of which no product could be held.
TEST(SparseFormats, IndicesOf64BitsReachFar) {
  constexpr Index far = Index{1} << 40;
  using Far = Buffer<std::int64_t>;
  const auto listed = coo_matrix<double, std::int64_t>({far, far, {far - 1, 0, 0}, {3, far - 1, 5}, {1, 2, 3}});
  EXPECT_TRUE(std::ranges::equal(listed.row_idx(), std::vector<std::int64_t>{0, 0, far - 1}));
  EXPECT_TRUE(std::ranges::equal(listed.col_idx(), std::vector<std::int64_t>{5, far - 1, 3}));
  EXPECT_TRUE(std::ranges::equal(listed.values(), std::vector<double>{3, 2, 1}));
  EXPECT_REFUSED(coo_matrix<double>({far, 1, {}, {}, {}}), format_error, "rows after the first do not fit");
  const Bsr<float, std::int64_t> blocks(3, far, 2, 4, buffer<std::int64_t>({0, 2, 2}),
                                        buffer<std::int64_t>({5, far / 4 - 1}), floats(16));
  EXPECT_EQ(blocks.block_col()[1], far / 4 - 1);
  const Csr<float, std::int64_t> one(1, far, buffer<std::int64_t>({0, 2}), buffer<std::int64_t>({7, far - 1}),
                                     buffer<float>({2, 3}));
  const auto again = bsr_from_csr(one, 2, 4).to_csr();
  EXPECT_TRUE(std::ranges::equal(again.col_idx(), one.col_idx()));
  EXPECT_TRUE(std::ranges::equal(again.values(), one.values()));
  EXPECT_TRUE(std::ranges::equal(sell_from_csr(one, 8).to_csr().col_idx(), one.col_idx()));
  constexpr Index most = std::numeric_limits<Index>::max();
  EXPECT_REFUSED((Bsr<float, std::int64_t>(0, most, 2, 4, Far(1), {}, {})), format_error, "expected sizes from 0 to");
  EXPECT_REFUSED((Bsr<float>(0, far, 2, 4, counts({0}), {}, {})), format_error, "expected sizes from 0 to");
}

TEST(SparseFormats, CorruptGroupsAreRefused) {
  const auto make = [](Index n, Index m, Index values, Buffer<std::uint8_t> codes) {
    return Nm<float>(2, 4, n, m, floats(values), std::move(codes));
  };
  EXPECT_NO_THROW(make(2, 4, 4, buffer<std::uint8_t>({0x4, 0xe})));
  EXPECT_REFUSED(make(2, 4, 4, buffer<std::uint8_t>({0x4, 0x5})), format_error, "codes of row 1, group 0 have 1");
  EXPECT_REFUSED(make(2, 3, 8, buffer<std::uint8_t>({0x4, 0xf})), format_error, "codes of row 0, group 1");
  EXPECT_REFUSED(make(2, 4, 5, buffer<std::uint8_t>({0x4, 0xe})), format_error, "values has 5");
  EXPECT_REFUSED(make(2, 4, 4, buffer<std::uint8_t>({0x4})), format_error, "codes has 1 bytes");
  EXPECT_REFUSED(make(3, 2, 4, buffer<std::uint8_t>({0x4})), format_error, "3:2");
  EXPECT_REFUSED(make(1, 33, 4, buffer<std::uint8_t>({0x4})), format_error, "1:33");
  EXPECT_REFUSED(nm_from_csr(csr_from_coo<float>(filled<float>(3, 8, [](Index i, Index) { return i == 1; })), 2, 4),
                 format_error, "row 1 has 4 nonzeros in group 0; expected 2 of 4");
}

TEST(SparseFormats, DistancesReachFar) {
  Csr<double> A = csr_from_coo<double>({.rows = 3,
                                        .cols = 300000,
                                        .row = {0, 0, 0, 0, 2, 2},
                                        .col = {5, 65540, 65541, 299999, 0, 65535},
                                        .value = {1, 2, 3, 4, 5, 6}});
  const auto delta = csr_delta_from_csr(A);
  EXPECT_TRUE(std::ranges::equal(delta.row_ptr(), std::vector<std::int32_t>{0, 3, 3, 4}));
  EXPECT_TRUE(std::ranges::equal(delta.base(), std::vector<std::int32_t>{5, 65541, 299999, 0}));
  expect_same(delta.to_csr(), A);
  Eigen::VectorXd x = Eigen::VectorXd::LinSpaced(300000, 1, 300000);
  const Eigen::VectorXd y = delta * x;
  EXPECT_EQ(y[0], 6 + 2 * 65541.0 + 3 * 65542.0 + 4 * 300000.0);
  EXPECT_EQ(y[1], 0);
  EXPECT_EQ(y[2], 5 + 6 * 65536.0);
}

TEST(SparseFormats, LongRowsOfDistancesAreSummedFromMemoryAndFromCaches) {
  constexpr Index rows = 9, cols = 200000;
  Coo<float> entries;
  entries.rows = rows;
  entries.cols = cols;
  for (Index i = 0; i < rows; ++i)
    for (Index j = i * 7; j < cols; j += 61 + 1000 * i * (j % 3)) {  // units of 1075 to a few entries
      entries.row.push_back(static_cast<std::int32_t>(i));
      entries.col.push_back(static_cast<std::int32_t>(j));
      entries.value.push_back(static_cast<float>(j % 17) - 7.5f);
    }
  const auto A = csr_delta_from_csr(csr_from_coo<float>(entries));
  const Buffer<float> x = random_buffer<float>(cols, 3);
  for (const auto& kernel : CsrDeltaKernels::entries<CsrDeltaArgs<float>>())
    for (const Index above : {Index{0}, Index{1} << 40}) {
      if (!active_isa().has(kernel.isa)) continue;
      SCOPED_TRACE(detail::concat(kernel.name, " gathers above ", above));
      Context ctx;
      ctx.force(std::string(kernel.name));
      Buffer<float> y(rows);
      const CsrDeltaArgs<float> args{{},
                                     A.row_ptr().data(),
                                     A.unit_ptr().data(),
                                     A.base().data(),
                                     A.distances().data(),
                                     A.values().data(),
                                     1,
                                     0,
                                     x.data(),
                                     VectorView<float>(y.data(), rows),
                                     static_cast<Index>(A.values().size()),
                                     above};
      launch(ctx, CsrDeltaKernels::select(ctx, args), args, rows, 4);
      Index e = 0;
      for (Index i = 0; i < rows; ++i) {
        double sum = 0, size = 0;
        for (; e < static_cast<Index>(entries.row.size()) && entries.row[static_cast<std::size_t>(e)] == i; ++e) {
          const double term = static_cast<double>(entries.value[static_cast<std::size_t>(e)]) *
                              static_cast<double>(x[entries.col[static_cast<std::size_t>(e)]]);
          sum += term;
          size += std::abs(term);
        }
        EXPECT_NEAR(static_cast<double>(y[i]), sum, 0x1p-20 * size) << i;
      }
    }
}

TEST(SparseFormats, CorruptDistancesAreRefused) {
  const auto make = [](Counts rows, Counts units, Counts base, std::initializer_list<std::uint16_t> distances,
                       Index values) {
    return CsrDelta<float>(2, 9, std::move(rows), std::move(units), std::move(base), buffer(distances), floats(values));
  };
  EXPECT_NO_THROW(make(counts({0, 2, 3}), counts({0, 2, 3, 4}), counts({1, 4, 8}), {0, 2, 1, 0}, 4));
  EXPECT_REFUSED(make(counts({0, 2}), counts({0, 2, 3, 4}), counts({1, 4, 8}), {0, 2, 1, 0}, 4), format_error,
                 "row_ptr has 2");
  EXPECT_REFUSED(make(counts({0, 4, 3}), counts({0, 2, 3, 4}), counts({1, 4, 8}), {0, 2, 1, 0}, 4), format_error,
                 "row_ptr goes from 0 to 4");
  EXPECT_REFUSED(make(counts({0, 2, 2}), counts({0, 2, 3, 4}), counts({1, 4, 8}), {0, 2, 1, 0}, 4), format_error,
                 "row_ptr ends at 2");
  EXPECT_REFUSED(make(counts({0, 2, 3}), counts({0, 2, 1, 4}), counts({1, 4, 8}), {0, 2, 1, 0}, 4), format_error,
                 "unit_ptr goes from 2 to 1");
  EXPECT_REFUSED(make(counts({0, 2, 3}), counts({1, 2, 3, 4}), counts({1, 4, 8}), {0, 2, 1, 0}, 4), format_error,
                 "unit_ptr[0] is 1");
  EXPECT_REFUSED(make(counts({0, 2, 3}), counts({0, 2, 3, 4}), counts({1, -4, 8}), {0, 2, 1, 0}, 4), format_error,
                 "base[1] is -4");
  EXPECT_REFUSED(make(counts({0, 2, 3}), counts({0, 2, 3, 4}), counts({1, 3, 8}), {0, 2, 0, 0}, 4), format_error,
                 "distances[2] of row 0 leads to column 3");
  EXPECT_REFUSED(make(counts({0, 2, 3}), counts({0, 2, 3, 4}), counts({1, 4, 8}), {0, 2, 1, 1}, 4), format_error,
                 "distances[3] of row 1 leads to column 9");
  EXPECT_REFUSED(make(counts({0, 2, 3}), counts({0, 2, 3, 4}), counts({1, 4, 8}), {0, 2, 1}, 4), format_error,
                 "distances has 3");
}

TEST(SparseFormats, OtherCorruptStructuresAreRefused) {
  EXPECT_REFUSED(Bitmap<float>(2, 3, buffer<std::uint64_t>({5, 8}), floats(3)), format_error, "row 1 has bits beyond");
  EXPECT_REFUSED(Bitmap<float>(2, 3, buffer<std::uint64_t>({5, 1}), floats(4)), format_error, "words has 3 bits");
  EXPECT_REFUSED(Bitmap<float>(2, 3, buffer<std::uint64_t>({5}), floats(2)), format_error, "words has 1 entries");
  EXPECT_REFUSED(Dia<float>(3, 4, buffer<Index>({-3}), floats(3)), format_error, "offsets[0] is -3; expected -2 to 3");
  EXPECT_REFUSED(Dia<float>(3, 4, buffer<Index>({1, 1}), floats(6)), format_error, "offsets goes from 1 to 1");
  EXPECT_REFUSED(Dia<float>(3, 4, buffer<Index>({1, 2}), floats(7)), format_error, "values has 7");
  EXPECT_REFUSED(dia_from_csr(csr_from_coo<float>(
                     filled<float>(3000, 3000, [](Index i, Index j) { return j == 0 || (i == 7 && j % 3 == 0); }))),
                 format_error, "diagonals");
  EXPECT_REFUSED(Hypersparse<float>(9, buffer<Index>({2, 2}), Csr<float>(2, 5)), format_error, "goes from 2 to 2");
  EXPECT_REFUSED(Hypersparse<float>(9, buffer<Index>({2, 9}), Csr<float>(2, 5)), format_error, "row_idx[1] is 9");
  EXPECT_REFUSED(Hypersparse<float>(9, buffer<Index>({2}), Csr<float>(2, 5)), format_error, "row_idx has 1 entries");
  EXPECT_REFUSED(Csc<float>(2, 2, counts({0, 1, 1}), counts({2}), floats(1)), format_error, "row_idx[0] of column 0");
  EXPECT_REFUSED(TiledCsl<float>(3, 70, buffer<Index>({0, 1}), {}, floats(0)), format_error, "tile_ptr has 2");
  const auto tiles = [](std::initializer_list<Index> ptr, std::initializer_list<std::uint16_t> places) {
    return TiledCsl<float>(3, 70, buffer(ptr), buffer(places), floats(2));
  };
  EXPECT_NO_THROW(tiles({0, 1, 2}, {63, 133}));
  EXPECT_REFUSED(tiles({0, 1, 2}, {63, 134}), format_error, "places[1] of tile 1 is 134");
  EXPECT_REFUSED(tiles({0, 2, 2}, {63, 63}), format_error, "places[1] of tile 0 is 63");
  EXPECT_REFUSED(tiles({0, 2, 2}, {63, 200}), format_error, "places[1] of tile 0 is 200");
  EXPECT_REFUSED(tiles({0, 3, 2}, {63, 64}), format_error, "tile_ptr falls at tile 1");
}

// Every kernel of blocks, tiles, slices and N:M groups against the dense product.
template <class S>
MatrixView<S> placed(Buffer<S>& memory, Index rows, Index cols, bool by_rows, std::uint64_t seed) {
  memory = random_buffer<S>((rows + 1) * (cols + 1) + 3, seed);
  return by_rows ? MatrixView<S>(memory.data() + 1, {rows, cols}, {cols + 1, 1})
                 : MatrixView<S>(memory.data() + 1, {rows, cols}, {1, rows + 1});
}

template <class Kernels, class Args, class A, class T>
void check(const A& a, const Csr<T>& csr, std::initializer_list<Index> columns = {1, 4, 8, 19, 33}) {
  using S = accum_t<T>;
  Buffer<T> dense = to_dense(to_coo(csr));
  int turn = 0;
  for (const auto& kernel : Kernels::template entries<Args>()) {
    if (!active_isa().has(kernel.isa)) continue;
    Context ctx;
    ctx.force(std::string(kernel.name));
    for (const Index n : columns)
      for (const bool by_rows : {true, false}) {
        SCOPED_TRACE(detail::concat(kernel.name, ' ', describe(a), " n ", n, " by rows ", int(by_rows)));
        const S alpha = turn % 2 == 0 ? S(1) : S(-3), beta = static_cast<S>(turn % 3);
        ++turn;
        Buffer<S> mx, my;
        const auto X = placed(mx, a.cols(), n, by_rows, 1);
        const auto Y = placed(my, a.rows(), n, by_rows != (turn % 4 == 0), 2);
        const Buffer<S> before = my;
        const MatrixView<const S> old(before.data() + 1, Y.extents(), Y.strides());
        if (beta == S(0))
          for (Index i = 0; i < Y.rows(); ++i)
            for (Index j = 0; j < n; ++j) Y(i, j) = std::numeric_limits<S>::quiet_NaN();
        try {
          a.apply(ctx, Op::none, alpha, MatrixView<const S>(X), beta, Y);
        } catch (const unsupported_error&) {
          ASSERT_FALSE(kernel.name.ends_with(":ref"));
          continue;
        }
        expect_product(alpha, MatrixView<const T>(dense.data(), a.rows(), a.cols()), MatrixView<const S>(X), beta, old,
                       MatrixView<const S>(Y));
        for (Index i = 0; i < Y.rows(); ++i)
          for (Index j = 0; j < n; ++j) Y(i, j) = old(i, j);
        for (Index i = 0; i < my.size(); ++i) ASSERT_EQ(my[i], before[i]) << "outside of Y";
      }
  }
}

template <class T>
void check_all() {
  for (const double density : {0.2, 1.0})
    for (const auto& [rows, cols] : {std::pair<Index, Index>{1, 3}, {37, 70}, {66, 65}}) {
      const auto A = csr_from_coo<T>(scattered<T>(rows, cols, density));
      for (const auto& [r, c] : {std::pair<Index, Index>{4, 1}, {16, 1}, {7, 2}})
        check<BsrKernels, BsrArgs<T>>(bsr_from_csr(A, r, c), A);
      check<CslKernels, CslArgs<T>>(tiled_csl_from_csr(A), A);
      check<CsrDeltaKernels, CsrDeltaArgs<T>>(csr_delta_from_csr(A), A);
      check<BandedKernels, BandedArgs<T>>(dia_from_csr(A), A);
      check<BitmapKernels, BitmapArgs<T>>(bitmap_from_csr(A), A);
      if constexpr (std::floating_point<T>)
        for (const Index slice : {8, 32, 5}) check<SellKernels, SellArgs<T>>(sell_from_csr(A, slice, 64), A);
      if (density == 1.0 || rows != 37) continue;
      const auto wide = csr_from_coo<T, std::int64_t>(to_coo(A));
      check<BsrKernels, BsrArgs<T, std::int64_t>>(bsr_from_csr(wide, 7, 2), A);
      check<SellKernels, SellArgs<T, std::int64_t>>(sell_from_csr(wide, 32, 64), A);
    }
}

TEST(SparseKernels, AllAgree) {
  check_all<float>();
  check_all<double>();
}

// Several panels of X at once, the last of each width; tiles that are nearly empty, nearly full and between.
TEST(SparseKernels, ManyColumnsAgree) {
  for (const double density : {0.02, 0.3, 0.9}) {
    const auto A = csr_from_coo<float>(scattered<float>(70, 131, density));
    check<CslKernels, CslArgs<float>>(tiled_csl_from_csr(A), A, {16, 40, 100});
    for (const Index r : {1, 4, 6}) check<BsrKernels, BsrArgs<float>>(bsr_from_csr(A, r, 1), A, {24, 50, 65, 130, 512});
  }
}

// bf16 on tiles of AMX: one or both halves of a tile's rows and columns, of panels the last of each width.
TEST(SparseKernels, HalvesAgree) {
  const AmxEmulation amx;
  for (const auto& [rows, cols, density] :
       {std::tuple<Index, Index, double>{70, 131, 0.02}, {70, 131, 0.3}, {30, 20, 0.9}, {64, 98, 0.6}, {1, 64, 1.0}}) {
    const auto A = csr_from_coo<bf16>(scattered<bf16>(rows, cols, density));
    check<CslKernels, CslArgs<bf16>>(tiled_csl_from_csr(A), A, {1, 17, 32, 41, 64});
  }
  const auto A = csr_from_coo<bf16>(scattered<bf16>(66, 70, 0.4));
  check<CslKernels, CslArgs<bf16>>(tiled_csl_from_csr(A), A, {300});  // tiles are spread twice

  if (!active_isa().has(Isa::amx_bf16)) return;
  const auto chosen = []<class T>(CslArgs<T> args, Index n) {
    args.Y = {nullptr, 70, n};
    return std::string(CslKernels::select(Context(), args).name);
  };
  EXPECT_EQ(chosen(CslArgs<bf16>(), 32), "csl:amx_bf16");
  EXPECT_EQ(chosen(CslArgs<bf16>(), 31), "csl:avx512");
  EXPECT_EQ(chosen(CslArgs<float>(), 32), "csl:avx512");
  for (const Index entries : {63, 64}) {
    const Index tile_ptr[] = {0, entries};
    CslArgs<bf16> args;
    args.rows = args.cols = 64;
    args.tile_ptr = tile_ptr;
    EXPECT_EQ(chosen(args, 32), entries == 64 ? "csl:amx_bf16" : "csl:avx512");
  }
}

// Numbers that do not split, and products that would be flushed or overflow.
TEST(SparseKernels, HalvesOfAnyMagnitudeAgree) {
  const AmxEmulation amx;
  if (!active_isa().has(Isa::amx_bf16)) GTEST_SKIP() << "needs amx_bf16";
  const Index m = 66, k = 70, n = 66;
  const auto list = filled<bf16>(m, k, [](Index i, Index j) { return (i + 2 * j) % 3 != 0; });
  for (const int a : {0, -130, -126, -90, -60, 60, 120})
    for (const int x : {0, -149, -130, -103, -60, 30, 110, 120}) {
      SCOPED_TRACE(detail::concat("2^", a, " times 2^", x));
      auto A = csr_from_coo<bf16>(list);
      for (bf16& value : A.values()) value = bf16(std::ldexp(static_cast<float>(value) / 64, a));
      auto values = random_buffer<float>(k * n, 5);
      for (float& value : values) value = std::ldexp(value, x);
      const MatrixView<const float> X(values.data(), k, n);
      Buffer<float> y(m * n);
      Context ctx;
      ctx.force("csl:amx_bf16");
      tiled_csl_from_csr(A).apply(ctx, Op::none, 1, X, 0, MatrixView<float>(y.data(), m, n));
      const auto dense = to_dense(to_coo(A));
      const double unit = gamma<float>(static_cast<double>(k) + 3);
      for (Index i = 0; i < m; ++i)
        for (Index j = 0; j < n; ++j) {
          double sum = 0, size = 0;
          for (Index t = 0; t < k; ++t) {
            const double term = static_cast<double>(dense[i * k + t]) * static_cast<double>(X(t, j));
            sum += term;
            size += std::abs(term);
          }
          const auto got = static_cast<double>(y[i * n + j]);
          if (size < 0x1p127)
            ASSERT_NEAR(got, sum, unit * size + static_cast<double>(k) * 0x1p-149) << i << ' ' << j;
          else
            ASSERT_TRUE(std::abs(got - sum) <= unit * size || !std::isfinite(y[i * n + j])) << i << ' ' << j;
        }
    }
  // Twice this is the largest number; its first part is 2^127, of which two are too much.
  const float large = 0x1.fffffep126f;
  const Index tile = 64;
  auto A = csr_from_coo<bf16>(filled<bf16>(tile, tile, [](Index i, Index j) { return j == i || j == (i + 1) % tile; }));
  std::fill(A.values().begin(), A.values().end(), bf16(1.0f));
  Buffer<float> x(tile * n), y(m * n);
  std::fill(x.begin(), x.end(), large);
  Context ctx;
  ctx.force("csl:amx_bf16");
  tiled_csl_from_csr(A).apply(ctx, Op::none, 1, MatrixView<const float>(x.data(), tile, n), 0,
                              MatrixView<float>(y.data(), tile, n));
  for (Index i = 0; i < tile * n; ++i) ASSERT_EQ(y[i], 2 * large);

  // A row whose sum is subnormal has nothing in the next tile.
  auto B = csr_from_coo<bf16>(filled<bf16>(m, 100, [](Index i, Index j) { return j < 64 || i > 0; }));
  std::fill(B.values().begin(), B.values().end(), bf16(0x1p-70f));
  Buffer<float> z(100 * n);
  for (Index j = 0; j < 100; ++j) std::fill_n(z.data() + j * n, n, j < 64 ? 0x1p-70f : 1.0f);
  tiled_csl_from_csr(B).apply(ctx, Op::none, 1, MatrixView<const float>(z.data(), 100, n), 0,
                              MatrixView<float>(y.data(), m, n));
  for (Index i = 0; i < m; ++i)
    for (Index j = 0; j < n; ++j) ASSERT_EQ(y[i * n + j], i == 0 ? 0x1p-134f : 36 * 0x1p-70f) << i << ' ' << j;
}

TEST(SparseKernels, HalvesKeepInfinitiesApart) {
  const AmxEmulation amx;
  if (!active_isa().has(Isa::amx_bf16)) GTEST_SKIP() << "needs amx_bf16";
  const Index m = 66, k = 130, n = 70;
  constexpr float infinity = std::numeric_limits<float>::infinity();
  auto A = csr_from_coo<bf16>(filled<bf16>(m, k, [](Index i, Index j) { return (i + j) % 5 != 0; }));
  std::fill(A.values().begin(), A.values().end(), bf16(1.0f));
  Buffer<float> x(k * n), y(m * n);
  std::fill(x.begin(), x.end(), 1.0f);
  x[7 * n + 3] = infinity;
  x[69 * n + 40] = -infinity;
  x[129 * n + 69] = std::numeric_limits<float>::quiet_NaN();
  Context ctx;
  ctx.force("csl:amx_bf16");
  const auto product = [&] {
    tiled_csl_from_csr(A).apply(ctx, Op::none, 1, MatrixView<const float>(x.data(), k, n), 0,
                                MatrixView<float>(y.data(), m, n));
  };
  product();
  for (Index i = 0; i < m; ++i)
    for (Index j = 0; j < n; ++j) {
      const Index at = j == 3 ? 7 : j == 40 ? 69 : j == 69 ? 129 : -1;
      if (at < 0 || (i + at) % 5 == 0) {
        ASSERT_EQ(y[i * n + j], 104.0f) << i << ' ' << j;  // as if the absent entry were not there
      } else if (j == 69) {
        ASSERT_TRUE(std::isnan(y[i * n + j]));
      } else {
        ASSERT_EQ(y[i * n + j], j == 3 ? infinity : -infinity);
      }
    }
  std::fill(x.begin(), x.end(), 0x1p-20f);  // whose other parts are zero
  A.values()[0] = bf16(infinity);           // in row 0
  product();
  for (Index i = 0; i < m; ++i)
    for (Index j = 0; j < n; ++j) ASSERT_EQ(y[i * n + j], i == 0 ? infinity : 104.0f * 0x1p-20f);
}

TEST(SparseKernels, ThreadsChangeNoBitOfHalves) {
  const AmxEmulation amx;
  if (!active_isa().has(Isa::amx_bf16)) GTEST_SKIP() << "needs amx_bf16";
  const Index m = 300, k = 100, n = 50;
  const auto A = tiled_csl_from_csr(csr_from_coo<bf16>(scattered<bf16>(m, k, 0.2)));
  const auto x = random_buffer<float>(k * n, 3);
  Buffer<float> y[2] = {random_buffer<float>(m * n, 4), random_buffer<float>(m * n, 4)};
  for (const Index threads : {1, 3}) {
    Context ctx = Context::with_threads(threads);
    ctx.force("csl:amx_bf16");
    A.apply(ctx, Op::none, 2, MatrixView<const float>(x.data(), k, n), 3,
            MatrixView<float>(y[threads == 1 ? 0 : 1].data(), m, n));
  }
  EXPECT_TRUE(std::equal(y[0].begin(), y[0].end(), y[1].begin()));
}

TEST(SparseKernels, AbsentEntriesMeetNoInfinity) {
  auto A = csr_from_coo<float>(filled<float>(66, 70, [](Index i, Index j) { return (i + j) % 5 != 0; }));
  std::fill(A.values().begin(), A.values().end(), 1.0f);
  const auto expect_few = [](const auto& a) {
    for (const Index n : {1, 2, 4, 20}) {
      Context ctx;
      Buffer<float> x(70 * n), y(66 * n);
      std::fill(x.begin(), x.end(), 1.0f);
      for (const Index k : {7, 69}) x[k * n + n - 1] = std::numeric_limits<float>::infinity();
      a.apply(ctx, Op::none, 1, MatrixView<const float>(x.data(), 70, n), 0, MatrixView<float>(y.data(), 66, n));
      for (Index i = 0; i < 66; ++i)
        for (Index j = 0; j < n; ++j)
          ASSERT_EQ(y[i * n + j], j < n - 1 || ((i + 7) % 5 == 0 && (i + 69) % 5 == 0) ? 56.0f : x[7 * n + n - 1])
              << describe(a) << ' ' << i << ' ' << j;
    }
  };
  expect_few(tiled_csl_from_csr(A));
  expect_few(bitmap_from_csr(A));
}

TEST(SparseKernels, GroupsAgree) {
  for (const Index m : {2, 4, 8, 5})
    for (const Index cols : {1, 15, 16, 100, 253}) {
      const Index n = m / 2;
      const auto A = csr_from_coo<float>(filled<float>(21, cols, [&](Index i, Index j) {  // n of each m, some of fewer
        const Index g = j / m, p = j % m;
        return (p + g + i) % m < n && (i + j) % 11 != 0;
      }));
      check<NmKernels, NmArgs<float>>(nm_from_csr(A, n, m), A, {1, 2, 3, 4, 8});
    }
  for (const auto& [n, m] : {std::pair<Index, Index>{1, 4}, {2, 8}, {1, 16}, {3, 29}, {5, 32}}) {
    const auto A = csr_from_coo<float>(
        filled<float>(9, 777, [n = n, m = m](Index i, Index j) { return (j % m + j / m * 7 + i) % m < n; }));
    check<NmKernels, NmArgs<float>>(nm_from_csr(A, n, m), A, {1, 3});
  }
}

}  // namespace
}  // namespace tessera::test
