/// A cache's whole life under every policy: filled once, made smaller, then asked more than once; at equal bytes.
/// After Y. Li et al., "SCBench: A KV Cache-Centric Analysis of Long-Context Methods" (ICLR 2025).
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <tessera/core/context.hpp>
#include <tessera/simd/isa.hpp>
#include <vector>

#include "checkpoint.hpp"
#include "experiment.hpp"
#include "formats.hpp"
#include "kv_lab_life.hpp"
#include "plot.hpp"
#include "progress.hpp"
#include "vocabulary.hpp"

namespace {

using namespace lm;

struct Options : ExperimentOptions {
  std::vector<std::string> codecs{"f16", "int8", "int4", "int2", "bfp4"};
  std::vector<std::string> more_codecs{
      "int3",         "staircase segment=8", "zip group=32 recent=16", "gear int4 chunk=32", "rotated int4",
      "rotated int2", "shrunk f16",          "matryoshka f16",         "think f16"};
  std::vector<std::string> policies, few;
  std::vector<double> shares{0.5, 0.25, 0.125, 0.0625};
  Index tokens = 768, windows = 6;
  double tolerance = 0.02;
};

/// Whether what was measured is what was asked for: '=', or '<' and '>' where policy or codec cannot meet it.
char met(double measured, double asked, double tolerance) {
  if (std::isnan(measured)) return ' ';
  return measured < asked * (1 - tolerance) ? '<' : measured > asked * (1 + tolerance) ? '>' : '=';
}
std::string number(double x, int digits) { return std::isnan(x) ? "-" : fmt::format("{:.{}f}", x, digits); }
std::string share_text(double measured, double asked, double tolerance) {
  return fmt::format("{}{}", number(measured, 3), met(measured, asked, tolerance));
}

void print(const std::vector<KvLabRow>& rows, const std::vector<RetrievalTask>& tasks, double tolerance) {
  fmt::print(
      "\nbytes: held after compression, of the f16 cache of what was read; = within {:.2g} of what was asked for, < or "
      "> where\npolicy and codec cannot meet it. Right answers by turn, each turn after the others (t1 t2 t3: the "
      "policy saw the queries of\nthe first alone) or of the compressed cache itself (shared, the mean). KL: bits a "
      "token against the full f32 cache.\n",
      tolerance);
  double share = -1;
  for (const KvLabRow& r : rows) {
    if (r.share != share) {
      fmt::print("\nAt {:.3g} of the bytes\n{:<24}{:<24}{:>8}{:>6}{:>6}{:>6}{:>8}", r.share, "policy", "codec", "bytes",
                 "t1", "t2", "t3", "shared");
      for (const auto& task : tasks) fmt::print("{:>14}", task.name);
      fmt::print("{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}\n", "steps/s", "bytes", "KL", "shared", "b/B t1", "b/B t3",
                 "tok/s");
      share = r.share;
    }
    fmt::print("{:<24}{:<24}{:>8}", r.policy, r.codec, share_text(r.retrieval_share, r.share, tolerance));
    for (const double right : r.multi_turn.accuracy) fmt::print("{:>6}", number(right, 2));
    fmt::print("{:>8}", number(mean(r.shared.accuracy), 2));
    for (std::size_t t = 0; t < tasks.size(); ++t)
      fmt::print("{:>14}", number(r.task_accuracy.empty() ? not_measured : r.task_accuracy[t], 2));
    fmt::print("{:>9}{:>9}{:>9.4f}{:>9.4f}{:>9.3f}{:>9.3f}{:>9.0f}\n", number(r.retrieval_speed, 0),
               share_text(r.text_share, r.share, tolerance), mean(r.multi_turn.divergence), mean(r.shared.divergence),
               r.multi_turn.bits_per_byte.front(), r.multi_turn.bits_per_byte.back(), r.text_speed);
  }
}

void print_frontier(const PlotPanel& panel) {
  fmt::print("\nFrontier: {}\n{:>8}{:>20}  {}\n", panel.title, "bytes", panel.value, "policy and codec");
  for (const PlotPoint& p : frontier(panel.points))
    fmt::print("{:>8.3f}{:>20.4f}  {}\n", p.bytes / 1024, p.bits_per_byte, p.label);
}

nlohmann::json as_json(const KvLabLife& life) {
  return {{"accuracy", life.accuracy}, {"bits per byte", life.bits_per_byte}, {"KL", life.divergence}};
}
nlohmann::json as_json(const std::vector<KvLabRow>& rows, const std::vector<RetrievalTask>& tasks, double tolerance) {
  auto list = nlohmann::json::array();
  for (const KvLabRow& r : rows) {
    nlohmann::json by_task = nlohmann::json::object();
    for (std::size_t t = 0; t < r.task_accuracy.size(); ++t) by_task[tasks[t].name] = r.task_accuracy[t];
    list.push_back({{"policy", r.policy},
                    {"codec", r.codec},
                    {"share", r.share},
                    {"retrieval share", r.retrieval_share},
                    {"retrieval bytes", std::string(1, met(r.retrieval_share, r.share, tolerance))},
                    {"text share", r.text_share},
                    {"text bytes", std::string(1, met(r.text_share, r.share, tolerance))},
                    {"multi-turn", as_json(r.multi_turn)},
                    {"shared context", as_json(r.shared)},
                    {"tasks", by_task},
                    {"retrieval steps/s", r.retrieval_speed},
                    {"decode tok/s", r.text_speed}});
  }
  return list;
}

std::vector<PlotPanel> panels(const std::vector<KvLabRow>& rows) {
  PlotPanel text{"Text after compression", {}, "KL, bits a token"}, answers{"Retrieval", {}, "wrong answers"};
  for (const KvLabRow& r : rows) {
    const std::string label = r.policy + (r.codec == "f16" ? "" : ", " + r.codec);
    text.points.push_back({label, r.text_share * 1024, mean(r.multi_turn.divergence)});
    if (!std::isnan(r.retrieval_share))
      answers.points.push_back({label, r.retrieval_share * 1024, 1 - mean(r.multi_turn.accuracy)});
  }
  text.frontier = answers.frontier = true;
  text.bytes = answers.bytes = "bytes of 1 KiB in f16";
  return {text, answers};
}

void run(const Options& o) {
  check_writable(o);
  const Model model = load_model(o.model);
  const Vocabulary vocabulary(model.config, o.tokenizer);
  const Corpus corpus = read_corpus(o.text);
  Context ctx = Context::with_threads(o.threads);
  const Network network(ctx, model, weight_formats().front());
  TextLife text(ctx, network, vocabulary, evaluation_text(vocabulary, corpus.held_out, model.config.context), o.windows,
                corpus.train);
  RetrievalLife retrieval(ctx, o.tokens);
  fmt::print("{}: context {}, {} windows of {}; retrieval over {} tokens; {} threads, {}\n", o.model,
             model.config.context, text.windows(), o.text, o.tokens, o.threads,
             tessera::isa_text(tessera::active_isa()));

  for (const auto* codecs : {&o.codecs, &o.more_codecs})
    for (const auto& codec : *codecs) retrieval.check_codec(ctx, codec);
  const auto policies = kv_lab_policies();
  const auto named = [&](const std::vector<std::string>& names) {
    std::vector<const KvLabPolicy*> some;
    for (const auto& name : names) some.push_back(&find(policies, name));
    return some;
  };
  const auto named_or_all = [&](const std::vector<std::string>& names) {
    auto some = named(names);
    if (names.empty())
      for (const auto& policy : policies)
        if (policy.compress) some.push_back(&policy);
    return some;
  };
  const auto most = named_or_all(o.policies), few = named_or_all(o.few);
  struct Case {
    const KvLabPolicy* policy;
    std::string codec;
    double share;
  };
  const auto fits = [](const KvLabPolicy& policy, const std::string& codec) { return codec.starts_with(policy.codec); };
  std::vector<Case> cases;
  for (const auto* codecs : {&o.codecs, &o.more_codecs})
    for (const auto& codec : *codecs) {
      cases.push_back({&policies.front(), codec, 1});
      for (const double share : o.shares) {
        for (const auto* policy : codecs == &o.codecs ? most : few)
          if (fits(*policy, codec)) cases.push_back({policy, codec, share});
        if (codecs == &o.more_codecs && !o.few.empty())
          for (const auto& policy : policies)
            if (!policy.codec.empty() && fits(policy, codec)) cases.push_back({&policy, codec, share});
      }
    }

  std::vector<KvLabRow> rows(1);
  rows.front().policy = policies.front().name;
  rows.front().codec = "f32";
  retrieval.read(ctx, policies.front(), rows.front());
  text.read(ctx, policies.front(), rows.front(), true);
  Progress progress;
  double done = 0;
  double whole = 0;  // the more of what all tokens take in the codec that cases are at
  std::map<std::string, std::vector<double>> wide;
  for (const Case& one : cases) {
    progress.bar(done++ / static_cast<double>(cases.size()),
                 fmt::format("{} {} {:.3g}", one.policy->name, one.codec, one.share));
    KvLabRow row;
    row.policy = one.policy->name;
    row.codec = one.codec;
    row.share = one.share;
    if (one.policy->compress && one.share >= whole) {  // nothing would go
      auto& list = wide[one.codec];
      if (list.empty() || list.back() != one.share) list.push_back(one.share);
      continue;
    }
    retrieval.read(ctx, *one.policy, row);
    text.read(ctx, *one.policy, row);
    if (!one.policy->compress) whole = std::max(row.text_share, row.retrieval_share);
    rows.push_back(std::move(row));
  }
  progress.clear();
  std::sort(rows.begin() + 1, rows.end(), [](const KvLabRow& a, const KvLabRow& b) {
    if (a.share != b.share) return a.share > b.share;
    if (a.codec != b.codec) return a.codec < b.codec;
    const double x = mean(a.multi_turn.divergence), y = mean(b.multi_turn.divergence);
    return x != y ? x < y : a.policy < b.policy;
  });
  print(rows, retrieval.tasks(), o.tolerance);
  for (const auto& [codec, shares] : wide)
    fmt::print("\n{}: all tokens take fewer bytes than {:.3g} of f16's\n", codec, fmt::join(shares, ", "));
  const auto drawn = panels(rows);
  for (const PlotPanel& panel : drawn) print_frontier(panel);
  write_json(o, {{"model", o.model}, {"text", o.text}, {"rows", as_json(rows, retrieval.tasks(), o.tolerance)}});
  if (!o.plot.empty()) write_plot(o.plot, drawn);
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app("Compares policies and codecs of a KV cache over its whole life at equal bytes.");
  o.add_to(app);
  app.add_option(
      "--codecs", o.codecs,
      "Codecs for --policies: any name that make_kv_cache takes, with its numbers; think f16, matryoshka f16");
  app.add_option("--more-codecs", o.more_codecs, "Codecs for --few");
  app.add_option("--policies", o.policies, "Names of policies for --codecs; none: all of them");
  app.add_option("--few", o.few,
                 "Names of policies for --more-codecs, beside those made for the codec; none: all of them");
  app.add_option("--shares", o.shares, "Bytes to keep, of the f16 cache")->check(number_in(0.001, 1));
  app.add_option("--tolerance", o.tolerance, "How far bytes may be from that, relative")->check(number_in(0, 1));
  app.add_option("--tokens", o.tokens, "Of context in the retrieval tasks")->check(CLI::Range(64, 1 << 16));
  app.add_option("--windows", o.windows, "Of text")->check(CLI::Range(1, 1 << 16));
  return run_program("kv_lab", app, argc, argv, [&] { run(o); });
}
