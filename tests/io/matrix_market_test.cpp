#include <tessera/io/matrix_market.hpp>

#include <cmath>
#include <complex>
#include <limits>
#include <map>

#include "io_test.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

using Complex = std::complex<double>;

ByteSource source(std::string_view text) { return ByteSource::memory(text, "a.mtx"); }
template <class T>
Coo<T> read(std::string_view text, MatrixMarketOptions options = {}) {
  return read_matrix_market<T>(source(text), options);
}
template <class T>
void expect_dense(const Coo<T>& matrix, std::initializer_list<T> values) {
  const auto dense = to_dense(matrix);
  ASSERT_EQ(dense.size(), static_cast<Index>(values.size()));
  Index i = 0;
  for (const T& value : values) {
    EXPECT_EQ(dense[i], value) << "at " << i;
    ++i;
  }
}

TEST(MatrixMarket, Coordinates) {
  const auto m = read<double>(
      "%%MatrixMarket matrix coordinate real general\n% c\n\n2 3 3\n2 3 -1.5e1\n\n1 1 .5\n% c\n 1\t2   +3 \n");
  EXPECT_EQ(m.rows, 2);
  EXPECT_EQ(m.cols, 3);
  EXPECT_EQ(m.row, (std::vector<Index>{1, 0, 0}));
  EXPECT_EQ(m.col, (std::vector<Index>{2, 0, 1}));
  expect_dense(m, {0.5, 3.0, 0.0, 0.0, 0.0, -15.0});
}

TEST(MatrixMarket, BannerInAnyCaseAndLinesEndedByReturns) {
  const auto m = read<int>("%%matrixMARKET Matrix COORDINATE Pattern Symmetric\r\n\r\n2 2 1\r\n2 1\r\n");
  EXPECT_EQ(m.symmetry, Symmetry::symmetric);
  expect_dense(m, {0, 1, 1, 0});
  EXPECT_EQ(read<float>("%%MatrixMarket matrix coordinate double general\n1 1 1\n1 1 2").value[0], 2.0f);
}

TEST(MatrixMarket, EverySymmetryExpands) {
  const std::string_view lines = "3 3 2\n2 1 4 5\n3 2 6 7\n";
  const auto text = [&](std::string_view symmetry) {
    return detail::concat("%%MatrixMarket matrix coordinate complex ", symmetry, "\n", lines);
  };
  const Complex x(4, 5), y(6, 7), zero(0);
  const std::map<std::string_view, std::pair<Complex, Complex>> upper{{"general", {zero, zero}},
                                                                      {"symmetric", {x, y}},
                                                                      {"skew-symmetric", {-x, -y}},
                                                                      {"hermitian", {std::conj(x), std::conj(y)}}};
  for (const auto& [symmetry, implied] : upper) {
    const auto stored = read<Complex>(text(symmetry));
    const auto expanded = read<Complex>(text(symmetry), {.expand = true});
    EXPECT_EQ(stored.entries(), 2);
    EXPECT_EQ(expanded.entries(), symmetry == "general" ? 2 : 4);
    EXPECT_EQ(expanded.symmetry, Symmetry::general);
    expect_dense(stored, {zero, implied.first, zero, x, zero, implied.second, zero, y, zero});
    expect_dense(expanded, {zero, implied.first, zero, x, zero, implied.second, zero, y, zero});
  }
}

TEST(MatrixMarket, ArraysGoByColumns) {
  const auto general =
      read_matrix_market_array<double>(source("%%MatrixMarket matrix array integer general\n2 3\n1\n2\n3\n4\n5\n6\n"));
  EXPECT_EQ(general.view()(0, 2), 5.0);
  EXPECT_EQ(general.view()(1, 0), 2.0);
  const auto symmetric =
      read_matrix_market_array<float>(source("%%MatrixMarket matrix array real symmetric\n3 3\n1\n2\n3\n4\n5\n6\n"));
  const float expected[] = {1, 2, 3, 2, 4, 5, 3, 5, 6};
  EXPECT_TRUE(std::equal(symmetric.values.begin(), symmetric.values.end(), expected));
  const auto skew =
      read_matrix_market_array<int>(source("%%MatrixMarket matrix array integer skew-symmetric\n3 3\n1\n2\n3\n"));
  const int expected_skew[] = {0, -1, -2, 1, 0, -3, 2, 3, 0};
  EXPECT_TRUE(std::equal(skew.values.begin(), skew.values.end(), expected_skew));
  const auto hermitian =
      read_matrix_market_array<Complex>(source("%%MatrixMarket matrix array complex hermitian\n2 2\n1 0\n2 3\n4 0\n"));
  EXPECT_EQ(hermitian.view()(0, 1), Complex(2, -3));
  // As a list, an array's entries are all there, zeros too.
  EXPECT_EQ(read<int>("%%MatrixMarket matrix array integer skew-symmetric\n3 3\n1\n0\n3\n").entries(), 3);
  EXPECT_REFUSED(read_matrix_market_array<double>(source("%%MatrixMarket matrix coordinate real general\n1 1 0\n")),
                 unsupported_error, "to_dense");
}

TEST(MatrixMarket, EmptyMatrices) {
  EXPECT_EQ(read<double>("%%MatrixMarket matrix coordinate real general\n0 0 0\n").entries(), 0);
  EXPECT_EQ(read<double>("%%MatrixMarket matrix coordinate real general\n5 9223372036854775807 0").cols,
            std::numeric_limits<Index>::max());
  EXPECT_EQ(read_matrix_market_array<double>(source("%%MatrixMarket matrix array real general\n0 7\n")).cols, 7);
  EXPECT_EQ(read<double>("%%MatrixMarket matrix array real skew-symmetric\n1 1\n").entries(), 0);
}

TEST(MatrixMarket, NumbersAsFarAsTheyGo) {
  const auto number = [](std::string_view word) {
    return read<double>(detail::concat("%%MatrixMarket matrix coordinate real general\n1 1 1\n1 1 ", word, "\n"))
        .value[0];
  };
  EXPECT_EQ(number("1.7976931348623157e308"), std::numeric_limits<double>::max());
  EXPECT_EQ(number("4.9406564584124654e-324"), std::numeric_limits<double>::denorm_min());
  EXPECT_EQ(number("1e-400"), 0.0);
  EXPECT_EQ(number("1E-9999"), 0.0);
  EXPECT_TRUE(std::signbit(number("-0")));
  EXPECT_EQ(number("-Inf"), -std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan(number("nan")));
  EXPECT_REFUSED(number("1e309"), format_error, "\"1e309\" does not fit 64 bits");
  EXPECT_REFUSED(number("1e99999"), format_error, "does not fit");
  for (const char* word : {"", "x", "1.0.0", "1d5", "0x10", "1,5", "--1", "+-1", "+", "1e", "e5"})
    EXPECT_REFUSED(number(word), format_error, "a.mtx line 3: expected a number, not");
}

TEST(MatrixMarket, IntegersFitOrAreRefused) {
  const std::string_view text = "%%MatrixMarket matrix coordinate integer general\n1 1 1\n1 1 -129\n";
  EXPECT_EQ(read<std::int16_t>(text).value[0], -129);
  EXPECT_EQ(read<double>(text).value[0], -129.0);
  EXPECT_REFUSED(read<std::int8_t>(text), unsupported_error, "\"-129\" does not fit 8 bits");
  EXPECT_REFUSED(read<int>("%%MatrixMarket matrix coordinate real general\n1 1 1\n1 1 1\n"), unsupported_error,
                 "real values");
  EXPECT_REFUSED(read<double>("%%MatrixMarket matrix coordinate complex general\n1 1 0\n"), unsupported_error,
                 "complex values");
  EXPECT_REFUSED(read<int>("%%MatrixMarket matrix coordinate integer general\n1 1 1\n1 1 1.0\n"), format_error,
                 "a whole number");
  EXPECT_REFUSED(read<double>("%%MatrixMarket matrix coordinate integer general\n1 1 1\n1 1 1.5\n"), format_error,
                 "a whole number");
  const auto skew = read<std::int8_t>("%%MatrixMarket matrix coordinate integer skew-symmetric\n2 2 1\n2 1 -128\n");
  EXPECT_REFUSED(expand(skew), unsupported_error, "-128, whose negative does not fit");
}

TEST(MatrixMarket, WhatTheFormatForbidsIsRefused) {
  const auto refuse = [](std::string_view text, std::string_view part) {
    EXPECT_REFUSED(read<Complex>(text), format_error, part);
    EXPECT_REFUSED(read<Complex>(text), format_error, "a.mtx line ");
  };
  refuse("", "line 1: expected the banner");
  refuse("\n%%MatrixMarket matrix coordinate real general\n1 1 0\n", "line 1: expected the banner");
  refuse("%%MatrixMarket matrix coordinate real\n1 1 0\n", "symmetry \"\"");
  refuse("%%MatrixMarket matrix coordinate real general x\n1 1 0\n", "end of the banner");
  refuse("%%MatrixMarket matrix array pattern general\n1 1\n", "only lawful as coordinates");
  refuse("%%MatrixMarket matrix coordinate pattern skew-symmetric\n1 1 0\n", "cannot be skew-symmetric");
  refuse("%%MatrixMarket matrix coordinate real hermitian\n1 1 0\n", "real matrix cannot be hermitian");
  refuse("%%MatrixMarket matrix coordinate real general\n% c\n", "before its size line");
  const auto general = [&](std::string_view rest, std::string_view part) {
    refuse(detail::concat("%%MatrixMarket matrix coordinate real general\n", rest), part);
  };
  general("1 1\n", "expected entries");
  general("-1 1 0\n", "expected rows");
  general("1.0 1 0\n", "expected rows");
  general("1 1 0 0\n", "end of the size line");
  general("9223372036854775808 1 0\n", "expected rows");
  general("3 3 9223372036854775807\n1 1 1\n", "promises 9223372036854775807 entries; 1 lines follow");
  general("1 1 1\n", "0 lines follow");
  general("2 2 2\n1 1\n2 2\n", "hold at most 1");
  general("2 2 2\n1 1 1.00000000\n\n", "ends after 1 of the 2 entries");
  general("2 2 1\n1 1 1\n2 2 2\n", "line 4: more lines of data than the 1");
  general("2 2 1\n1 1 1 1\n", "expected the end of the line, not \"1\"");
  general("2 2 1\n0 1 1\n", "a row of 1 to 2, not \"0\"");
  general("2 2 1\n1 3 1\n", "a column of 1 to 2, not \"3\"");
  general("2 2 1\n1.0 1 1\n", "a row of 1 to 2");
  general("2 2 3\n1 2 1\n2 1 1\n1 2 1\n", "line 5: (1, 2) is already on line 3");
  refuse("%%MatrixMarket matrix coordinate real symmetric\n2 3 0\n", "2x3; expected a square");
  refuse("%%MatrixMarket matrix coordinate real symmetric\n2 2 1\n1 2 1\n", "above the diagonal");
  refuse("%%MatrixMarket matrix coordinate real skew-symmetric\n2 2 1\n1 1 1\n", "on the diagonal");
  refuse("%%MatrixMarket matrix coordinate complex hermitian\n2 2 1\n1 1 1 1\n",
         "diagonal of a hermitian matrix is real");
  refuse("%%MatrixMarket matrix array real general\n4294967296 4294967296\n1\n", "more elements than can be counted");
  refuse("%%MatrixMarket matrix array real symmetric\n9223372036854775807 9223372036854775807\n1\n", "can be counted");
  refuse("%%MatrixMarket matrix array real general\n2 2\n1\n2\n3\n", "promises 4 entries; 3 lines follow");
  refuse("%%MatrixMarket matrix array real general\n1 1\n1\n2\n", "more lines of data");
  EXPECT_REFUSED(read<double>("%%MatrixMarket vector coordinate real general\n1 0\n"), unsupported_error, "vectors");
}

TEST(MatrixMarket, RepeatsAddUpOnRequest) {
  const auto m =
      read<int>("%%MatrixMarket matrix coordinate integer general\n2 2 3\n1 2 1\n2 1 5\n1 2 3\n", {.repeats = true});
  expect_dense(m, {0, 4, 5, 0});
}

TEST(MatrixMarket, TheDenseSizeIsChecked) {
  const auto m = read<double>("%%MatrixMarket matrix coordinate real general\n4294967296 4294967296 0\n");
  EXPECT_REFUSED(to_dense(m), shape_error, "4294967296x4294967296");
}

template <class T>
class MatrixMarketTypes : public testing::Test {};
using Types = testing::Types<float, double, std::int8_t, std::int32_t, std::int64_t, std::complex<float>, Complex>;
TYPED_TEST_SUITE(MatrixMarketTypes, Types);

TYPED_TEST(MatrixMarketTypes, WhatIsWrittenIsReadBack) {
  using T = TypeParam;
  const test::ScratchDirectory scratch;
  Coo<T> m{.rows = 3, .cols = 3, .row = {2, 1, 2}, .col = {0, 0, 1}, .value = {T(1), T(-7), T(0)}};
  if constexpr (!std::integral<T>) m.value[2] = T(1) / T(3);
  for (const Symmetry symmetry :
       {Symmetry::general, Symmetry::symmetric, Symmetry::skew_symmetric, Symmetry::hermitian}) {
    constexpr bool complex = !std::integral<T> && !std::floating_point<T>;
    if (symmetry == Symmetry::hermitian && !complex) continue;
    m.symmetry = symmetry;
    write_matrix_market(scratch / "m.mtx", m, {.comment = "two lines\nof comment"});
    const auto again = read_matrix_market<T>(scratch / "m.mtx");
    EXPECT_EQ(again.row, m.row);
    EXPECT_EQ(again.col, m.col);
    EXPECT_EQ(again.value, m.value);
    EXPECT_EQ(again.symmetry, symmetry);
  }
  m.symmetry = Symmetry::symmetric;
  write_matrix_market(scratch / "p.mtx", m, {.pattern = true});
  const auto pattern = read_matrix_market<T>(scratch / "p.mtx");
  EXPECT_EQ(pattern.col, m.col);
  EXPECT_EQ(pattern.value, std::vector<T>(3, T(1)));
  EXPECT_EQ(read_matrix_market_header(scratch / "p.mtx").field, MatrixMarketField::pattern);

  Buffer<T> dense = to_dense(m);
  const MatrixView<T> view(dense.data(), 3, 3);
  write_matrix_market(scratch / "a.mtx", view.slice(0, 0, 2).transposed());
  const auto array = read_matrix_market_array<T>(scratch / "a.mtx");
  ASSERT_EQ(array.rows, 3);
  for (Index i = 0; i < 3; ++i)
    for (Index j = 0; j < 2; ++j) EXPECT_EQ(array.view()(i, j), view(j, i));
}

TEST(MatrixMarket, ExtremesReadBackTheSame) {
  MemoryFile file;
  const Coo<double> m{.rows = 1,
                      .cols = 4,
                      .row = {0, 0, 0, 0},
                      .col = {0, 1, 2, 3},
                      .value = {-std::numeric_limits<double>::infinity(), std::nan(""), 5e-324, 0.1}};
  write_matrix_market(file, m);
  const auto again = read<double>(file.text());
  EXPECT_EQ(again.value[0], m.value[0]);
  EXPECT_TRUE(std::isnan(again.value[1]));
  EXPECT_EQ(again.value[2], m.value[2]);
  EXPECT_EQ(again.value[3], m.value[3]);
}

TEST(MatrixMarket, WhatCannotBeWrittenIsRefused) {
  MemoryFile out;
  Coo<double> m{.rows = 2, .cols = 2, .row = {0}, .col = {1}, .value = {1.0}};
  m.symmetry = Symmetry::symmetric;
  EXPECT_REFUSED(write_matrix_market(out, m), shape_error, "below its diagonal");
  m.symmetry = Symmetry::general;
  m.col[0] = 2;
  EXPECT_REFUSED(write_matrix_market(out, m), shape_error, "entry 0 at (0, 2) of a 2x2");
  m.col.clear();
  EXPECT_REFUSED(write_matrix_market(out, m), shape_error, "1 rows, 0 columns, 1 values");
  EXPECT_TRUE(out.bytes.empty());
}

TEST(MatrixMarket, RealMatrices) {
  struct Known {
    const char* name;
    Index n, entries;
    Symmetry symmetry;
  };
  for (const auto& known :
       {Known{"karate", 34, 78, Symmetry::symmetric}, Known{"west0067", 67, 294, Symmetry::general},
        Known{"jagmesh7", 1138, 4294, Symmetry::symmetric}, Known{"olm1000", 1000, 3996, Symmetry::general},
        Known{"cryg2500", 2500, 12349, Symmetry::general}, Known{"bcsstk13", 2003, 42943, Symmetry::symmetric},
        Known{"1138_bus", 1138, 2596, Symmetry::symmetric}}) {
    TESSERA_DATA_OR_SKIP(path, detail::concat("matrix_market/", known.name, ".mtx"));
    const auto m = read_matrix_market<double>(path);
    EXPECT_EQ(m.rows, known.n) << known.name;
    EXPECT_EQ(m.cols, known.n) << known.name;
    EXPECT_EQ(m.entries(), known.entries) << known.name;
    EXPECT_EQ(m.symmetry, known.symmetry) << known.name;
    MemoryFile file;
    write_matrix_market(file, m);
    EXPECT_EQ(read<double>(file.text()).value, m.value) << known.name;
  }
}

TEST(MatrixMarket, EveryTypedFileIsRead) {
  for (const char* name : {"matrix_bool", "matrix_fp32", "matrix_fp64", "matrix_int16", "matrix_int32", "matrix_int64",
                           "matrix_int8", "skew_fp64", "complex", "full", "full_symmetric"}) {
    TESSERA_DATA_OR_SKIP(path, detail::concat("matrix_market/typed/", name, ".mtx"));
    EXPECT_GT(read_matrix_market<Complex>(path).entries(), 0) << name;
  }
  const auto path = [](const char* name) {
    return test::data_path(detail::concat("matrix_market/typed/", name, ".mtx"));
  };
  EXPECT_EQ(read_matrix_market<std::int8_t>(path("matrix_int8")).value[0], -128);
  EXPECT_EQ(read_matrix_market<std::int64_t>(path("matrix_int64")).value[0], -9223372036854775800);
  EXPECT_EQ(read_matrix_market<std::int64_t>(path("matrix_int64")).value[1], std::numeric_limits<std::int64_t>::max());
  // Its banner says integer, its values are infinite: floating-point types take them, integers cannot.
  EXPECT_EQ(read_matrix_market<float>(path("matrix_fp32")).value[0], -std::numeric_limits<float>::infinity());
  EXPECT_REFUSED(read_matrix_market<int>(path("matrix_fp32")), format_error,
                 "line 7: expected a whole number, not \"-inf\"");
  EXPECT_EQ(read_matrix_market<double>(path("skew_fp64"), {.expand = true}).entries(), 20);
  EXPECT_EQ(read_matrix_market_array<Complex>(path("complex")).view()(1, 0), Complex(.709, .340));
  const auto symmetric = read_matrix_market_array<double>(path("full_symmetric"));
  EXPECT_EQ(symmetric.view()(0, 3), 22.269603729248047);
  EXPECT_EQ(symmetric.view()(3, 0), 22.269603729248047);
}

// All of these are refused by the format's definition. None needs a strict reading except mangled14, which a lenient
// one would add up: the format lists an entry a(i,j) once, and two values for one place name no matrix.
// (`%%GraphBLAS type gunk` in mangled7 is a comment to the format; what is wrong is that its entries have no values.)
TEST(MatrixMarket, EveryMalformedFileIsRefused) {
  const std::map<std::string, std::string> reasons{
      {"mangled1", "line 1: object \"mangled\""},
      {"mangled2", "line 1: format \"mangled\""},
      {"mangled3", "line 1: field \"mangled\""},
      {"mangled4", "line 1: symmetry \"mangled\""},
      {"mangled5", "line 1: a pattern matrix cannot be hermitian"},
      {"mangled7", "line 4: the size line promises 3 entries; the 12 bytes that follow hold at most 2"},
      {"mangled8", "line 4: expected columns, a number from 0, not the end of the line"},
      {"mangled10", "line 4: the size line promises 3 entries; 2 lines follow"},
      {"mangled11", "line 5: expected a column of 1 to 4, not \"zero\""},
      {"mangled12", "line 5: expected a number, not the end of the line"},
      {"mangled13", "line 7: expected a column of 1 to 4, not \"9999\""},
      {"mangled14", "line 8: (2, 2) is already on line 7"},
  };
  TESSERA_DATA_OR_SKIP(directory, "matrix_market/malformed");
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    const auto reason = reasons.find(entry.path().stem().string());
    ASSERT_NE(reason, reasons.end()) << entry.path();
    EXPECT_REFUSED(read_matrix_market<Complex>(entry.path().string()), format_error, reason->second);
    EXPECT_REFUSED(read_matrix_market<double>(entry.path().string()), format_error, entry.path().string());
  }
}

}  // namespace
}  // namespace tessera
