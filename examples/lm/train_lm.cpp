/// Trains a byte-level LLaMA-architecture decoder on any text, with this library alone.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <numbers>
#include <optional>
#include <string>
#include <tessera/core/context.hpp>
#include <tessera/io/atomic_file.hpp>
#include <tessera/optim/optim.hpp>
#include <thread>
#include <vector>

#include "checkpoint.hpp"
#include "corpus.hpp"
#include "evaluate.hpp"
#include "options.hpp"
#include "progress.hpp"
#include "trainer.hpp"

namespace {

using namespace lm;
namespace optim = tessera::optim;

struct Options {
  std::string data = "/usr/include/eigen3";
  std::string out = "model.safetensors";
  std::string state = "";
  bool resume = false;
  Config model;
  Index steps = 8000, batch = 4, length = 512, warmup = 300, stop_after = 0, save_every = 1000, evaluate_every = 1000,
        held_out_kib = 64;
  double rate = 2e-3, weight_decay = 0.1, beta2 = 0.99;
  std::uint64_t seed = 1;
  Index threads = static_cast<Index>(std::max(1u, std::thread::hardware_concurrency()));

  std::string state_file() const { return state.empty() ? out + ".state" : state; }
};

auto optimizer(const Options& o) {
  const optim::warmup_cosine schedule{
      .init = 0, .peak = o.rate, .warmup_steps = o.warmup, .decay_steps = o.steps, .end = 0.03 * o.rate};
  return optim::chain(optim::clip_by_global_norm(1.0), optim::scale_by_adam({.b1 = 0.9, .b2 = o.beta2, .eps = 1e-8}),
                      optim::add_decayed_weights(o.weight_decay, optim::matrices_only{}),
                      optim::scale_by_learning_rate(schedule));
}

optim::Parameters<float> blocks(const Config& config, float* values) {
  optim::Parameters<float> all;
  tensors<float>(config, values, [&](const std::string& name, MatrixView<float> t) { all.emplace_back(name, t); });
  return all;
}

/// Everything that decides the next steps; a resumed run must be given the same.
tessera::Metadata run_metadata(const Options& o, const std::vector<std::int32_t>& text) {
  auto metadata = describe(o.model);
  metadata["text"] =
      fmt::format("{} bytes, hash {:016x}", text.size(),
                  stable_hash({reinterpret_cast<const char*>(text.data()), text.size() * sizeof(text[0])}));
  metadata["steps"] = std::to_string(o.steps);
  metadata["batch"] = std::to_string(o.batch);
  metadata["length"] = std::to_string(o.length);
  metadata["warmup"] = std::to_string(o.warmup);
  metadata["seed"] = std::to_string(o.seed);
  metadata["rate"] = fmt::format("{}", o.rate);
  metadata["weight_decay"] = fmt::format("{}", o.weight_decay);
  metadata["beta2"] = fmt::format("{}", o.beta2);
  return metadata;
}

template <class State>
void save_state(const Options& o, const tessera::Metadata& run, Model& model, State& state) {
  std::vector<tessera::Tensor> all;
  tensors<const float>(model.config, model.values.data(), [&](const std::string& name, MatrixView<const float> t) {
    all.push_back(tessera::as_tensor("model." + name, t));
  });
  state.for_each_buffer([&](const std::string& name, std::span<float> values) {
    all.push_back(tessera::as_tensor("optimizer." + name,
                                     VectorView<const float>(values.data(), static_cast<Index>(values.size()))));
  });
  auto metadata = run;
  metadata["step"] = std::to_string(state.count);
  tessera::write_safetensors(o.state_file(), all, metadata);
}

template <class State>
void load_state(const Options& o, const tessera::Metadata& run, Model& model, State& state) {
  const std::string path = o.state_file();
  const auto file = tessera::read_safetensors(path);
  for (const auto& [key, value] : run) {
    const auto found = file.metadata().find(key);
    const std::string held = found == file.metadata().end() ? "missing" : found->second;
    if (held != value)
      throw tessera::format_error(
          fmt::format("{}: {} is {}, this run's is {}; expected the same run", path, key, held, value));
  }
  state.count = metadata_number(file.metadata(), "step", path);
  read_parameters(file, path, model.config, model.values.data(), "model.");
  state.for_each_buffer([&](const std::string& name, std::span<float> values) {
    const auto held = file["optimizer." + name].template read<float>();
    if (held.size() != static_cast<Index>(values.size()))
      throw tessera::format_error(
          fmt::format("{}: optimizer.{} has {} elements; expected {}", path, name, held.size(), values.size()));
    std::copy_n(held.data(), held.size(), values.data());
  });
}

/// Sequences of step `step`: windows at places drawn by (seed, step, sequence).
void draw_batch(const Options& o, const std::vector<std::int32_t>& text, Index step, std::vector<std::int32_t>& inputs,
                std::vector<std::int32_t>& targets) {
  const tessera::Philox draws(o.seed, 0xba7c);
  const auto places = static_cast<std::uint64_t>(text.size()) - static_cast<std::uint64_t>(o.length);
  for (Index b = 0; b < o.batch; ++b) {
    const auto start =
        text.begin() + static_cast<Index>(draws.below(static_cast<std::uint64_t>(step * o.batch + b), places));
    std::copy_n(start, o.length, inputs.begin() + b * o.length);
    std::copy_n(start + 1, o.length, targets.begin() + b * o.length);
  }
}

/// Throws unsupported_error where a step needs more than all memory, before the system ends the program for it.
void check_memory(const Options& o) {
  const Config& c = o.model;
  const double tokens = static_cast<double>(o.batch) * static_cast<double>(o.length);
  const double each = static_cast<double>(c.layers) * static_cast<double>(7 * c.dim + 2 * c.kv_dim() + 3 * c.hidden) +
                      static_cast<double>(6 * c.dim + 2 * c.kv_dim() + 2 * c.hidden);
  const double needed = 4 * (tokens * each + 4 * static_cast<double>(c.parameter_count()));
  const double held = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  if (needed > held)
    throw tessera::unsupported_error(
        fmt::format("a step of {:.0f} tokens needs {:.1f} GiB; this machine has {:.1f}: expected a smaller model, "
                    "--batch or --length",
                    tokens, needed / 0x1p30, held / 0x1p30));
}

void train(const Options& o) {
  if (std::filesystem::weakly_canonical(o.out) == std::filesystem::weakly_canonical(o.state_file()))
    throw tessera::format_error("--out and --state are both " + o.out + "; expected two files");
  const Corpus corpus = read_corpus(o.data);
  const auto text = byte_tokens(corpus.train);
  if (static_cast<Index>(text.size()) <= o.length)
    throw tessera::format_error(
        fmt::format("{} holds {} bytes to train on; expected more than --length {}", o.data, text.size(), o.length));
  Progress progress;
  progress.log(fmt::format("{}: {} files, {} bytes to train on; {} files, {} bytes held out", o.data,
                           corpus.train.size(), bytes(corpus.train), corpus.held_out.size(), bytes(corpus.held_out)));

  Context ctx = Context::with_threads(o.threads);
  Model model = random_model(o.model, o.seed);
  progress.log(fmt::format("{} parameters, {} threads", model.values.size(), o.threads));
  auto params = blocks(model.config, model.values.data());
  const auto opt = optimizer(o);
  auto state = opt.init(params);
  const auto run = run_metadata(o, text);
  if (o.resume) load_state(o, run, model, state);
  const Index first = state.count;

  // A destination that cannot be written is refused before the work.
  for (const std::string& path : {o.out, o.state_file()}) tessera::AtomicFile probe(path);

  Trainer trainer(o.model, o.batch, o.length);
  Buffer<float> gradient(o.model.parameter_count());
  const auto grads = blocks(model.config, gradient.data());
  const Weights weights = weights_of(model);
  const Gradients gradients = gradients_of(model.config, gradient.data());
  std::vector<std::int32_t> inputs(static_cast<std::size_t>(o.batch * o.length)), targets(inputs.size());
  const StopRequest stop;
  const Stopwatch clock;
  double recent = 0;
  const Index last = o.stop_after > 0 ? std::min(o.steps, o.stop_after) : o.steps;
  const auto save = [&] {
    save_state(o, run, model, state);
    save_bf16(o.out, model,
              {{"step", std::to_string(state.count)}, {"seed", std::to_string(o.seed)}, {"data", o.data}});
    progress.log(fmt::format("wrote {} and {} at step {}", o.out, o.state_file(), state.count));
  };
  while (state.count < last && !stop) {
    draw_batch(o, text, state.count, inputs, targets);
    const double loss = trainer.step(ctx, weights, gradients, inputs, targets);
    if (!std::isfinite(loss))
      throw tessera::unsupported_error(
          fmt::format("step {}: the loss is {}; expected a finite one: try a smaller --rate. What was saved last stays",
                      state.count + 1, loss));
    opt.update(ctx, grads, state, params);
    const Index done = state.count - first;
    recent = done == 1 ? loss : 0.98 * recent + 0.02 * loss;
    const double seconds = clock.seconds();
    const std::string line =
        fmt::format("step {}/{}  loss {:.4f}  {:.4f} bits/byte  {:.0f} tok/s  {} left", state.count, o.steps, recent,
                    recent / std::numbers::ln2, static_cast<double>(done * o.batch * o.length) / seconds,
                    clock_text(seconds / static_cast<double>(done) * static_cast<double>(last - state.count)));
    state.count % 100 == 0 ? progress.log(line) : progress.show(line);
    if (o.save_every > 0 && state.count % o.save_every == 0 && state.count < last) save();
    if (o.evaluate_every > 0 && state.count % o.evaluate_every == 0 && !corpus.held_out.empty())
      progress.log(fmt::format("step {}  held out ({} KiB of it): {:.4f} bits/byte", state.count, o.held_out_kib,
                               bits_per_byte(ctx, model, corpus.held_out, o.held_out_kib * 1024)));
  }
  progress.clear();
  save();
  if (state.count == o.steps && !corpus.held_out.empty()) {
    progress.log("evaluating on all held-out text");
    progress.log(fmt::format("held out, {} bytes: {:.4f} bits/byte (as saved, bf16: {:.4f})", bytes(corpus.held_out),
                             bits_per_byte(ctx, model, corpus.held_out),
                             bits_per_byte(ctx, load_model(o.out), corpus.held_out)));
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app("Trains a byte-level decoder (RMSNorm, RoPE, grouped-query attention, SwiGLU, tied classifier).");
  app.option_defaults()->always_capture_default();
  app.add_option("--data", o.data, "A folder of text, split by a hash of the paths, or one file, split at 9/10");
  app.add_option("--out", o.out, "Where the model goes, as bf16 safetensors");
  app.add_option("--state", o.state, "Where the training state goes, by default OUT.state");
  app.add_flag("--resume", o.resume, "Go on from the training state");
  app.add_option("--steps", o.steps, "Steps of the whole schedule")->check(CLI::Range(1, 1000000000));
  app.add_option("--stop-after", o.stop_after, "Save and stop at this step; 0: at the end")->check(number_in(0, 1e9));
  app.add_option("--batch", o.batch, "Sequences a step")->check(CLI::Range(1, 4096));
  app.add_option("--length", o.length, "Bytes a sequence; also the model's context")->check(CLI::Range(2, 65536));
  app.add_option("--warmup", o.warmup, "Steps of linear warm-up")->check(number_in(0, 1e9));
  app.add_option("--rate", o.rate, "Peak learning rate")->check(number_in(1e-12, 1e3));
  app.add_option("--weight-decay", o.weight_decay, "Decoupled weight decay of matrices")->check(number_in(0, 1e3));
  app.add_option("--beta2", o.beta2, "Adam's second moment decay")->check(number_in(0, 0.99999999));
  app.add_option("--seed", o.seed, "Of the initial weights and the batches")->check(natural_number());
  app.add_option("--threads", o.threads, "The same weights for any number")->check(CLI::Range(1, 1024));
  app.add_option("--save-every", o.save_every, "Steps between saves; 0: at the end, Ctrl-C and hang-up alone")
      ->check(number_in(0, 1e9));
  app.add_option("--evaluate-every", o.evaluate_every, "Steps between looks at held-out text; 0: never")
      ->check(number_in(0, 1e9));
  app.add_option("--dim", o.model.dim, "Model width");
  app.add_option("--hidden", o.model.hidden, "Width of the SwiGLU layers");
  app.add_option("--layers", o.model.layers, "Layers");
  app.add_option("--heads", o.model.heads, "Query heads");
  app.add_option("--kv-heads", o.model.kv_heads, "Key-value heads");
  return run_program("train_lm", app, argc, argv, [&] {
    o.model.context = o.length;
    o.model.check();
    check_memory(o);
    train(o);
  });
}
