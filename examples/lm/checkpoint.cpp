#include "checkpoint.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <tessera/io/llama2c.hpp>
#include <utility>
#include <vector>

#include "gguf_model.hpp"

namespace lm {

tessera::Metadata describe(const Config& c) {
  return {{"format", "tessera-lm"},
          {"dim", std::to_string(c.dim)},
          {"hidden", std::to_string(c.hidden)},
          {"layers", std::to_string(c.layers)},
          {"heads", std::to_string(c.heads)},
          {"kv_heads", std::to_string(c.kv_heads)},
          {"vocab", std::to_string(c.vocab)},
          {"context", std::to_string(c.context)}};
}

Index metadata_number(const tessera::Metadata& metadata, std::string_view key, const std::string& file) {
  const auto found = metadata.find(key);
  Index value = -1;
  if (found != metadata.end()) {
    const std::string& text = found->second;
    const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (failure != std::errc() || end != text.data() + text.size()) value = -1;
  }
  if (value < 0)
    throw tessera::format_error(file + ": metadata '" + std::string(key) +
                                "' is missing or no number; expected a model saved by train_lm");
  return value;
}

static Config read_config(const tessera::Metadata& metadata, const std::string& file) {
  const auto number = [&](std::string_view key) { return metadata_number(metadata, key, file); };
  Config c;
  c.dim = number("dim");
  c.hidden = number("hidden");
  c.layers = number("layers");
  c.heads = number("heads");
  c.kv_heads = number("kv_heads");
  c.vocab = number("vocab");
  c.context = number("context");
  c.check();
  return c;
}

/// Copies the tensors that `config` needs into `values`, converted to f32. Throws format_error for one that is missing
/// or has another size.
static void read_parameters(const tessera::Safetensors& file, const std::string& path, const Config& config,
                            float* values) {
  tensors<float>(config, values, [&](const std::string& name, MatrixView<float> to) {
    const auto& tensor = file[name];
    if (tensor.size() != to.size())
      throw tessera::format_error(
          tessera::detail::concat(path, ": ", name, " has ", tensor.size(), " elements; the model needs ", to.size()));
    const auto from = tensor.template read<float>();
    std::copy_n(from.data(), from.size(), to.data());
  });
}

/// How many elements the file holds, at most: a config that needs more is refused before memory is taken for it.
static void check_size(const tessera::Safetensors& file, const Config& config, const std::string& path) {
  Index held = 0;
  for (const auto& tensor : file.tensors()) held += tensor.size();
  if (held < config.parameter_count())
    throw tessera::format_error(
        tessera::detail::concat(path, ": ", held, " elements; the model described needs ", config.parameter_count()));
}

static Model load_safetensors(const std::string& path) {
  const auto file = tessera::read_safetensors(path);
  const Config config = read_config(file.metadata(), path);
  check_size(file, config, path);
  Model model{config, Buffer<float>(config.parameter_count())};
  read_parameters(file, path, config, model.values.data());
  return model;
}

void save_bf16(const std::string& path, const Model& model, tessera::Metadata more) {
  Buffer<tessera::bf16> rounded(model.values.size());
  for (Index i = 0; i < rounded.size(); ++i) rounded[i] = tessera::bf16(model.values[i]);
  std::vector<tessera::Tensor> list;
  tensors<const float>(model.config, model.values.data(), [&](const std::string& name, MatrixView<const float> tensor) {
    const MatrixView<const tessera::bf16> view(rounded.data() + (tensor.data() - model.values.data()), tensor.rows(),
                                               tensor.cols());
    list.push_back(tessera::as_tensor(name, view));
  });
  more.merge(describe(model.config));
  tessera::write_safetensors(path, list, more);
}

/// A llama2.c checkpoint. Throws unsupported_error if its classifier is not its embedding.
static Model load_llama2c(const std::string& path) {
  const auto file = tessera::read_llama2c(path);
  const auto& from = file.config;
  if (!from.shared_classifier)
    throw tessera::unsupported_error(path + ": the classifier is not the token embedding; expected them to be one");
  Config config{.dim = from.dim,
                .hidden = from.hidden_dim,
                .layers = from.layers,
                .heads = from.heads,
                .kv_heads = from.kv_heads,
                .vocab = from.vocab_size,
                .context = from.seq_len};
  config.check();
  Model model{config, Buffer<float>(config.parameter_count())};
  const auto to = tensors<float>(config, model.values.data());
  const auto copy = [](auto source, auto target) { std::copy_n(source.data(), source.size(), target.data()); };
  const auto& w = file.weights;
  copy(w.token_embedding, to.embedding);
  for (Index l = 0; l < config.layers; ++l) {
    const auto& layer = to.layers[static_cast<std::size_t>(l)];
    copy(w.rms_attention[l], layer.attention_norm);
    copy(w.wq[l], layer.wq);
    copy(w.wk[l], layer.wk);
    copy(w.wv[l], layer.wv);
    copy(w.wo[l], layer.wo);
    copy(w.rms_ffn[l], layer.ffn_norm);
    copy(w.w1[l], layer.w1);
    copy(w.w3[l], layer.w3);
    copy(w.w2[l], layer.w2);
  }
  copy(w.rms_final, to.norm);
  return model;
}

Model load_model(const std::string& path) {
  Model model = path.ends_with(".gguf")  ? load_gguf(path)
                : path.ends_with(".bin") ? load_llama2c(path)
                                         : load_safetensors(path);
  for (const float value : model.values)
    if (!std::isfinite(value))
      throw tessera::format_error(tessera::detail::concat(path, ": a parameter is ", value, "; expected finite ones"));
  return model;
}

}  // namespace lm
