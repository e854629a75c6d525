/// Text to tokens and back: bytes, or the tokenizer of a llama2.c or GGUF file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tessera/io/tokenizer.hpp>
#include <vector>

#include "corpus.hpp"
#include "gguf_model.hpp"
#include "model.hpp"

namespace lm {

class Vocabulary {
 public:
  /// Bytes, a zero byte before every document; `path` empty, or a tokenizer file of `config`'s vocabulary (a .gguf may
  /// hold none).
  /// Throws format_error for a model of more than bytes without a tokenizer.
  Vocabulary(const Config& config, const std::string& path) {
    if (path.ends_with(".gguf"))
      tokenizer_ = gguf_tokenizer(path);
    else if (!path.empty())
      tokenizer_ = tessera::read_tokenizer(path, config.vocab);
    if (tokenizer_ ? tokenizer_->vocab_size() != config.vocab : config.vocab != 256)
      throw tessera::format_error(tessera::detail::concat("the model has a vocabulary of ", config.vocab,
                                                          "; expected 256 (bytes), or its --tokenizer"));
  }

  std::int32_t start() const { return tokenizer_ ? tessera::Tokenizer::bos : document_start; }

  /// `start()`, then the text.
  std::vector<std::int32_t> encode(std::string_view text) const {
    if (tokenizer_ && !text.empty()) return tokenizer_->encode(text);
    std::vector<std::int32_t> tokens{start()};
    for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
    return tokens;
  }
  /// What `token` adds after `previous`.
  std::string decode(std::int32_t previous, std::int32_t token) const {
    return tokenizer_ ? std::string(tokenizer_->decode(previous, token)) : std::string(1, static_cast<char>(token));
  }

 private:
  std::optional<tessera::Tokenizer> tokenizer_;
};

}  // namespace lm
