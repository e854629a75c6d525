/// A model as a GGUF file.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <tessera/io/tokenizer.hpp>

#include "checkpoint.hpp"
#include "gguf_model.hpp"
#include "options.hpp"

int main(int argc, char** argv) {
  std::string model = LM_DEFAULT_MODEL, tokenizer, out = "model.gguf", type = "q8_0", names;
  for (const auto& name : lm::gguf_type_names()) names += (names.empty() ? "" : ", ") + name;
  CLI::App app("Writes a model as GGUF, its matrices in any of GGUF's types.");
  app.option_defaults()->always_capture_default();
  app.add_option("--model", model, "A model saved by train_lm, a llama2.c .bin or a .gguf");
  app.add_option("--tokenizer", tokenizer, "A llama2.c tokenizer or the .gguf that holds one, kept in the file");
  app.add_option("--out", out, "The file");
  app.add_option("--type", type, "One of " + names);
  return lm::run_program("convert_lm", app, argc, argv, [&] {
    const lm::Model loaded = lm::load_model(model);
    std::optional<tessera::Tokenizer> vocabulary;
    if (tokenizer.ends_with(".gguf"))
      vocabulary = lm::gguf_tokenizer(tokenizer);
    else if (!tokenizer.empty())
      vocabulary = tessera::read_tokenizer(tokenizer, loaded.config.vocab);
    else if (model.ends_with(".gguf"))
      vocabulary = lm::gguf_tokenizer(model);
    lm::save_gguf(out, loaded, type, vocabulary ? &*vocabulary : nullptr);
  });
}
