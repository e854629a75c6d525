#include "gguf_model.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <type_traits>
#include <utility>

namespace lm {

using tessera::GgufArray;
using tessera::GgufTensor;
using tessera::GgufType;
using tessera::detail::concat;

namespace {

/// "layers.3.attention.wq.weight" is "blk.3.attn_q.weight".
std::string gguf_name(const std::string& name) {
  static constexpr std::pair<std::string_view, std::string_view> parts[] = {
      {"attention_norm", "attn_norm"}, {"attention.wq", "attn_q"},      {"attention.wk", "attn_k"},
      {"attention.wv", "attn_v"},      {"attention.wo", "attn_output"}, {"feed_forward.w1", "ffn_gate"},
      {"feed_forward.w2", "ffn_down"}, {"feed_forward.w3", "ffn_up"},   {"ffn_norm", "ffn_norm"}};
  if (name == "tok_embeddings.weight") return "token_embd.weight";
  if (name == "norm.weight") return "output_norm.weight";
  const auto first = name.find('.') + 1, second = name.find('.', first) + 1;
  const std::string_view rest = std::string_view(name).substr(second, name.size() - second - std::strlen(".weight"));
  for (const auto& [ours, theirs] : parts)
    if (rest == ours) return concat("blk.", name.substr(first, second - first), theirs, ".weight");
  return name;
}

/// GGUF writes a space as SentencePiece does, U+2581.
constexpr std::string_view space_mark = "\xe2\x96\x81";

std::string marked(std::string_view piece) {
  std::string out;
  for (const char c : piece) {
    if (c == ' ')
      out += space_mark;
    else
      out += c;
  }
  return out;
}
std::string unmarked(std::string_view piece) {
  std::string out;
  while (!piece.empty()) {
    const bool mark = piece.starts_with(space_mark);
    out += mark ? ' ' : piece.front();
    piece.remove_prefix(mark ? space_mark.size() : 1);
  }
  return out;
}

/// A matrix in a type, or in one that its rows fit.
struct Encoded {
  GgufType type;
  std::vector<std::byte> bytes;
};
Encoded encode(MatrixView<const float> W, GgufType type) {
  const auto* row = tessera::detail::find_gguf_type(static_cast<std::uint32_t>(type));
  if (W.cols() % row->block_size != 0)
    return encode(W, W.cols() % tessera::Q8_0::block_size == 0 ? GgufType::q8_0 : GgufType::float32);
  Encoded result{type, {}};
  result.bytes.resize(static_cast<std::size_t>(W.size() / row->block_size * row->block_bytes));
  std::byte* to = result.bytes.data();
  tessera::visit_gguf_type(type, "a matrix", [&]<class T>(std::type_identity<T>) {
    if constexpr (std::is_integral_v<T>) {
      throw tessera::unsupported_error("a model's matrices are not integers; expected a type of real numbers");
    } else if constexpr (tessera::GgufElement<T>) {
      for (Index i = 0; i < W.size(); ++i, to += sizeof(T)) {
        const T value = static_cast<T>(W.data()[i]);
        std::memcpy(to, &value, sizeof(T));
      }
    } else {
      for (Index i = 0; i < W.size(); i += T::block_size, to += sizeof(typename T::Block)) {
        typename T::Block block;
        T::encode(std::span(W.data() + i, static_cast<std::size_t>(T::block_size)), block);
        std::memcpy(to, &block, sizeof block);
      }
    }
  });
  return result;
}

GgufType type_named(std::string_view name) {
  std::string names;
  for (const auto& each : gguf_type_names()) {
    names += (names.empty() ? "'" : ", '") + each + "'";
    if (each == name)
      for (const auto& row : tessera::detail::gguf_type_rows)
        if (row.name == name) return row.type;
  }
  throw tessera::unsupported_error(concat("'", name, "' is none of ", names));
}

}  // namespace

std::vector<std::string> gguf_type_names() {
  std::vector<std::string> names;
  for (const auto& row : tessera::detail::gguf_type_rows) {
    bool known = false;
    try {
      tessera::visit_gguf_type(row.type, row.name,
                               [&]<class T>(std::type_identity<T>) { known = !std::is_integral_v<T>; });
    } catch (const tessera::unsupported_error&) {
    }
    if (known) names.emplace_back(row.name);
  }
  return names;
}

Model load_gguf(const std::string& path) {
  const auto file = tessera::read_gguf(path);
  const auto& m = file.metadata();
  if (const auto& architecture = m.get<std::string>("general.architecture"); architecture != "llama")
    throw tessera::format_error(
        concat(path, ": architecture ", tessera::detail::quote(architecture), "; expected \"llama\""));
  const auto number = [&](std::string_view key, double otherwise) {
    return static_cast<float>(m.find(key) != nullptr ? m.number(key) : otherwise);
  };
  const auto& embedding = file["token_embd.weight"];
  Config c;
  c.dim = m.integer("llama.embedding_length");
  c.hidden = m.integer("llama.feed_forward_length");
  c.layers = m.integer("llama.block_count");
  c.heads = m.integer("llama.attention.head_count");
  c.kv_heads =
      m.find("llama.attention.head_count_kv") != nullptr ? m.integer("llama.attention.head_count_kv") : c.heads;
  c.vocab = embedding.rows();
  c.context = m.integer("llama.context_length");
  c.rope_theta = number("llama.rope.freq_base", 10000);
  c.norm_eps = number("llama.attention.layer_norm_rms_epsilon", 1e-5);
  c.check();
  if (m.find("llama.rope.dimension_count") != nullptr && m.integer("llama.rope.dimension_count") != c.head_dim())
    throw tessera::unsupported_error(concat(path, ": ", m.integer("llama.rope.dimension_count"),
                                            " channels of a head are rotated; expected all ", c.head_dim()));
  if (const GgufTensor* output = file.find("output.weight"))
    if (output->type != embedding.type ||
        !std::equal(output->data.begin(), output->data.end(), embedding.data.begin(), embedding.data.end()))
      throw tessera::unsupported_error(
          concat(path, ": output.weight is not token_embd.weight; expected them to be one"));

  Index held = 0;  // a config that needs more than the file has is refused before memory is taken for it
  for (const GgufTensor& tensor : file.tensors()) held += std::min(tensor.size(), Index{1} << 40);
  if (held < c.parameter_count())
    throw tessera::format_error(concat(path, ": ", held, " elements; the model described needs ", c.parameter_count()));
  Model model{c, Buffer<float>(c.parameter_count())};
  tensors<float>(c, model.values.data(), [&](const std::string& name, MatrixView<float> to) {
    const GgufTensor& tensor = file[gguf_name(name)];
    if (tensor.size() != to.size() || tensor.cols() != to.cols())
      throw tessera::format_error(concat(path, ": ", tensor.name, " is ",
                                         tessera::detail::shape_text(tensor.rows(), tensor.cols()),
                                         "; the model needs ", tessera::detail::shape_text(to.rows(), to.cols())));
    const auto values = tensor.read();
    std::copy_n(values.data(), values.size(), to.data());
  });
  return model;
}

std::optional<tessera::Tokenizer> gguf_tokenizer(const std::string& path) {
  const auto file = tessera::read_gguf(path);
  const auto& m = file.metadata();
  if (m.find("tokenizer.ggml.tokens") == nullptr) return std::nullopt;
  if (const auto& kind = m.get<std::string>("tokenizer.ggml.model"); kind != "llama")
    throw tessera::unsupported_error(concat(path, ": a tokenizer of kind ", tessera::detail::quote(kind),
                                            "; expected \"llama\", which is SentencePiece's"));
  std::vector<std::string> pieces;
  for (const auto& piece : m.array<std::string>("tokenizer.ggml.tokens")) pieces.push_back(unmarked(piece));
  return tessera::Tokenizer(std::move(pieces), m.array<float>("tokenizer.ggml.scores"));
}

void save_gguf(const std::string& path, const Model& model, std::string_view type,
               const tessera::Tokenizer* tokenizer) {
  const GgufType wanted = type_named(type);
  const Config& c = model.config;
  const auto u32 = [](Index value) { return static_cast<std::uint32_t>(value); };
  tessera::GgufMetadata m;
  m.set("general.architecture", std::string("llama"));
  m.set("general.quantization_version", std::uint32_t{2});
  m.set("llama.context_length", u32(c.context));
  m.set("llama.embedding_length", u32(c.dim));
  m.set("llama.block_count", u32(c.layers));
  m.set("llama.feed_forward_length", u32(c.hidden));
  m.set("llama.attention.head_count", u32(c.heads));
  m.set("llama.attention.head_count_kv", u32(c.kv_heads));
  m.set("llama.attention.layer_norm_rms_epsilon", c.norm_eps);
  m.set("llama.rope.dimension_count", u32(c.head_dim()));
  m.set("llama.rope.freq_base", c.rope_theta);
  m.set("llama.vocab_size", u32(c.vocab));
  m.set("tokenizer.ggml.model", std::string(tokenizer != nullptr ? "llama" : "none"));
  if (tokenizer != nullptr) {
    if (tokenizer->vocab_size() != c.vocab)
      throw tessera::format_error(
          concat("a tokenizer of ", tokenizer->vocab_size(), " tokens for a model of ", c.vocab));
    std::vector<std::string> pieces;
    std::vector<float> scores;
    std::vector<std::int32_t> kinds;
    for (tessera::Token t = 0; t < static_cast<tessera::Token>(c.vocab); ++t) {
      constexpr std::int32_t normal = 1, unknown = 2, control = 3, byte = 6;
      kinds.push_back(t == tessera::Tokenizer::unknown                               ? unknown
                      : t == tessera::Tokenizer::bos || t == tessera::Tokenizer::eos ? control
                      : t < tessera::Tokenizer::first_byte + 256                     ? byte
                                                                                     : normal);
      pieces.push_back(t == tessera::Tokenizer::bos   ? "<s>"
                       : t == tessera::Tokenizer::eos ? "</s>"
                                                      : marked(tokenizer->piece(t)));
      scores.push_back(tokenizer->score(t));
    }
    m.set("tokenizer.ggml.tokens", GgufArray{std::move(pieces)});
    m.set("tokenizer.ggml.scores", GgufArray{std::move(scores)});
    m.set("tokenizer.ggml.token_type", GgufArray{std::move(kinds)});
    m.set("tokenizer.ggml.bos_token_id", std::uint32_t{tessera::Tokenizer::bos});
    m.set("tokenizer.ggml.eos_token_id", std::uint32_t{tessera::Tokenizer::eos});
    m.set("tokenizer.ggml.unknown_token_id", std::uint32_t{tessera::Tokenizer::unknown});
  }

  std::vector<Encoded> kept;
  std::vector<GgufTensor> list;
  tensors<const float>(c, model.values.data(), [&](const std::string& name, MatrixView<const float> tensor) {
    const bool vector = name.find("norm") != std::string::npos;
    kept.push_back(encode(tensor, vector ? GgufType::float32 : wanted));
    list.push_back({.name = gguf_name(name), .type = kept.back().type});
    list.back().shape = vector ? std::vector<Index>{tensor.cols()} : std::vector<Index>{tensor.rows(), tensor.cols()};
  });
  for (std::size_t i = 0; i < list.size(); ++i) list[i].data = kept[i].bytes;
  tessera::write_gguf(path, list, m);
}

}  // namespace lm
