/// Optimizers side by side: each trains the same small model on the same batches for equal tokens.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <tessera/core/context.hpp>
#include <tessera/simd/roof.hpp>
#include <vector>

#include "curves.hpp"
#include "experiment.hpp"
#include "optim_task.hpp"
#include "progress.hpp"

namespace {

using namespace lm;
using tessera::Context;

struct Options : ExperimentOptions {
  std::string task = "lm", mnist = "../shared/data/mnist14x14.safetensors";
  std::vector<std::string> optimizers{"sgd",       "momentum",   "adamw", "nadam", "adan",      "ademamix",
                                      "adopt",     "lion",       "mars",  "lamb",  "adam_mini", "sophia",
                                      "adafactor", "adamw_8bit", "muon",  "scion", "prodigy",   "schedule_free"};
  std::vector<double> factors{0.1, 0.3, 1, 3};
  Index steps = 200, tune_steps = 200, batch = 8, hidden_units = 64;
  Config model{.dim = 64, .hidden = 176, .layers = 2, .heads = 4, .kv_heads = 2, .context = 128};
  std::uint64_t seed = 1;
};

struct Row {
  std::string optimizer;
  double rate = 0;
  std::size_t state_bytes = 0;
  std::vector<double> losses;  // of each step, in the task's unit
  double train = 0, held_out = 0;
  double per_second = 0, step_ms = 0;  // examples; of the optimizer alone
};

/// Mean of the last tenth.
double end_of(const std::vector<double>& losses) {
  const std::size_t n = std::max<std::size_t>(losses.size() / 10, 1);
  double sum = 0;
  for (std::size_t i = losses.size() - n; i < losses.size(); ++i) sum += losses[i];
  return sum / static_cast<double>(n);
}

/// A run that is lost has an infinite loss from there on.
Row train(Context& ctx, OptimTask& task, const std::string& name, double rate, Index steps) {
  const bool schedule_free = name == "schedule_free";
  const optim::warmup_cosine schedule{.init = 0.1 * rate,
                                      .peak = rate,
                                      .warmup_steps = steps / 10,
                                      .decay_steps = steps,
                                      .end = schedule_free ? rate : 0.03 * rate};
  const auto opt = optim::make_optimizer<float>(name, {rate_of(name, schedule, rate)}, task.masks);
  task.restart();
  auto state = opt.init(task.params());
  Row row;
  row.optimizer = name;
  row.rate = rate;
  row.state_bytes = state.state_bytes();
  double inside = 0;
  const double start = tessera::roof::seconds();
  Index step = 0;
  const auto timed = [&](auto&& f) {
    const double begin = tessera::roof::seconds();
    const double loss = f();
    inside += tessera::roof::seconds() - begin;
    return loss;
  };
  const optim::Objective<float> objective{.gradient =
                                              [&] {
                                                return timed([&] {
                                                  const double loss = task.gradient(ctx, step);
                                                  clip_gradients(ctx, task.grads(), 1);
                                                  return loss;
                                                });
                                              },
                                          .loss = [&] { return timed([&] { return task.loss(ctx, step); }); },
                                          .targets = task.targets(ctx, step)};
  try {
    for (; step < steps; ++step)
      row.losses.push_back(task.in_unit * opt.step(ctx, objective, task.grads(), state, task.params()));
  } catch (const tessera::property_error&) {
    row.losses.resize(static_cast<std::size_t>(steps), std::numeric_limits<double>::infinity());
  }
  const double seconds = std::max(tessera::roof::seconds() - start, 1e-9);
  row.train = end_of(row.losses);
  row.per_second = static_cast<double>(steps * task.examples) / seconds;
  row.step_ms = 1e3 * (seconds - inside) / static_cast<double>(steps);
  std::vector<Buffer<float>> memory;
  auto evaluated = task.params();
  for (auto& block : evaluated) {
    memory.emplace_back(block.size());
    block.data = memory.back().data();
  }
  opt.evaluation(ctx, state, task.params(), evaluated);
  for (std::size_t b = 0; b < evaluated.size(); ++b)
    std::copy_n(evaluated[b].data, evaluated[b].size(), task.params()[b].data);
  row.held_out = task.held_out(ctx);
  return row;
}

/// "NAME" or "NAME=RATE".
struct Entry {
  std::string name;
  std::optional<double> rate;
};
Entry parse(const std::string& text) {
  const auto equals = text.find('=');
  if (equals == std::string::npos) return {text, {}};
  const auto rate = parse_hyper_parameters({text}).front();
  return {rate.name, rate.value};
}

/// The run at the rate that is given, or at the multiple of the usual one whose run of --tune-steps ends lowest.
Row best_run(Context& ctx, OptimTask& task, const Options& o, const Entry& entry, Progress& progress) {
  const double usual = optim::optimizer_hyper_parameters<float>(entry.name).at("rate");
  const auto at = [&](double rate, Index steps) {
    progress.show(fmt::format("{}: rate {:.3g}, {} steps", entry.name, rate, steps));
    return train(ctx, task, entry.name, rate, steps);
  };
  if (entry.rate || o.tune_steps == 0) return at(entry.rate.value_or(usual), o.steps);
  const Index steps = std::min(o.tune_steps, o.steps);
  Row best = at(o.factors.front() * usual, steps);
  for (std::size_t i = 1; i < o.factors.size(); ++i)
    if (Row other = at(o.factors[i] * usual, steps); other.train < best.train) best = std::move(other);
  return steps == o.steps ? best : at(best.rate, o.steps);
}

nlohmann::json as_json(const std::vector<Row>& rows, bool tokens) {
  auto list = nlohmann::json::array();
  for (const Row& r : rows)
    list.push_back({{"optimizer", r.optimizer},
                    {"rate", r.rate},
                    {"state bytes", r.state_bytes},
                    {"train", r.train},
                    {"held out", r.held_out},
                    {tokens ? "tokens/s" : "images/s", r.per_second},
                    {"step ms", r.step_ms},
                    {"losses", r.losses}});
  return list;
}

/// Means of so many steps that some 50 remain.
Curve curve_of(const Row& row) {
  const std::size_t each = std::max<std::size_t>(row.losses.size() / 50, 1);
  Curve curve{fmt::format("{} {:.3f}", row.optimizer, row.train), {}};
  for (std::size_t i = 0; i < row.losses.size(); i += each) {
    double sum = 0;
    const std::size_t end = std::min(i + each, row.losses.size());
    for (std::size_t j = i; j < end; ++j) sum += row.losses[j];
    curve.values.push_back(sum / static_cast<double>(end - i));
  }
  return curve;
}

int run(const Options& o) {
  check_writable(o);
  if (o.task == "mnist" && !std::filesystem::exists(o.mnist)) {
    fmt::print("skipped: {} is not there\n", o.mnist);
    return 77;
  }
  o.model.check();
  std::vector<Entry> entries;
  for (const auto& text : o.optimizers) {
    entries.push_back(parse(text));
    optim::make_optimizer<float>(entries.back().name);  // unknown names are refused before any work
  }
  const auto task = o.task == "lm" ? language_task(o.model, o.text, o.batch, o.seed)
                                   : mnist_task(o.mnist, o.hidden_units, o.batch, o.seed);
  Context ctx = Context::with_threads(o.threads);
  const std::string unit = o.task == "lm" ? "bytes" : "images";
  fmt::print("{}: {} parameters, {} steps of {} {}; rates {}; {} threads\n\n", o.task, task->parameter_count(), o.steps,
             task->examples, unit,
             o.tune_steps > 0
                 ? fmt::format("the best of {} multiples of the usual one in {} steps", o.factors.size(), o.tune_steps)
                 : std::string("the usual ones"),
             o.threads);
  fmt::print("{:<18}{:>10}{:>13}{:>9}{:>12}{:>12}{:>12}{:>10}\n", "optimizer", "rate", "state bytes", "a param",
             "train", "held out", o.task == "lm" ? "tokens/s" : "images/s", "step ms");
  Progress progress;
  std::vector<Row> rows;
  for (const auto& entry : entries) {
    rows.push_back(best_run(ctx, *task, o, entry, progress));
    const Row& r = rows.back();
    progress.clear();
    fmt::print("{:<18}{:>10.3g}{:>13}{:>9.2f}{:>12.4f}{:>12.4f}{:>12.0f}{:>10.3f}\n", r.optimizer, r.rate,
               r.state_bytes, static_cast<double>(r.state_bytes) / static_cast<double>(4 * task->parameter_count()),
               r.train, r.held_out, r.per_second, r.step_ms);
    std::fflush(stdout);
  }
  write_json(o, {{"task", o.task},
                 {"parameters", task->parameter_count()},
                 {"steps", o.steps},
                 {"examples a step", task->examples},
                 {"train unit", task->loss_unit},
                 {"held out unit", task->held_out_unit},
                 {"rows", as_json(rows, o.task == "lm")}});
  if (!o.plot.empty()) {
    std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) {
      return a.train != b.train ? a.train < b.train : a.optimizer < b.optimizer;
    });
    std::vector<Curve> curves;
    for (const Row& row : rows) curves.push_back(curve_of(row));
    write_curves(o.plot, "Training loss, best last tenth first", unit, static_cast<double>(o.steps * task->examples),
                 task->loss_unit, curves);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app("Trains one small model by many optimizers on the same batches, and compares what they reach.");
  o.threads = 1;
  o.add_to(app, ExperimentOptions::of_training);
  app.add_option("--task", o.task, "lm: the decoder on text; mnist: a classifier of digits")
      ->check(CLI::IsMember({"lm", "mnist"}));
  app.add_option("--mnist", o.mnist, "The digits; where they are not there, the task is skipped");
  app.add_option("--optimizers", o.optimizers, "NAME, or NAME=RATE to take that rate as it is");
  app.add_option("--steps", o.steps, "Of each optimizer")->check(CLI::Range(1, 1000000));
  app.add_option("--tune-steps", o.tune_steps,
                 "Of each run that tunes a rate: shorter ones than --steps choose higher rates; 0: the usual rates")
      ->check(number_in(0, 1e6));
  app.add_option("--factors", o.factors, "Multiples of the usual rate to choose from")->check(number_in(1e-9, 1e9));
  app.add_option("--batch", o.batch, "Sequences or images a step")->check(CLI::Range(1, 4096));
  app.add_option("--length", o.model.context, "Bytes a sequence")->check(CLI::Range(2, 65536));
  app.add_option("--dim", o.model.dim, "Model width");
  app.add_option("--hidden", o.model.hidden, "Width of the SwiGLU layers");
  app.add_option("--layers", o.model.layers, "Layers");
  app.add_option("--hidden-units", o.hidden_units, "Of the classifier; 0: logistic regression")
      ->check(CLI::Range(0, 65536));
  app.add_option("--seed", o.seed, "Of the first parameters and the batches")->check(natural_number());
  int status = 0;
  const int failed = run_program("optim_lab", app, argc, argv, [&] { status = run(o); });
  return failed != 0 ? failed : status;
}
