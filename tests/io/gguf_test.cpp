#include <array>
#include <cstring>
#include <limits>
#include <tessera/io/gguf.hpp>
#include <tuple>

#include "io_test.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

/// The bytes of a file by hand.
struct Bytes {
  std::string text;
  template <class T>
  Bytes& put(T value) {
    text.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Bytes& u32(std::uint32_t v) { return put(v); }
  Bytes& u64(std::uint64_t v) { return put(v); }
  Bytes& raw(std::string_view more) {
    text += more;
    return *this;
  }
  Bytes& string(std::string_view s) { return u64(s.size()).raw(s); }
  Bytes& header(std::uint64_t tensors, std::uint64_t pairs) { return raw("GGUF").u32(3).u64(tensors).u64(pairs); }
  Bytes& tensor(std::string_view name, std::initializer_list<std::uint64_t> ne, std::uint32_t type, std::uint64_t at) {
    string(name).u32(static_cast<std::uint32_t>(ne.size()));
    for (const auto n : ne) u64(n);
    return u32(type).u64(at);
  }
  Bytes& pad(std::size_t to = 32) { return raw(std::string((to - text.size() % to) % to, '\0')); }
};

void expect_refused(const Bytes& file, std::string_view part) {
  EXPECT_REFUSED(read_gguf(ByteSource::memory(file.text, "f.gguf")), format_error, part);
  EXPECT_REFUSED(read_gguf(ByteSource::memory(file.text, "f.gguf")), format_error, "f.gguf at byte ");
}

GgufMetadata every_kind() {
  GgufMetadata m;
  m.set("general.architecture", std::string("test"));
  m.set("u8", std::uint8_t{255});
  m.set("i8", std::int8_t{-128});
  m.set("u16", std::uint16_t{65535});
  m.set("i16", std::int16_t{-32768});
  m.set("u32", std::uint32_t{4294967295u});
  m.set("i32", std::numeric_limits<std::int32_t>::min());
  m.set("f32", 1.5f);
  m.set("bool", true);
  m.set("text", std::string("a\0b", 3));
  m.set("u64", std::numeric_limits<std::uint64_t>::max());
  m.set("i64", std::numeric_limits<std::int64_t>::min());
  m.set("f64", 0.1);
  m.set("bools", GgufArray{std::vector<bool>{true, false, true}});
  m.set("strings", GgufArray{std::vector<std::string>{"a", "", "ccc"}});
  m.set("empty", GgufArray{std::vector<std::int16_t>{}});
  m.set("nested", GgufArray{std::vector<GgufArray>{{std::vector<float>{1, 2}},
                                                   {std::vector<GgufArray>{{std::vector<std::uint8_t>{7}}}}}});
  return m;
}

TEST(Gguf, TheReferencesFileReadsBackWholeAndIsWrittenByteForByte) {
  TESSERA_DATA_OR_SKIP(path, "golden.gguf");
  const auto file = read_gguf(path);
  const auto& m = file.metadata();
  EXPECT_EQ(m.get<std::string>("general.architecture"), "golden");
  EXPECT_EQ(m.get<std::uint8_t>("t.u8"), 255);
  EXPECT_EQ(m.get<std::int8_t>("t.i8"), -128);
  EXPECT_EQ(m.get<std::uint16_t>("t.u16"), 65535);
  EXPECT_EQ(m.get<std::int16_t>("t.i16"), -32768);
  EXPECT_EQ(m.get<std::uint32_t>("t.u32"), 4294967295u);
  EXPECT_EQ(m.get<std::int32_t>("t.i32"), std::numeric_limits<std::int32_t>::min());
  EXPECT_EQ(m.get<float>("t.f32"), 1.5f);
  EXPECT_EQ(m.get<std::uint64_t>("t.u64"), std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(m.get<std::int64_t>("t.i64"), -4611686018427387904);
  EXPECT_EQ(m.get<double>("t.f64"), 2.25);
  EXPECT_TRUE(m.get<bool>("t.bool"));
  EXPECT_EQ(m.get<std::string>("t.utf8"), "\xe2\x8a\x97 kron");
  EXPECT_EQ(m.array<std::string>("t.arr_str"), (std::vector<std::string>{"a", "", "ccc"}));
  EXPECT_EQ(m.array<float>("t.arr_f32"), (std::vector<float>{1, 2, 3}));
  EXPECT_EQ(m.array<bool>("t.arr_bool"), (std::vector<bool>{true, false, true}));
  EXPECT_EQ(m.size(), 16u);
  EXPECT_EQ(file["input"].shape, (std::vector<Index>{4, 512}));

  MemoryFile again;
  write_gguf(again, file.tensors(), file.metadata());
  EXPECT_TRUE(again.text() == test::slurp(path));
}

TEST(Gguf, EveryTensorOfTheReferencesFileDecodesToItsValues) {
  TESSERA_DATA_OR_SKIP(path, "golden.gguf");
  const auto file = read_gguf(path);
  int decoded = 0;
  for (const GgufTensor& tensor : file.tensors()) {
    if (!tensor.name.starts_with("q.")) continue;
    const auto expected = file["y." + tensor.name.substr(2)].view<float, 2>();
    const auto values = tensor.read();
    ASSERT_EQ(values.size(), expected.size());
    EXPECT_EQ(0, std::memcmp(values.data(), expected.data(), values.bytes())) << tensor.name;
    ++decoded;
  }
  EXPECT_EQ(decoded, 24);
}

TEST(Gguf, TypesOfActivationsKeepTheirBytes) {
  for (const auto& [type, block, bytes] : {std::tuple{9u, 32u, 36u}, std::tuple{15u, 256u, 292u}}) {
    const auto file = read_gguf(ByteSource::memory(
        Bytes().header(1, 0).tensor("t", {block}, type, 0).pad().raw(std::string(bytes, 'x')).pad().text, "f.gguf"));
    EXPECT_EQ(file["t"].data.size(), bytes);
    EXPECT_REFUSED(file["t"].read(), unsupported_error, "cannot be decoded here");
  }
}

TEST(Gguf, NumbersRoundAsTheReferences) {
  TESSERA_DATA_OR_SKIP(path, "golden.gguf");
  const auto file = read_gguf(path);
  const auto input = file["input"].view<float, 2>();
  const auto halves = file["q.f16"].view<f16, 2>();
  const auto brains = file["q.bf16"].view<bf16, 2>();
  for (Index i = 0; i < 4; ++i)
    for (Index k = 0; k < 512; ++k) {
      EXPECT_EQ(f16(input(i, k)).bits, halves(i, k).bits);
      EXPECT_EQ(bf16(input(i, k)).bits, brains(i, k).bits);
    }
}

TEST(Gguf, WhatIsWrittenReadsBackTheSame) {
  const std::array<float, 6> x{1, -2, 3, 4, 5, std::numeric_limits<float>::infinity()};
  const std::array<std::int8_t, 3> q{1, 2, -128};
  std::array<Q4_K::Block, 2> blocks{};
  blocks[1].d = f16(2.0f);
  const std::vector<GgufTensor> tensors{as_gguf_tensor("x", MatrixView<const float>(x.data(), 2, 3)),
                                        as_gguf_tensor("q", VectorView<const std::int8_t>(q.data(), 3)),
                                        as_gguf_tensor("nothing", MatrixView<const float>(x.data(), 0, 3)),
                                        as_gguf_tensor<Q4_K>("b", 2, 256, blocks)};
  for (const std::uint32_t alignment : {0u, 1u, 8u, 32u, 256u}) {
    GgufMetadata metadata = every_kind();
    if (alignment > 0) metadata.set("general.alignment", alignment);
    const test::ScratchDirectory scratch;
    write_gguf(scratch / "m.gguf", tensors, metadata);
    const auto file = read_gguf(scratch / "m.gguf");
    EXPECT_TRUE(file.metadata() == metadata);
    ASSERT_EQ(file.tensors().size(), tensors.size());
    for (const GgufTensor& tensor : tensors) {
      const GgufTensor& copy = file[tensor.name];
      EXPECT_EQ(copy.shape, tensor.shape);
      EXPECT_EQ(copy.type, tensor.type);
      EXPECT_TRUE(std::equal(copy.data.begin(), copy.data.end(), tensor.data.begin(), tensor.data.end()));
    }
    MemoryFile again;
    write_gguf(again, file.tensors(), file.metadata());
    EXPECT_TRUE(again.text() == test::slurp(scratch / "m.gguf"));
  }
}

TEST(Gguf, MetadataNamesWhatItIsNot) {
  const GgufMetadata m = every_kind();
  EXPECT_EQ(m.integer("u32"), 4294967295);
  EXPECT_EQ(m.integer("i8"), -128);
  EXPECT_EQ(m.number("f32"), 1.5);
  EXPECT_REFUSED(m.integer("u64"), format_error, "of type uint64; expected a whole number");
  EXPECT_REFUSED(m.integer("bool"), format_error, "of type bool; expected a whole number");
  EXPECT_REFUSED(m.number("u8"), format_error, "expected a floating-point number");
  EXPECT_REFUSED(m.get<std::string>("u8"), format_error, "of type uint8; expected string");
  EXPECT_REFUSED(m.array<float>("strings"), format_error, "expected an array of float32");
  EXPECT_REFUSED(m.integer("none"), format_error, "no metadata key \"none\"");
}

TEST(Gguf, HostileFilesAreRefused) {
  expect_refused(Bytes().raw("GGUX").u32(3).u64(0).u64(0), "begin with \"GGUF\"");
  EXPECT_REFUSED(read_gguf(ByteSource::memory(std::string_view("GGUF\2\0\0\0", 8), "f")), unsupported_error,
                 "version 2");
  EXPECT_REFUSED(read_gguf(ByteSource::memory(std::string_view("GGUF\0\0\0\3", 8), "f")), unsupported_error,
                 "(big-endian)");
  expect_refused(Bytes().header(std::uint64_t{1} << 60, 0), "tensors, but the file ends");
  expect_refused(Bytes().header(0, std::uint64_t{1} << 60), "metadata values, but the file ends");
  const std::string key = Bytes().string("key").text;
  const auto value = [&](std::uint32_t type, const Bytes& rest) {
    return Bytes().header(0, 1).raw(key).u32(type).raw(rest.text).raw(std::string(16, '\0'));
  };
  expect_refused(value(13, {}), "metadata type 13; expected 0 to 12");
  expect_refused(value(7, Bytes().raw("\2")), "a boolean of 2");
  expect_refused(value(8, Bytes().u64(1000)), "a string of 1000 bytes");
  expect_refused(value(9, Bytes().u32(77).u64(0)), "array of type 77");
  expect_refused(value(9, Bytes().u32(0).u64(~std::uint64_t{0})), "an array of 18446744073709551615 uint8");
  expect_refused(value(9, Bytes().u32(12).u64(3)), "an array of 3 float64");
  Bytes deep;
  for (int i = 0; i < 100; ++i) deep.u32(9).u64(1);
  expect_refused(value(9, deep), "nested deeper than 32");
  expect_refused(Bytes().header(0, 2).raw(key).u32(0).raw("x").raw(key).u32(0).raw("x").pad(64), "appears twice");
  expect_refused(Bytes().header(0, 1).string("").u32(0).raw("x").pad(64), "a metadata key of 0 bytes");
  for (const std::uint32_t bad : {0u, 3u, 48u})
    expect_refused(Bytes().header(0, 1).string("general.alignment").u32(4).u32(bad), "not a uint32 that is a power");
  expect_refused(Bytes().header(0, 1).string("general.alignment").u32(10).u64(32), "not a uint32 that is a power");

  const std::string data(256, 'x');
  const auto one = [&](std::initializer_list<std::uint64_t> ne, std::uint32_t type, std::uint64_t at) {
    return Bytes().header(1, 0).tensor("t", ne, type, at).pad().raw(data);
  };
  expect_refused(one({64}, 99, 0), "of unknown type 99");
  expect_refused(one({64}, 4, 0), "of unknown type 4");  // taken out of the format
  expect_refused(one({33}, 2, 0), "q4_0 of shape (33); expected rows of whole blocks of 32");
  expect_refused(one({1, 1, 1, 1, 64}, 0, 0), "of 5 extents; expected at most 4");
  expect_refused(one({~std::uint64_t{0}}, 0, 0), "is too large");
  expect_refused(one({std::uint64_t{1} << 40, std::uint64_t{1} << 40}, 0, 0), "a size that can be counted");
  expect_refused(one({std::uint64_t{1} << 61}, 0, 0), "a size that can be counted");
  expect_refused(one({65}, 0, 0), "but the file ends at");
  expect_refused(one({64}, 0, 32), "at offset 32; expected 0");
  expect_refused(one({32}, 0, 0), "bytes before the file does");
  expect_refused(Bytes().header(2, 0).tensor("t", {8}, 0, 0).tensor("t", {8}, 0, 32).pad().raw(data), "appears twice");
  expect_refused(Bytes().header(2, 0).tensor("t", {8}, 0, 0).tensor("u", {8}, 0, 16).pad().raw(data), "expected 32");
  EXPECT_EQ(read_gguf(test::keep(one({64}, 0, 0).text, "f"))["t"].size(), 64);
}

TEST(Gguf, WritersRefuse) {
  const std::array<float, 4> x{};
  const auto t = as_gguf_tensor("t", VectorView<const float>(x.data(), 4));
  MemoryFile out;
  EXPECT_REFUSED(write_gguf(out, std::vector{t, t}), format_error, "appears twice");
  GgufTensor wrong = t;
  wrong.type = GgufType::q4_0;
  EXPECT_REFUSED(write_gguf(out, std::vector{wrong}), shape_error, "16 bytes for q4_0 of shape (4)");
  GgufMetadata m;
  m.set("general.alignment", std::uint32_t{12});
  EXPECT_REFUSED(write_gguf(out, std::vector{t}, m), format_error, "power of two");
  m = {};
  m.set("", 1.0f);
  EXPECT_REFUSED(write_gguf(out, std::vector{t}, m), format_error, "of 0 bytes");
  GgufArray deep;
  for (int i = 0; i < 40; ++i) deep = GgufArray{std::vector<GgufArray>{deep}};
  m = {};
  m.set("deep", deep);
  EXPECT_REFUSED(write_gguf(out, std::vector{t}, m), format_error, "nested deeper");
  EXPECT_REFUSED(as_gguf_tensor("t", VectorView<const float>(x.data(), {2}, {2})), shape_error, "not contiguous");
}

}  // namespace
}  // namespace tessera
