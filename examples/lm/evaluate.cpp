#include "evaluate.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <tessera/kernels/rows/rows.hpp>

#include "formats.hpp"
#include "progress.hpp"

namespace lm {

std::vector<Window> windows(std::span<const std::int32_t> document, Index context) {
  std::vector<Window> all;
  const Index n = static_cast<Index>(document.size());
  for (Index start = 0, scored = 0; scored < n - 1;) {
    const Index end = std::min(start + context, n - 1);
    all.push_back(
        {document.subspan(static_cast<std::size_t>(start), static_cast<std::size_t>(end - start + 1)), scored - start});
    scored = end;
    start = std::max<Index>(0, end - context / 2);
  }
  return all;
}

EvaluationText evaluation_text(const Vocabulary& vocabulary, const std::vector<Document>& documents, Index context,
                               Index most) {
  EvaluationText text;
  std::vector<Window> all;
  for (const auto& document : documents) {
    text.documents.push_back(vocabulary.encode(document.text));
    const auto more = windows(text.documents.back(), context);  // moving a vector leaves its elements where they are
    all.insert(all.end(), more.begin(), more.end());
  }
  const Index total = static_cast<Index>(bytes(documents));
  const auto each = static_cast<std::size_t>(most == 0 ? 1 : std::max<Index>((total + most - 1) / most, 1));
  for (std::size_t w = std::min(each / 2, std::max<std::size_t>(all.size(), 1) - 1); w < all.size(); w += each) {
    const auto tokens = all[w].tokens;
    for (auto i = static_cast<std::size_t>(all[w].first_scored); i + 1 < tokens.size(); ++i)
      text.bytes += static_cast<Index>(vocabulary.decode(tokens[i], tokens[i + 1]).size());
    text.windows.push_back(all[w]);
  }
  return text;
}

Evaluation evaluate(Context& ctx, const Network& network, const KvFormat& format, const EvaluationText& text,
                    Index block, const Reference* reference, Reference* keep, const std::function<void(double)>& tick) {
  const Config& c = network.config();
  Decoder decoder(network, format);
  Index longest = 0;
  for (const Window& window : text.windows) longest = std::max(longest, static_cast<Index>(window.tokens.size()));
  Buffer<float> memory(longest * c.vocab), lse(longest);
  double nats = 0, divergence = 0, seconds = 0, kv_bytes = 0;
  AttentionReads reads;
  Index scored = 0, read = 0, count = 0;
  std::size_t at = 0;
  for (const Window& window : text.windows) {
    const Index n = static_cast<Index>(window.tokens.size()) - 1;
    const MatrixView<float> logits(memory.data(), n, c.vocab);
    const Stopwatch clock;
    decoder.restart();
    const Index step = block > 0 ? block : n;
    std::size_t most_held = 0;
    for (Index begin = 0; begin < n; begin += step) {
      const Index part = std::min(step, n - begin);
      decoder.read(ctx, window.tokens.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(part)),
                   logits.slice(0, begin, part));
      most_held = std::max(most_held, decoder.kv_bytes());
    }
    seconds += clock.seconds();
    read += n;
    kv_bytes += static_cast<double>(most_held);
    reads.keys += decoder.reads().keys;
    reads.bytes += decoder.reads().bytes;
    const VectorView<float> sums(lse.data(), n);
    tessera::log_sum_exp_rows(ctx, logits, sums);
    for (Index i = window.first_scored; i < n; ++i) {
      const float* row = logits.row(i).data();
      nats += static_cast<double>(sums[i] - row[window.tokens[static_cast<std::size_t>(i + 1)]]);
      ++scored;
      if (keep != nullptr)
        for (Index j = 0; j < c.vocab; ++j) keep->push_back(row[j] - sums[i]);
      if (reference != nullptr)
        for (Index j = 0; j < c.vocab; ++j) {
          const double expected = static_cast<double>((*reference)[at++]);
          divergence += std::exp(expected) * (expected - static_cast<double>(row[j] - sums[i]));
        }
    }
    if (tick) tick(static_cast<double>(++count) / static_cast<double>(text.windows.size()));
  }
  Evaluation result;
  result.bits_per_byte = nats / std::numbers::ln2 / static_cast<double>(std::max<Index>(text.bytes, 1));
  result.divergence = std::max(0.0, divergence) / std::numbers::ln2 / static_cast<double>(std::max<Index>(scored, 1));
  result.tokens_per_second = static_cast<double>(read) / std::max(seconds, 1e-9);
  result.kv_bytes = kv_bytes / static_cast<double>(std::max<std::size_t>(text.windows.size(), 1));
  const auto tokens = static_cast<double>(std::max<Index>(read, 1));
  result.keys_met = reads.keys / (tokens * static_cast<double>(c.layers * c.heads));
  result.bytes_read = reads.bytes / tokens;
  return result;
}

double bits_per_byte(Context& ctx, const Model& model, const std::vector<Document>& documents, Index most) {
  const Network network(ctx, model, weight_formats().front());
  const auto caches = kv_formats(model.config.context);
  const Vocabulary bytes(model.config, "");
  return evaluate(ctx, network, caches.front(), evaluation_text(bytes, documents, model.config.context, most))
      .bits_per_byte;
}

double decode_speed(Context& ctx, const Network& network, const KvFormat& format, std::span<const std::int32_t> tokens,
                    Index prompt) {
  Decoder decoder(network, format);
  Buffer<float> logits(network.config().vocab);
  const MatrixView<float> last(logits.data(), 1, logits.size());
  const auto first = static_cast<std::size_t>(prompt);
  double best = 0;
  for (int repeat = 0; repeat < 3; ++repeat) {
    decoder.restart();
    decoder.read(ctx, tokens.first(first), last);
    const Stopwatch clock;
    for (std::size_t i = first; i < tokens.size(); ++i) decoder.read(ctx, tokens.subspan(i, 1), last);
    const double seconds = clock.seconds();
    best = std::max(best, static_cast<double>(tokens.size() - first) / std::max(seconds, 1e-9));
    if (seconds > 1) break;  // slow enough to be exact, and to be done with
  }
  return best;
}

}  // namespace lm
