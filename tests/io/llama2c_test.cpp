#include <tessera/io/llama2c.hpp>

#include <tessera/core/rng.hpp>

#include "io_test.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

constexpr Llama2cConfig small{.dim = 8,
                              .hidden_dim = 6,
                              .layers = 2,
                              .heads = 4,
                              .kv_heads = 2,
                              .vocab_size = 5,
                              .seq_len = 3,
                              .shared_classifier = true};

/// Weights of their own memory, drawn at random.
struct OwnedWeights {
  explicit OwnedWeights(const Llama2cConfig& config) {
    detail::for_each_llama2c_weight(
        config, views, [&]<std::size_t Rank>(auto& view, const std::array<Index, Rank>& extents) {
          const Index size = detail::checked_size(extents);
          memory.emplace_back(size, uninitialized);
          const Philox draws(1, memory.size());
          for (Index i = 0; i < size; ++i)
            memory.back()[i] = static_cast<float>(draws.normal(static_cast<std::uint64_t>(i)));
          view = View<const float, static_cast<int>(Rank)>(memory.back().data(), extents);
        });
  }
  std::vector<Buffer<float>> memory;
  Llama2cWeights views;
};

template <class View>
void expect_same(const View& a, const View& b) {
  ASSERT_EQ(a.extents(), b.extents());
  ASSERT_TRUE(a.contiguous() && b.contiguous());
  EXPECT_TRUE(std::equal(a.data(), a.data() + a.size(), b.data()));
}

std::string header_of(std::array<std::int32_t, 7> header) {
  return {reinterpret_cast<const char*>(header.data()), sizeof header};
}
Llama2c read(const std::string& text) { return read_llama2c(test::keep(text, "a.bin")); }

TEST(Llama2c, WhatIsWrittenIsReadBack) {
  for (const bool shared : {true, false}) {
    Llama2cConfig config = small;
    config.shared_classifier = shared;
    const OwnedWeights weights(config);
    const test::ScratchDirectory scratch;
    write_llama2c(scratch / "a.bin", config, weights.views);
    const Llama2c model = read_llama2c(scratch / "a.bin");
    EXPECT_EQ(model.config, config);
    EXPECT_EQ(model.config.kv_dim(), 4);
    expect_same(model.weights.token_embedding, weights.views.token_embedding);
    expect_same(model.weights.wk, weights.views.wk);
    expect_same(model.weights.w2, weights.views.w2);
    expect_same(model.weights.rms_final, weights.views.rms_final);
    expect_same(model.weights.freq_cis_imag, weights.views.freq_cis_imag);
    expect_same(model.weights.classifier, shared ? weights.views.token_embedding : weights.views.classifier);
    MemoryFile again;
    write_llama2c(again, model.config, model.weights);
    EXPECT_EQ(again.text(), test::slurp(scratch / "a.bin"));
  }
}

TEST(Llama2c, StridedWeightsAndComputedRotations) {
  OwnedWeights weights(small);
  MemoryFile plain;
  write_llama2c(plain, small, weights.views);
  // The same w1, held transposed a layer.
  Buffer<float> held(weights.views.w1.size());
  View<float, 3> w1(held.data(), {2, 6, 8}, {48, 1, 6});
  for (Index l = 0; l < 2; ++l)
    for (Index i = 0; i < 6; ++i)
      for (Index j = 0; j < 8; ++j) w1(l, i, j) = weights.views.w1(l, i, j);
  weights.views.w1 = w1;
  MemoryFile strided;
  write_llama2c(strided, small, weights.views);
  EXPECT_EQ(strided.bytes, plain.bytes);

  weights.views.freq_cis_real = weights.views.freq_cis_imag = {};
  MemoryFile computed;
  write_llama2c(computed, small, weights.views);
  const auto model = read_llama2c(ByteSource::memory(computed.bytes));
  EXPECT_EQ(model.weights.freq_cis_real(0, 0), 1.0f);
  EXPECT_EQ(model.weights.freq_cis_real(2, 0), std::cos(2.0f));
  EXPECT_EQ(model.weights.freq_cis_imag(2, 0), static_cast<float>(std::sin(2.0)));
}

TEST(Llama2c, BytesOutOfLineAreCopied) {
  const OwnedWeights weights(small);
  MemoryFile file;
  write_llama2c(file, small, weights.views);
  std::vector<std::byte> shifted(file.bytes.size() + 1);
  std::copy(file.bytes.begin(), file.bytes.end(), shifted.begin() + 1);
  const auto model = read_llama2c(ByteSource::memory(std::span(shifted).subspan(1)));
  EXPECT_NE(model.owner, nullptr);
  expect_same(model.weights.w3, weights.views.w3);
}

TEST(Llama2c, SenselessHeadersAreRefused) {
  EXPECT_REFUSED(read(""), format_error, "a.bin at byte 0: expected seven int32");
  EXPECT_REFUSED(read(std::string(27, '\1')), format_error, "a.bin at byte 24");
  const auto refuse = [](std::array<std::int32_t, 7> header, std::string_view part) {
    EXPECT_REFUSED(read(header_of(header)), format_error, part);
  };
  refuse({0, 1, 1, 1, 1, 1, 1}, "dim 0");
  refuse({-8, 1, 1, 1, 1, 1, 1}, "dim -8");
  refuse({8, 1, 1, 0, 1, 1, 1}, "heads 0");
  refuse({8, 1, 1, 1, 0, 1, 1}, "kv_heads 0");
  refuse({8, 1, 1, 3, 1, 1, 1}, "8 over 3 heads");
  refuse({8, 1, 1, 8, 1, 1, 1}, "even number of channels");
  refuse({8, 1, 1, 4, 3, 1, 1}, "4 heads over 3 KV heads");
  refuse({8, 1, 1, 4, 8, 1, 1}, "4 heads over 8 KV heads");
  refuse({8, 1, 1, 4, 4, 0, 1}, "vocab_size 0");
  refuse({8, 1, 1, 4, 4, std::numeric_limits<std::int32_t>::min(), 1}, "vocab_size 2147483648");
  constexpr std::int32_t most = std::numeric_limits<std::int32_t>::max();
  refuse({most - 1, most, most, 1, 1, most, most}, "more than memory can hold");
  refuse({8, 6, 2, 4, 2, 5, 3}, "0 bytes of weights; expected");
}

TEST(Llama2c, AnyOtherSizeIsRefused) {
  const OwnedWeights weights(small);
  MemoryFile file;
  write_llama2c(file, small, weights.views);
  const std::string text(file.text());
  EXPECT_REFUSED(read(text + "x"), format_error, "bytes of weights; expected");
  EXPECT_REFUSED(read(text.substr(0, text.size() - 1)), format_error, "bytes of weights; expected");
}

TEST(Llama2c, WeightsOfAnotherShapeAreNotWritten) {
  OwnedWeights weights(small);
  Llama2cConfig other = small;
  other.hidden_dim = 7;
  MemoryFile out;
  EXPECT_REFUSED(write_llama2c(out, other, weights.views), shape_error,
                 "weight 7 in the file's order has shape (2, 6, 8); the config needs (2, 7, 8)");
  other = small;
  other.heads = 3;
  EXPECT_REFUSED(write_llama2c(out, other, weights.views), format_error, "8 over 3 heads");
  EXPECT_TRUE(out.bytes.empty());
}

TEST(Llama2c, RealCheckpoint) {
  TESSERA_DATA_OR_SKIP(path, "stories260K.bin");
  const Llama2c model = read_llama2c(path);
  EXPECT_EQ(model.config, (Llama2cConfig{.dim = 64,
                                         .hidden_dim = 172,
                                         .layers = 5,
                                         .heads = 8,
                                         .kv_heads = 4,
                                         .vocab_size = 512,
                                         .seq_len = 512,
                                         .shared_classifier = true}));
  EXPECT_EQ(model.weights.wk.extents(), (std::array<Index, 3>{5, 32, 64}));
  EXPECT_EQ(model.weights.classifier.data(), model.weights.token_embedding.data());
  // The unused rotations are where they should be: cosines and sines of the position.
  EXPECT_EQ(model.weights.freq_cis_real(0, 3), 1.0f);
  EXPECT_NEAR(model.weights.freq_cis_real(7, 0), std::cos(7.0), 1e-6);
  EXPECT_NEAR(model.weights.freq_cis_imag(7, 1), std::sin(7.0 * std::pow(10000.0, -0.25)), 1e-6);
  const test::ScratchDirectory scratch;
  write_llama2c(scratch / "copy.bin", model.config, model.weights);
  EXPECT_EQ(test::slurp(scratch / "copy.bin"), test::slurp(path));
}

}  // namespace
}  // namespace tessera
