#include <tessera/io/safetensors.hpp>

#include <cmath>

#include "io_test.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

std::string file_of(std::string_view json, std::string_view data) {
  std::string text;
  for (int i = 0; i < 8; ++i) text += static_cast<char>(json.size() >> (8 * i));
  return text + std::string(json) + std::string(data);
}
Safetensors read(const std::string& text) { return read_safetensors(test::keep(text, "a.safetensors")); }
Safetensors read(std::string_view json, std::string_view data) { return read(file_of(json, data)); }

TEST(Safetensors, WhatIsWrittenIsReadBack) {
  Buffer<float> weight(6);
  Buffer<bf16> bias(3);
  Buffer<double> scale(1);
  Buffer<fp8_e4m3> small(5);
  const std::uint8_t bytes[] = {1, 2, 3};
  for (Index i = 0; i < 6; ++i) weight[i] = static_cast<float>(i) / 3;
  weight[5] = std::nanf("7");
  for (Index i = 0; i < 3; ++i) bias[i] = bf16(static_cast<float>(i));
  for (Index i = 0; i < 5; ++i) small[i] = fp8_e4m3(static_cast<float>(i));
  scale[0] = 0.1;
  const std::vector<Tensor> tensors{
      as_tensor("bytes", VectorView<const std::uint8_t>(bytes, 3)),
      as_tensor("layers.0.weight", MatrixView<float>(weight.data(), 2, 3)),
      as_tensor("bias", VectorView<bf16>(bias.data(), 3)),
      as_tensor("small", VectorView<fp8_e4m3>(small.data(), 5)),
      as_tensor("scale \"\xc3\xa9\"\n", VectorView<double>(scale.data(), 1)),
      as_tensor("none", MatrixView<float>(nullptr, 0, 7)),
  };
  const Metadata metadata{{"format", "pt"}, {"a \"quoted\"\tkey", "\\"}, {"empty", ""}};
  const test::ScratchDirectory scratch;
  write_safetensors(scratch / "a", tensors, metadata);
  EXPECT_EQ(scratch.files(), 1u);

  const Safetensors file = read_safetensors(scratch / "a");
  EXPECT_EQ(file.metadata(), metadata);
  ASSERT_EQ(file.tensors().size(), tensors.size());
  for (const Tensor& tensor : tensors) {
    const Tensor& again = file[tensor.name];
    EXPECT_EQ(again.dtype, tensor.dtype);
    EXPECT_EQ(again.shape, tensor.shape);
    EXPECT_TRUE(std::equal(again.data.begin(), again.data.end(), tensor.data.begin(), tensor.data.end()));
    EXPECT_NE(again.owner, nullptr);
  }
  // Written by falling element size after a padded header, so all are viewed in place.
  EXPECT_EQ((file["layers.0.weight"].view<float, 2>()(1, 1)), 4.0f / 3);
  EXPECT_EQ((file["scale \"\xc3\xa9\"\n"].view<double, 1>()[0]), 0.1);
  EXPECT_EQ(float(file["bias"].view<bf16, 1>()[2]), 2.0f);
  EXPECT_EQ(file["bias"].read<float>()[1], 1.0f);
  EXPECT_EQ(file["small"].read<double>()[4], 4.0);
  EXPECT_EQ(file.find("absent"), nullptr);
  EXPECT_REFUSED(file["absent"], format_error, "no tensor \"absent\" among its 6");

  MemoryFile once, twice;
  write_safetensors(once, tensors, metadata);
  write_safetensors(twice, file.tensors(), metadata);
  EXPECT_EQ(once.bytes, twice.bytes);
}

TEST(Safetensors, ViewsOutliveTheReader) {
  const test::ScratchDirectory scratch;
  const float value = 3;
  write_safetensors(scratch / "a", std::vector<Tensor>{as_tensor("x", VectorView<const float>(&value, 1))});
  const Tensor kept = read_safetensors(scratch / "a")["x"];
  EXPECT_EQ((kept.view<float, 1>()[0]), 3.0f);
}

TEST(Safetensors, AnUnpaddedHeaderIsReadByCopying) {
  const auto json = R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  for (const char* padding : {"", " ", "  ", "   "}) {
    const std::string text = file_of(std::string(json) + padding, std::string_view("\0\0\x80\x3f", 4));
    EXPECT_EQ(read(text)["x"].read<float>()[0], 1.0f);
  }
}

TEST(Safetensors, KeysInAnyOrderAndTensorsInAnyOrder) {
  const auto file = read(R"({"b":{"shape":[2],"data_offsets":[1,3],"dtype":"U8"},"__metadata__":{},)"
                         R"("a":{"data_offsets":[0,1],"dtype":"BOOL","shape":[]}})",
                         "\1xy");
  EXPECT_EQ(file.tensors()[0].name, "a");
  EXPECT_EQ(file["a"].read<bool>()[0], true);
  EXPECT_EQ(file["b"].read<int>()[1], 'y');
}

TEST(Safetensors, TypesWithoutACppTypeGiveTheirBytes) {
  const auto file = read(R"({"x":{"dtype":"F4","shape":[3,2],"data_offsets":[0,3]}})", "abc");
  EXPECT_EQ(file["x"].data.size(), 3u);
  EXPECT_REFUSED(file["x"].read<float>(), unsupported_error, "F4");
}

TEST(Safetensors, HostileHeadersAreRefused) {
  const auto refuse = [](std::string_view json, std::string_view data, std::string_view part) {
    EXPECT_REFUSED(read(json, data), format_error, part);
    EXPECT_REFUSED(read(json, data), format_error, "a.safetensors at byte");
  };
  EXPECT_REFUSED(read(""), format_error, "the header's length");
  EXPECT_REFUSED(read(std::string(8, '\xff')), format_error, "18446744073709551615 bytes; the file has 0");
  refuse("", "", "begin with '{'");
  refuse(" {}", "", "begin with '{'");
  refuse("[]", "", "begin with '{'");
  refuse("{", "", "not JSON");
  refuse("{}}", "", "not JSON");
  refuse(std::string_view("{}\0", 3), "", "zero byte");
  refuse("{\"\xff\":1}", "", "not JSON");
  refuse("{}", "x", "1 bytes before the file does");
  refuse(R"({"x":1})", "", "expected an object");
  refuse(R"({"x":null})", "", "expected an object");
  refuse(R"({"x":[]})", "", "an array; expected an object");
  refuse(R"({"x":{}})", "", "lacks dtype");
  refuse(R"({"__metadata__":{"a":1}})", "", "1; expected a string");
  refuse(R"({"__metadata__":{"a":{}}})", "", "an object; expected a string");
  refuse(R"({"__metadata__":{"a":"","a":""}})", "", "\"a\" appears twice");
  refuse(R"({"__metadata__":{},"__metadata__":{}})", "", "appears twice");
  const auto tensor = [](std::string_view dtype, std::string_view shape, std::string_view offsets) {
    return detail::concat(R"({"x":{"dtype":)", dtype, R"(,"shape":)", shape, R"(,"data_offsets":)", offsets, "}}");
  };
  EXPECT_EQ(read(tensor("\"U8\"", "[1]", "[0,1]"), "a").tensors().size(), 1u);
  refuse(tensor("\"F33\"", "[1]", "[0,4]"), "abcd", "unknown dtype \"F33\"");
  refuse(tensor("1", "[1]", "[0,4]"), "abcd", "expected the name of a type");
  refuse(tensor("[]", "[1]", "[0,4]"), "abcd", "expected the name of a type");
  refuse(tensor("\"U8\"", "1", "[0,1]"), "a", "expected an array of whole numbers");
  refuse(tensor("\"U8\"", "[-1]", "[0,1]"), "a", "-1; expected whole numbers from 0");
  refuse(tensor("\"U8\"", "[1.0]", "[0,1]"), "a", "\"1.0\"; expected whole numbers");
  refuse(tensor("\"U8\"", "[1e3]", "[0,1]"), "a", "expected whole numbers");
  refuse(tensor("\"U8\"", "[99999999999999999999]", "[0,1]"), "a", "expected whole numbers");
  refuse(tensor("\"U8\"", "[9223372036854775808]", "[0,1]"), "a", "too large");
  refuse(tensor("\"U8\"", "[[1]]", "[0,1]"), "a", "an array; expected whole numbers");
  refuse(tensor("\"U8\"", "[1]", "[-1,0]"), "a", "-1; expected two whole numbers");
  refuse(tensor("\"U8\"", "[1]", "[0]"), "a", "1 numbers; expected 2");
  refuse(tensor("\"U8\"", "[1]", "[0,1,1]"), "a", "expected two whole numbers");
  refuse(tensor("\"U8\"", "[1]", "[0,2]"), "a", "not a part of the file's 1 bytes");
  refuse(tensor("\"U8\"", "[1]", "[0,18446744073709551615]"), "a", "not a part");
  refuse(tensor("\"U8\"", "[2]", "[0,1]"), "a", "does not take the 1 bytes");
  refuse(tensor("\"F32\"", "[1]", "[0,1]"), "a", "does not take the 1 bytes");
  refuse(tensor("\"F4\"", "[3]", "[0,1]"), "a", "does not take the 1 bytes");
  refuse(tensor("\"F64\"", "[4294967296,4294967296]", "[0,0]"), "", "does not take");
  refuse(tensor("\"F64\"", "[2305843009213693952]", "[0,0]"), "", "does not take");
  refuse(tensor("\"F64\"", "[0,4294967296,4294967296]", "[0,0]"), "", "does not take");
  refuse(tensor("\"U8\"", "[1]", "[1,2]"), "ab", "expected to begin at 0");
  refuse(R"({"x":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "a", "\"dtype\" appears twice");
  refuse(R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"more":1}})", "a", "key \"more\"");
  const std::string u8 = R"({"dtype":"U8","shape":[1],"data_offsets":)";
  refuse("{\"x\":" + u8 + "[0,1]},\"x\":" + u8 + "[1,2]}}", "ab", "\"x\" appears twice");
  refuse("{\"x\":" + u8 + "[0,1]},\"y\":" + u8 + "[0,1]}}", "a", "expected to begin at 1");
  refuse("{\"x\":" + u8 + "[0,1]},\"y\":" + u8 + "[2,3]}}", "abc", "expected to begin at 1");
}

TEST(Safetensors, DepthDoesNotReachTheStack) {
  for (const char* open : {"[", "{\"x\":"}) {
    std::string json = "{\"x\":";
    for (int i = 0; i < 2000000; ++i) json += open;
    EXPECT_REFUSED(read(json, ""), format_error, "expected");
  }
}

TEST(Safetensors, WhatCannotBeWrittenIsRefused) {
  MemoryFile out;
  const float x[4] = {};
  const Tensor good = as_tensor("x", MatrixView<const float>(x, 2, 2));
  EXPECT_REFUSED(as_tensor("x", MatrixView<const float>(x, 2, 2).transposed()), shape_error, "not contiguous");
  EXPECT_REFUSED(write_safetensors(out, std::vector{good, good}), format_error, "\"x\" appears twice");
  Tensor bad = good;
  bad.name = "__metadata__";
  EXPECT_REFUSED(write_safetensors(out, std::vector{bad}), format_error, "reserved");
  bad = good;
  bad.name = "\xff";
  EXPECT_REFUSED(write_safetensors(out, std::vector{bad}), format_error, "UTF-8");
  bad = good;
  bad.shape = {3};
  EXPECT_REFUSED(write_safetensors(out, std::vector{bad}), shape_error, "16 bytes for F32 of shape (3)");
  bad = good;
  bad.column_major = true;
  EXPECT_REFUSED(write_safetensors(out, std::vector{bad}), unsupported_error, "row-major");
  EXPECT_REFUSED(write_safetensors(out, std::vector{good}, {{"a", "\xff"}}), format_error, "UTF-8");
  EXPECT_TRUE(out.bytes.empty());
}

TEST(Safetensors, RealData) {
  TESSERA_DATA_OR_SKIP(path, "mnist14x14.safetensors");
  const Safetensors file = read_safetensors(path);
  ASSERT_EQ(file.tensors().size(), 4u);
  EXPECT_EQ(file["Xtrain"].shape, (std::vector<Index>{6000, 196}));
  EXPECT_EQ(file["Ytest"].dtype, DType::uint8);
  const auto labels = file["Ytest"].view<std::uint8_t, 2>();
  for (Index i = 0; i < labels.rows(); ++i) {
    int sum = 0;
    for (Index j = 0; j < labels.cols(); ++j) sum += labels(i, j);
    ASSERT_EQ(sum, 1) << "a digit is one of ten";
  }
  MemoryFile written;
  write_safetensors(written, file.tensors(), file.metadata());
  const auto again = read_safetensors(ByteSource::memory(written.bytes));
  for (const Tensor& tensor : file.tensors())
    EXPECT_TRUE(std::equal(tensor.data.begin(), tensor.data.end(), again[tensor.name].data.begin(),
                           again[tensor.name].data.end()));
}

}  // namespace
}  // namespace tessera
