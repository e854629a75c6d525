// No file cut short is taken for a whole one, and none does anything but be refused.
#include <algorithm>
#include <complex>
#include <functional>
#include <tessera/io/gguf.hpp>
#include <tessera/io/llama2c.hpp>
#include <tessera/io/matrix_market.hpp>
#include <tessera/io/npy.hpp>
#include <tessera/io/safetensors.hpp>
#include <tessera/io/tokenizer.hpp>

#include "io_test.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

using Reader = std::function<void(const ByteSource&)>;

bool refused(const Reader& read, std::string_view text) {
  try {
    read(ByteSource::memory(text, "cut"));
    return false;
  } catch (const format_error&) {
    return true;
  }
}

/// Every step-th truncation below `least` bytes is refused; those from there on may be lawful shorter files.
void expect_cuts_refused(const Reader& read, std::string_view text, std::size_t least, std::size_t step = 97) {
  ASSERT_FALSE(refused(read, text));
  for (std::size_t size = 0; size < text.size(); size += step)
    if (!refused(read, text.substr(0, size))) {
      ASSERT_GE(size, least) << "taken for a whole file when cut to this size";
    }
}
void expect_cuts_refused(const Reader& read, std::string_view text) { expect_cuts_refused(read, text, text.size()); }

/// Where the last word of a text begins. A text cut inside it ("3.45" to "3.4") or after it is lawful.
std::size_t last_word(std::string_view text) {
  const std::size_t end = text.find_last_not_of(" \t\r\n");
  return text.find_last_of(" \t\r\n", end) + 2;
}

const Reader safetensors = [](const ByteSource& source) { read_safetensors(source); };
const Reader gguf = [](const ByteSource& source) { read_gguf(source); };
const Reader npy = [](const ByteSource& source) { read_npy(source); };
const Reader llama2c = [](const ByteSource& source) { read_llama2c(source); };
const Reader matrix_market = [](const ByteSource& source) { read_matrix_market<std::complex<double>>(source); };

void expect_matrix_market_cuts_refused(const std::string& name, std::size_t step = 97) {
  TESSERA_DATA_OR_SKIP(path, name);
  const std::string text = test::slurp(path);
  expect_cuts_refused(matrix_market, text, last_word(text), step);
}

TEST(Truncation, Safetensors) {
  TESSERA_DATA_OR_SKIP(path, "mnist14x14.safetensors");
  expect_cuts_refused(safetensors, test::slurp(path));
}

TEST(Truncation, SafetensorsAtEveryByte) {
  const float x[6] = {};
  MemoryFile file;
  write_safetensors(
      file,
      std::vector{as_tensor("x", MatrixView<const float>(x, 2, 3)), as_tensor("y", VectorView<const float>(x, 1))},
      {{"key", "value"}});
  expect_cuts_refused(safetensors, file.text(), file.bytes.size(), 1);
}

TEST(Truncation, Gguf) {
  TESSERA_DATA_OR_SKIP(path, "golden.gguf");
  const std::string text = test::slurp(path);
  expect_cuts_refused(gguf, text, text.size() - 31);  // the last tensor's padding may be missing
}

TEST(Truncation, GgufAtEveryByte) {
  const float x[8] = {};
  const std::uint8_t codes[18] = {};
  GgufMetadata metadata;
  metadata.set("text", std::string("value"));
  metadata.set("array", GgufArray{std::vector<std::string>{"a", "b"}});
  std::vector<GgufTensor> tensors{as_gguf_tensor("x", MatrixView<const float>(x, 2, 4)),
                                  as_gguf_tensor("y", VectorView<const float>(x, 8))};
  tensors.push_back({.name = "q", .type = GgufType::q4_0, .shape = {32}, .data = std::as_bytes(std::span(codes))});
  MemoryFile file;
  write_gguf(file, tensors, metadata);
  expect_cuts_refused(gguf, file.text(), file.bytes.size() - 14, 1);
}

TEST(Truncation, Npy) {
  TESSERA_DATA_OR_SKIP(path, "il2_response.npy");
  expect_cuts_refused(npy, test::slurp(path));
}

TEST(Truncation, NpyAtEveryByte) {
  const std::int16_t x[6] = {};
  MemoryFile file;
  write_npy(file, MatrixView<const std::int16_t>(x, 2, 3));
  expect_cuts_refused(npy, file.text(), file.bytes.size(), 1);
}

TEST(Truncation, Llama2c) {
  TESSERA_DATA_OR_SKIP(path, "stories260K.bin");
  expect_cuts_refused(llama2c, test::slurp(path));
}

TEST(Truncation, Tokenizer) {
  TESSERA_DATA_OR_SKIP(path, "tok512.bin");
  const std::string text = test::slurp(path);
  // With the vocabulary's size known no cut is lawful, without it one between two tokens after the bytes may be.
  expect_cuts_refused([](const ByteSource& source) { read_tokenizer(source, 512); }, text, text.size(), 1);
  std::size_t bytes_end = 4;
  const auto tokens = read_tokenizer(path);
  for (Token t = 0; t < Tokenizer::first_byte + 256; ++t) bytes_end += 8 + tokens.piece(t).size();
  std::size_t lawful = 0;
  for (std::size_t size = 0; size < text.size(); ++size)
    if (!refused([](const ByteSource& source) { read_tokenizer(source); }, std::string_view(text).substr(0, size))) {
      EXPECT_GE(size, bytes_end);
      ++lawful;
    }
  EXPECT_LE(lawful, 512u - 259u);
}

TEST(Truncation, MatrixMarket) {
  for (const char* name : {"karate", "west0067", "jagmesh7", "olm1000", "1138_bus"})
    expect_matrix_market_cuts_refused(detail::concat("matrix_market/", name, ".mtx"));
}

TEST(Truncation, MatrixMarketTypedAtEveryByte) {
  for (const char* name : {"matrix_bool", "matrix_fp32", "matrix_fp64", "matrix_int16", "matrix_int32", "matrix_int64",
                           "matrix_int8", "skew_fp64", "complex", "full", "full_symmetric"})
    expect_matrix_market_cuts_refused(detail::concat("matrix_market/typed/", name, ".mtx"), 1);
}

TEST(TruncationSlow, MatrixMarket) {
  for (const char* name : {"matrix_market/bcsstk13.mtx", "matrix_market/cryg2500.mtx", "sparse_dnn/n1024-l1.mtx",
                           "sparse_dnn/images-1200x1024.mtx"})
    expect_matrix_market_cuts_refused(name);
}

}  // namespace
}  // namespace tessera
