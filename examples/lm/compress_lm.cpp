/// A language model whose weights and context are held in many ways: bytes, quality and speed side by side.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <tessera/core/context.hpp>
#include <tessera/simd/isa.hpp>
#include <vector>

#include "attention_formats.hpp"
#include "checkpoint.hpp"
#include "evaluate.hpp"
#include "experiment.hpp"
#include "formats.hpp"
#include "plot.hpp"
#include "progress.hpp"
#include "sampler.hpp"
#include "vocabulary.hpp"

namespace {

using namespace lm;

struct Options : ExperimentOptions {
  std::string prompt = "template<typename ";
  Index text_bytes = 6144, under = 0, sample = 240, finetune = 40;
};

struct Row {
  std::string name;
  bool structured = false;
  double bytes = 0, ratio = 1;
  Evaluation quality;
  double decode = 0;      // tok/s
  std::size_t place = 0;  // in the order rows were added
};

class Table {
 public:
  Table(std::string title, std::string first, bool counts_keys = false)
      : title_(std::move(title)), first_(std::move(first)), counts_keys_(counts_keys) {}
  void add(Row row) {
    row.ratio = rows_.empty() ? 1 : rows_.front().bytes / row.bytes;
    row.place = rows_.size();
    rows_.push_back(std::move(row));
  }
  /// From more to fewer bytes, structures last as they came. The first row, which the others are compared with, stays.
  void arrange() {
    std::sort(rows_.begin() + 1, rows_.end(), [](const Row& a, const Row& b) {
      if (a.structured != b.structured) return b.structured;
      return a.structured || a.bytes == b.bytes ? a.place < b.place : a.bytes > b.bytes;
    });
  }
  const std::vector<Row>& rows() const { return rows_; }

  void print() const {
    fmt::print("\n{}\n{:<34}{:>12}{:>8}{:>11}{:>10}{:>15}{:>14}{}\n", title_, first_, "bytes", "ratio", "bits/byte",
               "KL bits", "prefill tok/s", "decode tok/s", counts_keys_ ? "  keys/query" : "");
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      const Row& r = rows_[i];
      if (i > 0 && r.structured && !rows_[i - 1].structured) fmt::print("\n");
      fmt::print("{:<34}{:>12.0f}{:>8.2f}{:>11.4f}{:>10.5f}{:>15.0f}{:>14.0f}{}\n", r.name, r.bytes, r.ratio,
                 r.quality.bits_per_byte, r.quality.divergence, r.quality.tokens_per_second, r.decode,
                 counts_keys_ ? fmt::format("{:>12.1f}", r.quality.keys_met) : "");
    }
  }
  nlohmann::json json() const {
    auto list = nlohmann::json::array();
    for (const auto& r : rows_) {
      list.push_back({{first_, r.name},
                      {"bytes", r.bytes},
                      {"ratio", r.ratio},
                      {"bits/byte", r.quality.bits_per_byte},
                      {"KL bits", r.quality.divergence},
                      {"prefill tok/s", r.quality.tokens_per_second},
                      {"decode tok/s", r.decode}});
      if (counts_keys_) list.back()["keys/query"] = r.quality.keys_met;
    }
    return list;
  }
  PlotPanel panel() const {
    PlotPanel panel{title_, {}};
    for (const auto& r : rows_) panel.points.push_back({r.name, r.bytes, r.quality.bits_per_byte});
    return panel;
  }

 private:
  std::string title_, first_;
  bool counts_keys_;
  std::vector<Row> rows_;
};

std::string sample(Context& ctx, const Network& network, const KvFormat& cache, const Vocabulary& vocabulary,
                   const std::string& prompt, Index steps) {
  Decoder decoder(network, cache);
  const auto tokens = vocabulary.encode(prompt);
  steps = std::min(steps, network.config().context - static_cast<Index>(tokens.size()));
  if (steps <= 0) throw tessera::format_error("the prompt fills the context; expected a shorter --prompt");
  Buffer<float> logits(network.config().vocab);
  const MatrixView<float> last(logits.data(), 1, logits.size());
  Sampler sampler({.temperature = 0.6f, .top_p = 0.9f, .seed = 7});
  std::string text = prompt;
  decoder.read(ctx, tokens, last);
  for (std::int32_t previous = tokens.back(); steps > 0; --steps) {
    const std::int32_t token = sampler.next(logits);
    if (token == vocabulary.start()) break;
    text += vocabulary.decode(previous, token);
    decoder.read(ctx, {&token, 1}, last);
    previous = token;
  }
  return text;
}

void run(const Options& o) {
  check_writable(o);
  const Model model = load_model(o.model);
  const Vocabulary vocabulary(model.config, o.tokenizer);
  const Index context = model.config.context;
  const Corpus corpus = read_corpus(o.text);
  // Log-probabilities of the reference are kept: at most half a GiB of them.
  const Index most = std::min<Index>(o.text_bytes, (Index{1} << 27) / model.config.vocab);
  const EvaluationText text = evaluation_text(vocabulary, corpus.held_out, context, most);
  if (text.bytes == 0)
    throw tessera::format_error(o.text + " has no held-out text; expected more files or a longer one");
  std::vector<std::int32_t> speed_text;  // a whole context of it, however short the documents
  while (static_cast<Index>(speed_text.size()) < context)
    for (const auto& d : text.documents) speed_text.insert(speed_text.end(), d.begin(), d.end());
  const std::span<const std::int32_t> speed_tokens(speed_text.data(), static_cast<std::size_t>(context));

  Context ctx = Context::with_threads(o.threads);
  fmt::print("{}: {} parameters, context {}, on {} bytes from {} held-out files of {}, {} threads, {}\n", o.model,
             model.values.size(), context, text.bytes, corpus.held_out.size(), o.text, o.threads,
             tessera::isa_text(tessera::active_isa()));

  std::vector<std::vector<std::int32_t>> training_text;
  for (std::size_t d = 0; d < corpus.train.size(); d += std::max<std::size_t>(corpus.train.size() / 64, 1))
    training_text.push_back(vocabulary.encode(corpus.train[d].text.substr(0, 16384)));
  auto weights = weight_formats();
  const auto calibrated = calibrated_weight_formats(ctx, model, training_text, o.finetune);
  weights.insert(weights.end(), calibrated.begin(), calibrated.end());
  const auto caches = kv_formats(context);
  const Network full(ctx, model, weights.front());
  const auto attentions = attention_formats(model.config, head_entropies(ctx, full, training_text));
  const double steps = static_cast<double>(weights.size() + caches.size() + attentions.size());
  Progress progress;
  double done = 0;
  const auto tick = [&](const std::string& name) {
    return [&progress, &done, steps, name](double share) { progress.bar((done + share) / steps, name); };
  };

  Reference reference;
  Table weight_table("Weights (KV cache f32)", "weights");
  for (const auto& format : weights) {
    progress.bar(done / steps, format.name);
    const bool first = &format == &weights.front();
    const Network network(ctx, model, format);
    Row row{format.name, format.structured, static_cast<double>(network.bytes()), 1, {}, 0, 0};
    row.quality = evaluate(ctx, network, caches.front(), text, 0, first ? nullptr : &reference,
                           first ? &reference : nullptr, tick("weights " + format.name));
    row.decode = decode_speed(ctx, network, caches.front(), speed_tokens.first(static_cast<std::size_t>(context / 4)),
                              context / 8);
    weight_table.add(std::move(row));
    ++done;
  }

  const auto measure = [&](Table& table, const auto& formats, const char* what, Index block,
                           double Evaluation::*bytes) {
    for (const auto& format : formats) {
      Row row{format.name, false, 0, 1, {}, 0, 0};
      row.quality = evaluate(ctx, full, format, text, block, &reference, nullptr, tick(what + format.name));
      row.bytes = row.quality.*bytes;
      row.decode = decode_speed(ctx, full, format, speed_tokens, context - context / 8);
      table.add(std::move(row));
      ++done;
    }
  };
  Table kv_table("KV cache (weights f32), read in blocks of 64 tokens; bytes: the most held after a block", "cache");
  measure(kv_table, caches, "cache ", 64, &Evaluation::kv_bytes);
  Table attention_table("Attention (weights and cache f32); bytes: read for a token", "attention", true);
  measure(attention_table, attentions, "attention ", 0, &Evaluation::bytes_read);
  progress.clear();
  weight_table.arrange();
  weight_table.print();
  kv_table.print();
  attention_table.print();

  const double under = o.under > 0 ? static_cast<double>(o.under) : weight_table.rows().front().bytes / 4;
  const Row* best = nullptr;
  for (const auto& row : weight_table.rows())
    if (row.bytes <= under && (best == nullptr || row.quality.bits_per_byte < best->quality.bits_per_byte)) best = &row;
  nlohmann::json output{{"model", o.model},
                        {"text", o.text},
                        {"text bytes", text.bytes},
                        {"threads", o.threads},
                        {"isa", tessera::isa_text(tessera::active_isa())},
                        {"weights", weight_table.json()},
                        {"caches", kv_table.json()},
                        {"attention", attention_table.json()}};
  if (best != nullptr) {
    const Network network(ctx, model, find(weights, best->name));
    const std::string written = sample(ctx, network, caches.front(), vocabulary, o.prompt, o.sample);
    fmt::print("\nA sample of {}, the best weights in at most {:.0f} bytes:\n{}\n", best->name, under, written);
    output["sample"] = {
        {"weights", best->name},
        {"text", nlohmann::json(written).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)}};
  } else {
    fmt::print("\nNo weights fit in {:.0f} bytes.\n", under);
  }
  write_json(o, output);
  if (!o.plot.empty()) write_plot(o.plot, {weight_table.panel(), kv_table.panel(), attention_table.panel()});
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app("Compares representations of a language model's weights and KV cache: bytes, quality, speed.");
  o.add_to(app);
  app.add_option("--bytes", o.text_bytes, "Of held-out text to evaluate on")->check(CLI::Range(1, 1000000000));
  app.add_option("--under", o.under, "Bytes of weights for the sample; 0: a quarter of f32's")
      ->check(number_in(0, 1e15));
  app.add_option("--prompt", o.prompt, "What the sample begins with");
  app.add_option("--sample", o.sample, "Tokens of sample")->check(CLI::Range(1, 1000000000));
  app.add_option("--finetune", o.finetune, "Steps of training of the structured weights; 0: none")
      ->check(CLI::Range(0, 1000000));
  return run_program("compress_lm", app, argc, argv, [&] { run(o); });
}
