/// Models on disk: safetensors with the config in its metadata, llama2.c's checkpoints, and GGUF (gguf_model.hpp).
#pragma once

#include <string>
#include <string_view>
#include <tessera/io/safetensors.hpp>

#include "model.hpp"

namespace lm {

tessera::Metadata describe(const Config& c);

/// Throws format_error unless `key` holds a whole number of at least 0.
Index metadata_number(const tessera::Metadata& metadata, std::string_view key, const std::string& file);

/// By the file's ending: .bin is llama2.c's, .gguf GGUF, anything else safetensors that train_lm saved. Throws
/// format_error, unsupported_error for a model whose classifier is not its embedding.
Model load_model(const std::string& path);

/// bf16 tensors, rounded to nearest.
void save_bf16(const std::string& path, const Model& model, tessera::Metadata more = {});

}  // namespace lm
