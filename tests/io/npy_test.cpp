#include <tessera/io/npy.hpp>

#include <complex>
#include <cstring>
#include <limits>

#include "io_test.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

std::string file_of(int major, std::string_view header, std::string_view data) {
  std::string text(detail::npy_magic);
  text += static_cast<char>(major);
  text += '\0';
  for (int i = 0; i < (major == 1 ? 2 : 4); ++i) text += static_cast<char>(header.size() >> (8 * i));
  return text + std::string(header) + std::string(data);
}
std::string header_of(std::string_view descr, std::string_view order, std::string_view shape) {
  return detail::concat("{'descr': '", descr, "', 'fortran_order': ", order, ", 'shape': ", shape, ", }\n");
}
template <class T>
std::string raw(std::initializer_list<T> values) {
  return {reinterpret_cast<const char*>(std::data(values)), values.size() * sizeof(T)};
}
Tensor read(const std::string& text) { return read_npy(test::keep(text, "a.npy")); }

template <class T>
class NpyTypes : public testing::Test {};
using Types =
    testing::Types<double, float, f16, std::int64_t, std::int32_t, std::int16_t, std::int8_t, std::uint64_t,
                   std::uint32_t, std::uint16_t, std::uint8_t, bool, std::complex<float>, std::complex<double>>;
TYPED_TEST_SUITE(NpyTypes, Types);

TYPED_TEST(NpyTypes, WhatIsWrittenIsReadBack) {
  using T = TypeParam;
  Buffer<T> values(24);
  for (Index i = 0; i < 24; ++i) values[i] = static_cast<T>(static_cast<float>(i % 7));
  const auto check = [&]<int Rank>(View<const T, Rank> array) {
    MemoryFile written;
    write_npy(written, array);
    const std::string text(written.text());
    const Tensor again = read(text);
    EXPECT_EQ(again.dtype, dtype_of<T>);
    ASSERT_EQ(again.rank(), Rank);
    EXPECT_EQ((text.size() - again.data.size()) % 64, 0u);
    const auto copy = again.read<T>();
    ASSERT_EQ(copy.size(), array.size());
    MemoryFile twice;
    std::array<Index, Rank> extents;
    std::copy(again.shape.begin(), again.shape.end(), extents.begin());
    EXPECT_EQ(extents, array.extents());
    write_npy(twice, View<const T, Rank>(copy.data(), extents));
    EXPECT_EQ(twice.bytes, written.bytes);
  };
  check(VectorView<const T>(values.data(), 24));
  check(MatrixView<const T>(values.data(), 4, 6));
  check(MatrixView<const T>(values.data(), 4, 6).transposed());
  check(View<const T, 4>(values.data(), {2, 1, 3, 4}));
  check(VectorView<const T>(values.data() + 23, {12}, {-2}));
  check(MatrixView<const T>(values.data(), 0, 5));
}

TEST(Npy, ViewsInPlace) {
  const std::string text = file_of(1, header_of("<i4", "False", "(2, 3)"), raw<std::int32_t>({1, 2, 3, 4, 5, 6}));
  alignas(16) char aligned[256];
  const std::size_t header = text.size() - 24;
  char* at = aligned + (16 - header % 16);
  std::memcpy(at, text.data(), text.size());
  const Tensor array = read_npy(ByteSource::memory(std::string_view(at, text.size()), "a.npy"));
  const auto view = array.view<std::int32_t, 2>();
  EXPECT_EQ(static_cast<const void*>(view.data()), at + header);
  EXPECT_EQ(view(1, 0), 4);
  EXPECT_REFUSED((array.view<float, 2>()), unsupported_error, "another type");
  EXPECT_REFUSED((array.view<std::int32_t, 1>()), unsupported_error, "another rank");

  std::memmove(at + 1, at, text.size());
  const Tensor shifted = read_npy(ByteSource::memory(std::string_view(at + 1, text.size()), "a.npy"));
  EXPECT_REFUSED((shifted.view<std::int32_t, 2>()), unsupported_error, "not aligned");
  EXPECT_EQ(shifted.read<std::int32_t>()[5], 6);
}

TEST(Npy, FortranOrder) {
  const std::string text = file_of(2, header_of("<i2", "True", "(2, 3)"), raw<std::int16_t>({1, 4, 2, 5, 3, 6}));
  const Tensor array = read(text);
  const auto copy = array.read<int>();
  for (Index i = 0; i < 6; ++i) EXPECT_EQ(copy[i], i + 1);
  if (array.reject_view<std::int16_t, 2>() == nullptr) {
    EXPECT_EQ((array.view<std::int16_t, 2>()(1, 2)), 6);
  }
  const auto cube = read(file_of(1, header_of("|u1", "True", "(2, 3, 2)"), "agciekbhdjfl")).read<std::uint8_t>();
  EXPECT_EQ(std::string(cube.begin(), cube.end()), "abcdefghijkl");
}

TEST(Npy, BigEndianIsSwapped) {
  const Tensor array = read(file_of(3, header_of(">u2", "False", "(2,)"), std::string_view("\x01\x02\x03\x04", 4)));
  const auto copy = array.read<std::uint16_t>();
  EXPECT_EQ(copy[0], 0x0102);
  EXPECT_EQ(copy[1], 0x0304);
  EXPECT_REFUSED((array.view<std::uint16_t, 1>()), unsupported_error, "big-endian");
  const Tensor complex =
      read(file_of(1, header_of(">c8", "False", "(1,)"), std::string_view("\x3f\x80\0\0\x40\0\0\0", 8)));
  EXPECT_EQ(complex.read<std::complex<float>>()[0], std::complex<float>(1, 2));
}

TEST(Npy, HeadersAsPythonWritesThem) {
  EXPECT_EQ(read(file_of(1, "{'descr': '|b1', 'fortran_order': False, 'shape': ()}", "\1")).read<bool>()[0], true);
  EXPECT_EQ(read(file_of(1, "{\"shape\":(2L,),\"fortran_order\":True,\"descr\":\"|i1\"}   \n", "ab")).size(), 2);
  EXPECT_EQ(read(file_of(1, header_of("=f8", "False", "(0, 3)"), "")).read<double>().size(), 0);
  EXPECT_EQ(read(file_of(2, header_of("<f4", "False", "(1,1,1,1,1,1)"), "abcd")).rank(), 6);
}

TEST(Npy, ConversionsOnReading) {
  const Tensor ints = read(file_of(1, header_of("<i4", "False", "(2,)"), raw<std::int32_t>({-1, 300})));
  EXPECT_EQ(ints.read<double>()[1], 300.0);
  EXPECT_EQ(float(ints.read<bf16>()[0]), -1.0f);
  EXPECT_EQ(ints.read<std::int64_t>()[0], -1);
  EXPECT_EQ(ints.read<std::complex<double>>()[1], std::complex<double>(300));
  EXPECT_REFUSED(ints.read<std::int8_t>(), unsupported_error, "element 1 does not fit I8");
  EXPECT_REFUSED(ints.read<std::uint64_t>(), unsupported_error, "element 0 does not fit U64");
  const Tensor reals = read(file_of(1, header_of("<f8", "False", "(1,)"), raw<double>({1.5})));
  EXPECT_EQ(reals.read<float>()[0], 1.5f);
  EXPECT_REFUSED(reals.read<int>(), unsupported_error, "F64, which does not convert to I32");
  const Tensor complex = read(file_of(1, header_of("<c16", "False", "(1,)"), raw<double>({1, 2})));
  EXPECT_REFUSED(complex.read<double>(), unsupported_error, "C128");
}

TEST(Npy, WhatIsNoArrayIsRefused) {
  const auto refuse = [](std::string_view header, std::string_view data, std::string_view part) {
    EXPECT_REFUSED(read(file_of(1, header, data)), format_error, part);
  };
  EXPECT_REFUSED(read(""), format_error, "a.npy at byte 0");
  EXPECT_REFUSED(read("\x93NUMPX\x01"), format_error, "magic");
  EXPECT_REFUSED(read(file_of(4, header_of("<f4", "False", "(1,)"), "abcd")), format_error, "version 4.0");
  EXPECT_REFUSED(read(std::string(detail::npy_magic) + std::string("\1\0\xff\xff{}", 6)), format_error, "65535 bytes");
  refuse("", "", "expected '{'");
  refuse("{}", "", "lacks");
  refuse("{'descr': '<f4', 'shape': (1,)}", "abcd", "lacks");
  refuse("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", "abcd", "twice");
  refuse("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 1}", "abcd", "key \"x\"");
  refuse("{'descr': '<f4', 'fortran_order': 0, 'shape': (1,)}", "abcd", "True or False");
  refuse("{'descr': '<f4', 'fortran_order': False, 'shape': (1)}", "abcd", "(n,)");
  refuse("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", "abcd", "extent");
  refuse("{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775808,)}", "abcd", "extent");
  refuse("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x", "abcd", "padding");
  refuse("{'descr': '<f4", "", "does not end");
  refuse(header_of("f4", "False", "(1,)"), "abcd", "byte order");
  refuse(header_of("|f4", "False", "(1,)"), "abcd", "no byte order");
  refuse(header_of("<f4", "False", "(2,)"), "abcd", "needs 8");
  refuse(header_of("<f4", "False", "(1,)"), "abcdx", "needs 4");
  refuse(header_of("<f8", "False", "(4294967296, 4294967296)"), "", "more than memory");
  refuse(header_of("<f8", "False", "(0, 4294967296, 4294967296)"), "", "more than memory");
  refuse(header_of("<f8", "False", "(9223372036854775807,)"), "", "more than memory");
}

TEST(Npy, LawfulButNotReadHere) {
  EXPECT_REFUSED(read(file_of(1, header_of("|O", "False", "(1,)"), "x")), unsupported_error, "\"|O\"");
  EXPECT_REFUSED(read(file_of(1, header_of("<U3", "False", "(1,)"), "x")), unsupported_error, "\"<U3\"");
  EXPECT_REFUSED(read(file_of(1, "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", "abcd")),
                 unsupported_error, "structures");
}

TEST(Npy, RealData) {
  TESSERA_DATA_OR_SKIP(path, "il2_response.npy");
  const Tensor array = read_npy(path);
  EXPECT_EQ(array.shape, (std::vector<Index>{13, 4, 12, 8}));
  ASSERT_NE(array.owner, nullptr);
  const auto view = array.view<double, 4>();
  EXPECT_NEAR(view(0, 0, 0, 0), 0.40661, 1e-5);
  const test::ScratchDirectory scratch;
  write_npy(scratch / "copy.npy", view);
  EXPECT_EQ(test::slurp(scratch / "copy.npy"), test::slurp(path));
}

}  // namespace
}  // namespace tessera
