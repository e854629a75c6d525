/// Text from a model, token by token.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <string>
#include <tessera/core/context.hpp>
#include <vector>

#include "checkpoint.hpp"
#include "formats.hpp"
#include "options.hpp"
#include "progress.hpp"
#include "sampler.hpp"
#include "vocabulary.hpp"

namespace {

using namespace lm;

struct Options {
  std::string model = LM_DEFAULT_MODEL, tokenizer, prompt, weights = "f32", kv = "f32";
  Sampling sampling;
  Index steps = 200, threads = 1;
};

void generate(const Options& o) {
  const auto weights = weight_formats();
  const WeightFormat& format = find(weights, o.weights);
  find(kv_formats(512), o.kv);  // a name that is none is said before the model is read
  const Model model = load_model(o.model);
  const bool within = o.tokenizer.empty() && o.model.ends_with(".gguf");
  const Vocabulary vocabulary(model.config, within ? o.model : o.tokenizer);
  Context ctx = Context::with_threads(o.threads);
  const Network network(ctx, model, format);
  const auto caches = kv_formats(model.config.context);
  Decoder decoder(network, find(caches, o.kv));

  auto tokens = vocabulary.encode(o.prompt);
  if (static_cast<Index>(tokens.size()) >= model.config.context)
    throw tessera::format_error(fmt::format("the prompt has {} tokens; expected fewer than the context of {}",
                                            tokens.size(), model.config.context));
  fmt::print("{}", o.prompt);
  Buffer<float> logits(model.config.vocab);
  const MatrixView<float> last(logits.data(), 1, model.config.vocab);
  Sampler sampler(o.sampling);
  const StopRequest stop;
  decoder.read(ctx, tokens, last);
  std::int32_t previous = tokens.back();
  const Index steps = std::min(o.steps, model.config.context - static_cast<Index>(tokens.size()) + 1);
  Index made = 0;
  const Stopwatch clock;
  while (made < steps && !stop) {
    const std::int32_t token = sampler.next(logits);
    ++made;
    if (token == vocabulary.start()) break;  // the next document
    const std::string text = vocabulary.decode(previous, token);
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
    previous = token;
    if (made < steps) decoder.read(ctx, {&token, 1}, last);
  }
  fmt::print("\n");
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) throw tessera::io_error("cannot write the text");
  fmt::print(stderr, "{} tokens, {:.0f} tok/s, weights {} bytes, KV cache {} bytes\n", made,
             static_cast<double>(made) / clock.seconds(), network.bytes(), decoder.kv_bytes());
}

template <class Format>
std::string names(const std::vector<Format>& formats) {
  std::string all;
  for (const auto& format : formats) all += (all.empty() ? "" : ", ") + format.name;
  return all;
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app("Writes text from a model to standard output; figures go to standard error.");
  app.option_defaults()->always_capture_default();
  app.add_option("--model", o.model, "A model saved by train_lm, a llama2.c .bin or a .gguf");
  app.add_option("--tokenizer", o.tokenizer, "A llama2.c tokenizer or a .gguf, for models of more than bytes");
  app.add_option("--prompt", o.prompt, "The beginning");
  app.add_option("--steps", o.steps, "Tokens at most; the context is a bound too")->check(CLI::Range(1, 1000000000));
  app.add_option("--temperature", o.sampling.temperature, "0: always the likeliest")->check(number_in(0, 100));
  app.add_option("--top-p", o.sampling.top_p, "Mass of the tokens drawn from")->check(number_in(0, 1));
  app.add_option("--seed", o.sampling.seed, "Of the draws")->check(natural_number());
  app.add_option("--weights", o.weights, "One of " + names(weight_formats()));
  app.add_option("--kv", o.kv, "One of " + names(kv_formats(512)));
  app.add_option("--threads", o.threads, "The same text for any number")->check(CLI::Range(1, 1024));
  return run_program("generate", app, argc, argv, [&] { generate(o); });
}
