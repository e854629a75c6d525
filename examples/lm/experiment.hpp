/// What programs share that run a model many ways and report in a table, as JSON and as a plot.
#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <tessera/core/error.hpp>
#include <thread>

#include "options.hpp"

namespace lm {

struct ExperimentOptions {
  std::string model = LM_DEFAULT_MODEL, tokenizer, text = LM_DEFAULT_TEXT, json, plot;
  tessera::Index threads = static_cast<tessera::Index>(std::clamp(std::thread::hardware_concurrency(), 1u, 2u));

  enum Kind { of_a_model, of_training };

  void add_to(CLI::App& app, Kind kind = of_a_model) {
    app.option_defaults()->always_capture_default();
    if (kind == of_a_model) {
      app.add_option("--model", model, "A model saved by train_lm, or a llama2.c .bin");
      app.add_option("--tokenizer", tokenizer, "A llama2.c tokenizer, for models of more than bytes");
    }
    app.add_option("--text", text, "A folder, of which a tenth of the files is held out, or a file: its last tenth");
    app.add_option("--json", json, "Write the tables to this file too");
    app.add_option("--plot", plot,
                   kind == of_a_model ? "Draw quality against bytes into this SVG file"
                                      : "Draw curves of the loss into this SVG file");
    app.add_option("--threads", threads, "The same figures but for speed for any number")->check(CLI::Range(1, 1024));
  }
};

/// Throws at once where the results could not be written after the work.
inline void check_writable(const ExperimentOptions& o) {
  for (const auto* file : {&o.json, &o.plot})
    if (!file->empty() && !std::ofstream(*file, std::ios::binary | std::ios::app))
      throw tessera::format_error("cannot write " + *file);
}

/// To the file of --json, if there is one.
inline void write_json(const ExperimentOptions& o, const nlohmann::json& output) {
  if (o.json.empty()) return;
  std::ofstream file(o.json, std::ios::binary);
  if (!(file << output.dump(2) << '\n') || !file.flush()) throw tessera::format_error("cannot write " + o.json);
}

}  // namespace lm
