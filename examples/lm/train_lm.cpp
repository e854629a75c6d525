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
#include <tessera/core/error.hpp>
#include <tessera/io/atomic_file.hpp>
#include <tessera/optim/state_file.hpp>
#include <thread>
#include <vector>

#include "checkpoint.hpp"
#include "corpus.hpp"
#include "evaluate.hpp"
#include "optimizers.hpp"
#include "options.hpp"
#include "progress.hpp"
#include "trainer.hpp"

namespace {

using namespace lm;

struct Options {
  std::string data = "/usr/include/eigen3";
  std::string out = "model.safetensors";
  std::string state = "", optimizer = "adamw";
  std::vector<std::string> hyper;
  bool resume = false;
  Config model;
  Index steps = 8000, batch = 4, length = 512, warmup = 300, stop_after = 0, save_every = 1000, evaluate_every = 1000,
        held_out_kib = 64;
  double rate = 0, weight_decay = 0.1, beta2 = 0.99;  // rate 0: the usual one
  std::uint64_t seed = 1;
  Index threads = static_cast<Index>(std::max(1u, std::thread::hardware_concurrency()));

  std::string state_file() const { return state.empty() ? out + ".state" : state; }
};

double peak_rate(const Options& o) {
  if (o.rate > 0) return o.rate;
  return o.optimizer == "adamw" ? 2e-3 : optim::optimizer_hyper_parameters<float>(o.optimizer).at("rate");
}

/// The optimizer of --optimizer with the hyper-parameters of the options, those that it has.
optim::AnyOptimizer<float> optimizer(const Options& o) {
  const double rate = peak_rate(o);
  const auto has = optim::optimizer_hyper_parameters<float>(o.optimizer);
  auto hyper = parse_hyper_parameters(o.hyper);
  const auto add = [&](const char* name, double value) {
    const bool given = std::any_of(hyper.begin(), hyper.end(), [&](const auto& one) { return one.name == name; });
    if (!given && has.contains(name)) hyper.emplace_back(name, value);
  };
  const optim::warmup_cosine schedule{
      .init = 0, .peak = rate, .warmup_steps = o.warmup, .decay_steps = o.steps, .end = 0.03 * rate};
  hyper.push_back(rate_of(o.optimizer, schedule, rate));
  add("weight_decay", o.weight_decay);
  if (o.optimizer.starts_with("adam")) add("b2", o.beta2);
  return optim::make_optimizer<float>(o.optimizer, std::move(hyper), decoder_masks());
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
  metadata["rate"] = fmt::format("{}", peak_rate(o));
  metadata["optimizer"] = fmt::format("{}{}{}", o.optimizer, o.hyper.empty() ? "" : " ", fmt::join(o.hyper, " "));
  metadata["weight_decay"] = fmt::format("{}", o.weight_decay);
  metadata["beta2"] = fmt::format("{}", o.beta2);
  return metadata;
}

void save_state(const Options& o, tessera::Metadata run, const optim::Parameters<float>& params,
                optim::AnyState<float>& state, Index step) {
  run["step"] = std::to_string(step);
  optim::save_checkpoint(o.state_file(), params, state, run);
}

/// The step that the file was written after.
Index load_state(const Options& o, const tessera::Metadata& run, const optim::Parameters<float>& params,
                 optim::AnyState<float>& state) {
  const std::string path = o.state_file();
  const auto file = tessera::read_safetensors(path);
  for (const auto& [key, value] : run) {
    const auto found = file.metadata().find(key);
    const std::string held = found == file.metadata().end() ? "missing" : found->second;
    if (held != value)
      throw tessera::format_error(
          fmt::format("{}: {} is {}, this run's is {}; expected the same run", path, key, held, value));
  }
  optim::read_checkpoint(file, params, state);
  return metadata_number(file.metadata(), "step", path);
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
  const auto run = run_metadata(o, text);
  progress.log(fmt::format("{} parameters, {} threads, {}", model.values.size(), o.threads, run.at("optimizer")));
  auto params = blocks(model.config, model.values.data());
  const auto opt = optimizer(o);
  auto state = opt.init(params);
  Index step = o.resume ? load_state(o, run, params, state) : 0;
  const Index first = step;

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
  // Where the optimizer keeps other parameters to evaluate at.
  Model evaluated{model.config, Buffer<float>(model.values.size())};
  const auto at = blocks(model.config, evaluated.values.data());
  const auto save = [&] {
    save_state(o, run, params, state, step);
    opt.evaluation(ctx, state, params, at);
    save_bf16(o.out, evaluated, {{"step", std::to_string(step)}, {"seed", std::to_string(o.seed)}, {"data", o.data}});
    progress.log(fmt::format("wrote {} and {} at step {}", o.out, o.state_file(), step));
  };
  const optim::Objective<float> objective{
      .gradient =
          [&] {
            const double loss = trainer.step(ctx, weights, gradients, inputs, targets);
            clip_gradients(ctx, grads, 1.0);
            return loss;
          },
      .loss = [&] { return trainer.loss(ctx, weights, inputs, targets); },
      .targets = decoder_targets(ctx, trainer, weights, gradients, grads, inputs, targets)};
  while (step < last && !stop) {
    draw_batch(text, o.seed, step, o.length, inputs, targets);
    double loss = 0;
    try {
      loss = opt.step(ctx, objective, grads, state, params);
    } catch (const tessera::property_error& lost) {
      throw tessera::property_error(
          fmt::format("step {}: {}: try a smaller --rate. What was saved last stays", step + 1, lost.what()));
    }
    ++step;
    const Index done = step - first;
    recent = done == 1 ? loss : 0.98 * recent + 0.02 * loss;
    const double seconds = clock.seconds();
    const std::string line =
        fmt::format("step {}/{}  loss {:.4f}  {:.4f} bits/byte  {:.0f} tok/s  {} left", step, o.steps, recent,
                    recent / std::numbers::ln2, static_cast<double>(done * o.batch * o.length) / seconds,
                    clock_text(seconds / static_cast<double>(done) * static_cast<double>(last - step)));
    step % 100 == 0 ? progress.log(line) : progress.show(line);
    if (o.save_every > 0 && step % o.save_every == 0 && step < last) save();
    if (o.evaluate_every > 0 && step % o.evaluate_every == 0 && !corpus.held_out.empty())
      progress.log(fmt::format("step {}  held out ({} KiB of it): {:.4f} bits/byte", step, o.held_out_kib, [&] {
        opt.evaluation(ctx, state, params, at);
        return bits_per_byte(ctx, evaluated, corpus.held_out, o.held_out_kib * 1024);
      }()));
  }
  progress.clear();
  save();
  if (step == o.steps && !corpus.held_out.empty()) {
    progress.log("evaluating on all held-out text");
    progress.log(fmt::format("held out, {} bytes: {:.4f} bits/byte (as saved, bf16: {:.4f})", bytes(corpus.held_out),
                             bits_per_byte(ctx, evaluated, corpus.held_out),
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
  app.add_option("--optimizer", o.optimizer, "Its name; see --list-optimizers")->check([](const std::string& name) {
    const auto names = optim::optimizer_names<float>();
    return std::find(names.begin(), names.end(), name) != names.end()
               ? std::string()
               : fmt::format("no optimizer '{}'; there are: {}", name, fmt::join(names, ", "));
  });
  app.add_option("--hyper", o.hyper, "Hyper-parameters of the optimizer, NAME=NUMBER each");
  app.add_flag_callback(
      "--list-optimizers",
      [] {
        for (const auto& name : optim::optimizer_names<float>()) {
          fmt::print("{:<18}", name);
          for (const auto& [hyper, usual] : optim::optimizer_hyper_parameters<float>(name))
            fmt::print(" {}={:g}", hyper, usual);
          fmt::print("\n");
        }
        throw CLI::Success();
      },
      "Print the names and their hyper-parameters with usual values");
  app.add_option("--rate", o.rate, "Peak learning rate; 2e-3 for adamw, else by default the optimizer's usual one")
      ->check(number_in(1e-12, 1e3));
  app.add_option("--weight-decay", o.weight_decay, "Decoupled weight decay of matrices")->check(number_in(0, 1e3));
  app.add_option("--beta2", o.beta2, "Second moment decay of Adam and its kin")->check(number_in(0, 0.99999999));
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
