/// A cache's whole life under every policy: filled once, made smaller, then asked more than once; at equal bytes.
/// After Y. Li et al., "SCBench: A KV Cache-Centric Analysis of Long-Context Methods" (ICLR 2025).
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <numbers>
#include <string>
#include <tessera/core/context.hpp>
#include <tessera/kernels/rows/rows.hpp>
#include <tessera/simd/isa.hpp>
#include <vector>

#include "checkpoint.hpp"
#include "evaluate.hpp"
#include "experiment.hpp"
#include "formats.hpp"
#include "kv_policies.hpp"
#include "plot.hpp"
#include "progress.hpp"
#include "retrieval.hpp"
#include "vocabulary.hpp"

namespace {

using namespace lm;

struct Options : ExperimentOptions {
  std::vector<std::string> codecs{"f16", "int4"};
  std::vector<double> shares{0.5, 0.25, 0.125, 0.0625};
  Index tokens = 768, windows = 6;
};

constexpr std::size_t turns = 3;

struct Row {
  std::string policy, codec;
  double share = 1;                            // asked for, of the f16 cache
  double retrieval_share = 0, text_share = 0;  // measured: bytes held after compression
  std::array<double, turns> accuracy{};        // mean over the tasks, by turn
  std::vector<double> task_accuracy;           // of all turns
  double steps_per_second = 0;
  std::array<double, turns> bits_per_byte{};
  double divergence = 0;  // bits a token
};

double f16_bytes(Index kv_heads, Index n, Index d) { return static_cast<double>(2 * 2 * kv_heads * n * d); }

void retrieve(Context& ctx, const std::vector<RetrievalTask>& tasks, const KvLabPolicy& policy, Row& row) {
  Index steps = 0;
  double seconds = 0;
  for (const RetrievalTask& task : tasks) {
    std::unique_ptr<kv::KvCacheBase> cache =
        kv::make_kv_cache(row.codec, RetrievalTask::kv_heads, RetrievalTask::head_dim).base().clone();
    if (policy.track) policy.track(*cache);
    const auto prompt = task.prompt();
    Buffer<float> out(RetrievalTask::heads * prompt.tokens * RetrievalTask::head_dim);
    cache->append(ctx, prompt.K(), prompt.V());
    cache->attend(ctx, prompt.Q(),
                  View<float, 3>(out.data(), {RetrievalTask::heads, prompt.tokens, RetrievalTask::head_dim}));
    const double whole = f16_bytes(RetrievalTask::kv_heads, prompt.tokens, RetrievalTask::head_dim);
    const auto asked = task.questions(0);  // all that is known when the cache is compressed
    shrink_to(ctx, cache, policy, static_cast<std::size_t>(row.share * whole), {.queries = asked.Q(), .report = false});
    row.retrieval_share += static_cast<double>(cache->bytes()) / whole / static_cast<double>(tasks.size());
    const Stopwatch clock;
    double mean = 0;
    for (std::size_t turn = 0; turn < turns; ++turn) {
      const double right = task.answer(ctx, *cache, turn, steps);
      row.accuracy[turn] += right / static_cast<double>(tasks.size());
      mean += right / static_cast<double>(turns);
    }
    row.task_accuracy.push_back(mean);
    seconds += clock.seconds();
  }
  row.steps_per_second = static_cast<double>(steps) / std::max(seconds, 1e-9);
}

/// Half a window is read and compressed once; the rest are the turns.
class TextLife {
 public:
  TextLife(Context& ctx, const Network& network, const Vocabulary& vocabulary, EvaluationText text, Index most)
      : ctx_(ctx), network_(network), vocabulary_(vocabulary), text_(std::move(text)) {
    const Index context = network.config().context;
    for (const Window& window : text_.windows)
      if (static_cast<Index>(window.tokens.size()) == context + 1 && static_cast<Index>(windows_.size()) < most)
        windows_.push_back(window.tokens);
    if (windows_.empty()) throw tessera::format_error("no held-out text as long as the model's context");
  }
  std::size_t windows() const { return windows_.size(); }

  void read(const KvLabPolicy& policy, Row& row, Reference* keep = nullptr) {
    const Config& c = network_.config();
    const Index n = c.context, prompt = n / 2, turn = (n - prompt) / static_cast<Index>(turns);
    const double whole = f16_bytes(c.kv_heads, prompt, c.head_dim());
    bool compressing = false;
    Buffer<float> queries;
    KvFormat format;
    format.make = [&](Index kv_heads, Index head_dim) {
      auto cache = kv::make_kv_cache(row.codec, kv_heads, head_dim).base().clone();
      if (policy.track) policy.track(*cache);
      return cache;
    };
    format.finish = [&](Context& ctx, std::unique_ptr<kv::KvCacheBase>& cache, View<const float, 3> Q) {
      if (!compressing) return;
      const Index probes = std::min<Index>(16, Q.extent(1)), heads = Q.extent(0), d = Q.extent(2);
      queries = Buffer<float>(heads * probes * d);
      for (Index h = 0; h < heads; ++h)
        for (Index i = 0; i < probes; ++i)
          std::copy_n(&Q(h, Q.extent(1) - probes + i, Index{0}), d, queries.data() + (h * probes + i) * d);
      shrink_to(ctx, cache, policy, static_cast<std::size_t>(row.share * whole),
                {.queries = View<const float, 3>(queries.data(), {heads, probes, d}), .report = false});
    };
    Decoder decoder(network_, format);
    Buffer<float> memory(std::max(turn, prompt) * c.vocab), lse(turn);
    std::array<double, turns> nats{}, bytes{};
    double divergence = 0, scored = 0, held = 0;
    std::size_t at = 0;
    for (const auto& tokens : windows_) {
      decoder.restart();
      compressing = true;
      decoder.read(ctx_, tokens.first(static_cast<std::size_t>(prompt)), MatrixView<float>(memory.data(), 1, c.vocab));
      compressing = false;
      held += static_cast<double>(decoder.kv_bytes());
      for (std::size_t t = 0; t < turns; ++t) {
        const Index begin = prompt + static_cast<Index>(t) * turn;
        const MatrixView<float> logits(memory.data(), turn, c.vocab);
        const VectorView<float> sums(lse.data(), turn);
        decoder.read(ctx_, tokens.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(turn)), logits);
        tessera::log_sum_exp_rows(ctx_, logits, sums);
        for (Index i = 0; i < turn; ++i) {
          const auto place = static_cast<std::size_t>(begin + i);
          nats[t] += static_cast<double>(sums[i] - logits(i, tokens[place + 1]));
          bytes[t] += static_cast<double>(vocabulary_.decode(tokens[place], tokens[place + 1]).size());
          for (Index j = 0; j < c.vocab; ++j) {
            const float log_p = logits(i, j) - sums[i];
            if (keep != nullptr) {
              keep->push_back(log_p);
            } else {
              const double expected = static_cast<double>(reference_[at++]);
              divergence += std::exp(expected) * (expected - static_cast<double>(log_p));
            }
          }
          ++scored;
        }
      }
    }
    for (std::size_t t = 0; t < turns; ++t)
      row.bits_per_byte[t] = nats[t] / std::numbers::ln2 / std::max(bytes[t], 1.0);
    row.divergence = std::max(0.0, divergence) / std::numbers::ln2 / std::max(scored, 1.0);
    row.text_share = held / static_cast<double>(windows_.size()) / (whole * static_cast<double>(c.layers));
  }
  void set_reference(Reference reference) { reference_ = std::move(reference); }

 private:
  Context& ctx_;
  const Network& network_;
  const Vocabulary& vocabulary_;
  EvaluationText text_;
  std::vector<std::span<const std::int32_t>> windows_;
  Reference reference_;
};

void print(const std::vector<Row>& rows, const std::vector<RetrievalTask>& tasks) {
  fmt::print(
      "\nshare: bytes held after compression, of the f16 cache of what was read. Right answers by turn: the policy "
      "saw the\nqueries of turn 1 alone. KL: bits a token against the full f32 cache.\n");
  double share = -1;
  for (const Row& r : rows) {
    if (r.share != share) {
      fmt::print("\nAt {:.3g} of the bytes\n{:<20}{:<14}{:>7}{:>7}{:>7}{:>7}", r.share, "policy", "codec", "share",
                 "t1", "t2", "t3");
      for (const auto& task : tasks) fmt::print("{:>15}", task.name);
      fmt::print("{:>10}{:>8}{:>9}{:>9}{:>9}\n", "steps/s", "share", "b/B t1", "b/B t3", "KL");
      share = r.share;
    }
    fmt::print("{:<20}{:<14}{:>7.3f}", r.policy, r.codec, r.retrieval_share);
    for (const double right : r.accuracy) fmt::print("{:>7.2f}", right);
    for (const double right : r.task_accuracy) fmt::print("{:>15.2f}", right);
    fmt::print("{:>10.0f}{:>8.3f}{:>9.3f}{:>9.3f}{:>9.4f}\n", r.steps_per_second, r.text_share, r.bits_per_byte.front(),
               r.bits_per_byte.back(), r.divergence);
  }
}

nlohmann::json as_json(const std::vector<Row>& rows, const std::vector<RetrievalTask>& tasks) {
  auto list = nlohmann::json::array();
  for (const Row& r : rows) {
    nlohmann::json by_task;
    for (std::size_t t = 0; t < tasks.size(); ++t) by_task[tasks[t].name] = r.task_accuracy[t];
    list.push_back({{"policy", r.policy},
                    {"codec", r.codec},
                    {"share", r.share},
                    {"retrieval share", r.retrieval_share},
                    {"text share", r.text_share},
                    {"accuracy", r.accuracy},
                    {"tasks", by_task},
                    {"steps per second", r.steps_per_second},
                    {"bits per byte", r.bits_per_byte},
                    {"KL", r.divergence}});
  }
  return list;
}

void run(const Options& o) {
  check_writable(o);
  const Model model = load_model(o.model);
  const Vocabulary vocabulary(model.config, o.tokenizer);
  const Corpus corpus = read_corpus(o.text);
  Context ctx = Context::with_threads(o.threads);
  const Network network(ctx, model, weight_formats().front());
  TextLife life(ctx, network, vocabulary, evaluation_text(vocabulary, corpus.held_out, model.config.context),
                o.windows);
  const std::vector<RetrievalTask> tasks{RetrievalTask::lookup(o.tokens, 1), RetrievalTask::prefix_suffix(o.tokens, 2),
                                         RetrievalTask::variables(o.tokens, 3), RetrievalTask::needles(o.tokens, 4)};
  fmt::print("{}: context {}, {} windows of {}; retrieval over {} tokens; {} threads, {}\n", o.model,
             model.config.context, life.windows(), o.text, o.tokens, o.threads,
             tessera::isa_text(tessera::active_isa()));

  const auto policies = kv_lab_policies();
  const KvLabPolicy& all = policies.front();
  std::vector<Row> rows(1);
  rows.front().policy = all.name;
  rows.front().codec = "f32";
  retrieve(ctx, tasks, all, rows.front());
  Reference reference;
  life.read(all, rows.front(), &reference);
  life.set_reference(std::move(reference));
  Progress progress;
  double done = 0;
  const double steps = static_cast<double>(o.shares.size() * o.codecs.size() * policies.size());
  for (const double share : o.shares)
    for (const auto& policy : policies)
      for (const auto& codec : o.codecs) {
        progress.bar(done++ / steps, fmt::format("{} {} {:.3g}", policy.name, codec, share));
        if (!policy.compress && share != o.shares.front()) continue;  // as many bytes whatever is asked
        Row row;
        row.policy = policy.name;
        row.codec = codec;
        row.share = policy.compress ? share : 1;
        retrieve(ctx, tasks, policy, row);
        life.read(policy, row);
        rows.push_back(std::move(row));
      }
  progress.clear();
  std::sort(rows.begin() + 1, rows.end(), [](const Row& a, const Row& b) {
    if (a.share != b.share) return a.share > b.share;
    if (a.codec != b.codec) return a.codec < b.codec;
    return a.divergence != b.divergence ? a.divergence < b.divergence : a.policy < b.policy;
  });
  print(rows, tasks);
  write_json(o, {{"model", o.model}, {"text", o.text}, {"rows", as_json(rows, tasks)}});
  if (!o.plot.empty()) {
    PlotPanel text{"Text after compression", {}, "KL, bits a token"}, answers{"Retrieval", {}, "wrong answers"};
    for (const Row& r : rows) {
      const std::string label = r.policy + (r.codec == "f16" ? "" : " " + r.codec);
      text.points.push_back({label, r.text_share * 1024, r.divergence});
      double wrong = 0;
      for (const double right : r.accuracy) wrong += (1 - right) / static_cast<double>(turns);
      answers.points.push_back({label, r.retrieval_share * 1024, wrong});
    }
    text.frontier = answers.frontier = true;
    text.bytes = answers.bytes = "bytes of 1 KiB in f16";
    write_plot(o.plot, {text, answers});
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app("Compares policies and codecs of a KV cache over its whole life at equal bytes.");
  o.add_to(app);
  app.add_option("--codecs", o.codecs, "Names of codecs, see make_kv_cache");
  app.add_option("--shares", o.shares, "Bytes to keep, of the f16 cache")->check(number_in(0.001, 1));
  app.add_option("--tokens", o.tokens, "Of context in the retrieval tasks")->check(CLI::Range(64, 1 << 16));
  app.add_option("--windows", o.windows, "Of text")->check(CLI::Range(1, 1 << 16));
  return run_program("kv_lab", app, argc, argv, [&] { run(o); });
}
