/// llama2.c's first checkpoint format ("version 0", https://github.com/karpathy/llama2.c): seven int32, then the
/// weights in f32 in a fixed order.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <tessera/core/buffer.hpp>
#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/io/atomic_file.hpp>
#include <tessera/io/detail/elements.hpp>
#include <tessera/io/detail/parse.hpp>
#include <tessera/io/mapped_file.hpp>

namespace tessera::inline TESSERA_ABI {

/// The shape of a LLaMA-architecture decoder.
struct Llama2cConfig {
  Index dim = 0, hidden_dim = 0, layers = 0, heads = 0, kv_heads = 0, vocab_size = 0, seq_len = 0;
  bool shared_classifier = true;  // the classifier is the token embedding

  Index head_dim() const { return dim / heads; }
  Index kv_dim() const { return head_dim() * kv_heads; }
  friend bool operator==(const Llama2cConfig&, const Llama2cConfig&) = default;
};

/// The weights, in the file's order; each linear layer's is (out, in) row-major.
struct Llama2cWeights {
  MatrixView<const float> token_embedding;  // (vocab_size, dim)
  MatrixView<const float> rms_attention;    // (layers, dim)
  View<const float, 3> wq;                  // (layers, dim, dim)
  View<const float, 3> wk;                  // (layers, kv_dim, dim)
  View<const float, 3> wv;                  // (layers, kv_dim, dim)
  View<const float, 3> wo;                  // (layers, dim, dim)
  MatrixView<const float> rms_ffn;          // (layers, dim)
  View<const float, 3> w1;                  // (layers, hidden_dim, dim): gate
  View<const float, 3> w2;                  // (layers, dim, hidden_dim): down
  View<const float, 3> w3;                  // (layers, hidden_dim, dim): up
  VectorView<const float> rms_final;        // (dim)
  MatrixView<const float> freq_cis_real;  // (seq_len, head_dim / 2): cosines of the rotary embedding, unused by readers
  MatrixView<const float> freq_cis_imag;  // (seq_len, head_dim / 2)
  MatrixView<const float> classifier;     // (vocab_size, dim); the token embedding when shared
};

/// A checkpoint whose weights lie in its mapped file (kept alive), in borrowed memory, or, where those bytes are not
/// aligned, in a copy.
struct Llama2c {
  Llama2cConfig config;
  Llama2cWeights weights;
  std::shared_ptr<const void> owner;
};

namespace detail {

inline void check_llama2c(const Llama2cConfig& c, std::string_view name) {
  const auto fail = [&](const auto&... pieces) { throw_format_error(name, 0, "llama2.c header: ", pieces...); };
  const auto positive = [&](std::string_view what, Index value) {
    if (value < 1 || value > std::numeric_limits<std::int32_t>::max())
      fail(what, " ", value, "; expected 1 to ", std::numeric_limits<std::int32_t>::max());
  };
  positive("dim", c.dim);
  positive("hidden_dim", c.hidden_dim);
  positive("layers", c.layers);
  positive("heads", c.heads);
  positive("kv_heads", c.kv_heads);
  positive("vocab_size", c.vocab_size);
  positive("seq_len", c.seq_len);
  if (c.dim % c.heads != 0 || c.head_dim() % 2 != 0)
    fail("dim ", c.dim, " over ", c.heads, " heads; expected an even number of channels a head");
  if (c.heads % c.kv_heads != 0) fail(c.heads, " heads over ", c.kv_heads, " KV heads; expected a whole number");
}

/// Calls f(view, extents) for every weight in the file's order, the classifier only when it is there.
template <class W, class F>
void for_each_llama2c_weight(const Llama2cConfig& c, W& w, F&& f) {
  const Index kv = c.kv_dim(), half = c.head_dim() / 2;
  f(w.token_embedding, std::array{c.vocab_size, c.dim});
  f(w.rms_attention, std::array{c.layers, c.dim});
  f(w.wq, std::array{c.layers, c.dim, c.dim});
  f(w.wk, std::array{c.layers, kv, c.dim});
  f(w.wv, std::array{c.layers, kv, c.dim});
  f(w.wo, std::array{c.layers, c.dim, c.dim});
  f(w.rms_ffn, std::array{c.layers, c.dim});
  f(w.w1, std::array{c.layers, c.hidden_dim, c.dim});
  f(w.w2, std::array{c.layers, c.dim, c.hidden_dim});
  f(w.w3, std::array{c.layers, c.hidden_dim, c.dim});
  f(w.rms_final, std::array{c.dim});
  f(w.freq_cis_real, std::array{c.seq_len, half});
  f(w.freq_cis_imag, std::array{c.seq_len, half});
  if (!c.shared_classifier) f(w.classifier, std::array{c.vocab_size, c.dim});
}

}  // namespace detail

/// Throws format_error for a header that makes no sense or a file of any other size than it implies. O(1) for a file,
/// O(bytes) for memory that is not aligned to 4.
inline Llama2c read_llama2c(const ByteSource& source) {
  detail::ByteCursor cursor(source.bytes(), source.name());
  std::array<Index, 7> header{};
  for (Index& value : header) value = cursor.read<std::int32_t>("seven int32 of header");
  Llama2cConfig config{.dim = header[0],
                       .hidden_dim = header[1],
                       .layers = header[2],
                       .heads = header[3],
                       .kv_heads = header[4],
                       .vocab_size = header[5],
                       .seq_len = header[6]};
  if (config.vocab_size < 0) {  // how llama2.c marks a classifier of its own
    config.vocab_size = -config.vocab_size;
    config.shared_classifier = false;
  }
  detail::check_llama2c(config, source.name());

  Llama2c model{.config = config, .weights = {}, .owner = source.owner()};
  Index floats = 0;
  bool fits = true;
  detail::for_each_llama2c_weight(config, model.weights, [&](auto&, const auto& extents) {
    const Index size = detail::checked_size(extents);
    fits = fits && size >= 0 && detail::add_into(floats, size);
  });
  Index bytes = floats;
  fits = fits && detail::multiply_into(bytes, sizeof(float));
  if (!fits || static_cast<std::size_t>(bytes) != cursor.left())
    detail::throw_format_error(source.name(), cursor.offset(), cursor.left(), " bytes of weights; expected ",
                               fits ? std::to_string(bytes) : std::string("more than memory can hold"), " for dim ",
                               config.dim, ", hidden_dim ", config.hidden_dim, ", ", config.layers, " layers, ",
                               config.heads, " heads, ", config.kv_heads, " KV heads, vocabulary ", config.vocab_size,
                               config.shared_classifier ? "" : " (own classifier)", ", context ", config.seq_len);

  const auto raw = cursor.take(cursor.left(), "weights");
  const float* data = reinterpret_cast<const float*>(raw.data());
  if (reinterpret_cast<std::uintptr_t>(raw.data()) % alignof(float) != 0) {
    auto copy = std::make_shared<Buffer<float>>(floats, uninitialized);
    std::memcpy(copy->data(), raw.data(), raw.size());
    data = copy->data();
    model.owner = std::move(copy);
  }
  detail::for_each_llama2c_weight(config, model.weights,
                                  [&]<std::size_t Rank>(auto& view, const std::array<Index, Rank>& extents) {
                                    view = View<const float, static_cast<int>(Rank)>(data, extents);
                                    data += view.size();
                                  });
  if (config.shared_classifier) model.weights.classifier = model.weights.token_embedding;
  return model;
}
inline Llama2c read_llama2c(const std::string& path) { return read_llama2c(ByteSource::file(path)); }

/// Writes the weights, of any strides. Empty freq_cis views are computed: cos and sin of pos * 10000^(-2i/head_dim).
/// Throws shape_error for a weight whose shape is not what `config` says, format_error for a senseless config.
template <ByteSink Sink>
void write_llama2c(Sink& out, const Llama2cConfig& config, Llama2cWeights weights) {
  detail::check_llama2c(config, "(written)");
  const Index half = config.head_dim() / 2;
  Buffer<float> cosines, sines;
  if (weights.freq_cis_real.empty() && weights.freq_cis_imag.empty()) {
    cosines = Buffer<float>(config.seq_len * half, uninitialized);
    sines = Buffer<float>(config.seq_len * half, uninitialized);
    for (Index at = 0; at < config.seq_len; ++at)
      for (Index i = 0; i < half; ++i) {
        const double angle =
            static_cast<double>(at) * std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(half));
        cosines[at * half + i] = static_cast<float>(std::cos(angle));
        sines[at * half + i] = static_cast<float>(std::sin(angle));
      }
    weights.freq_cis_real = {cosines.data(), config.seq_len, half};
    weights.freq_cis_imag = {sines.data(), config.seq_len, half};
  }
  int position = 0;
  detail::for_each_llama2c_weight(config, weights, [&](const auto& view, const auto& extents) {
    if (view.extents() != extents)
      throw shape_error(detail::concat("tessera: llama2.c weight ", position, " in the file's order has shape ",
                                       detail::shape_text(view.extents()), "; the config needs ",
                                       detail::shape_text(extents)));
    ++position;
  });

  std::array<std::int32_t, 7> header{};
  const std::array<Index, 7> values{config.dim,      config.hidden_dim,
                                    config.layers,   config.heads,
                                    config.kv_heads, config.shared_classifier ? config.vocab_size : -config.vocab_size,
                                    config.seq_len};
  for (std::size_t i = 0; i < header.size(); ++i) header[i] = static_cast<std::int32_t>(values[i]);
  out.write(std::as_bytes(std::span(header)));
  detail::for_each_llama2c_weight(config, weights,
                                  [&](const auto& view, const auto&) { detail::write_elements(out, view); });
}
inline void write_llama2c(const std::string& path, const Llama2cConfig& config, const Llama2cWeights& weights) {
  AtomicFile file(path);
  write_llama2c(file, config, weights);
  file.commit();
}

}  // namespace tessera::inline TESSERA_ABI
