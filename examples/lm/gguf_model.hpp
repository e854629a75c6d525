/// Models as GGUF files of the architecture "llama", as llama.cpp names their keys and tensors.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <tessera/io/gguf.hpp>
#include <tessera/io/tokenizer.hpp>
#include <vector>

#include "model.hpp"

namespace lm {

/// Decodes every tensor to f32. Throws format_error for a file of another architecture, or one whose tensors do not fit
/// its metadata; unsupported_error for a classifier that is not the embedding and types that cannot be decoded.
Model load_gguf(const std::string& path);

/// The vocabulary in a GGUF file; none for a model of bytes. Throws format_error for one that is not SentencePiece's
/// with byte tokens at 3..258.
std::optional<tessera::Tokenizer> gguf_tokenizer(const std::string& path);

/// The types that save_gguf writes, by name.
std::vector<std::string> gguf_type_names();

/// Norms in f32, matrices in the type of that name, encoded by its format; where a row is no whole number of its
/// blocks, in q8_0, or f32 where that does not fit either. Throws unsupported_error for a name that is none.
void save_gguf(const std::string& path, const Model& model, std::string_view type,
               const tessera::Tokenizer* tokenizer = nullptr);

}  // namespace lm
