/// Bits per byte and divergence of a model on held-out text.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "corpus.hpp"
#include "decoder.hpp"
#include "vocabulary.hpp"

namespace lm {

/// A stretch of tokens read from an empty cache; predictions of tokens[i + 1] are scored for i >= first_scored.
struct Window {
  std::span<const std::int32_t> tokens;
  Index first_scored = 0;
};

/// Windows of up to `context` + 1 tokens over each document, overlapping by half, so that every token but a document's
/// first is scored once, and past the first window with at least half a context before it.
std::vector<Window> windows(std::span<const std::int32_t> document, Index context);

/// Documents cut into windows.
struct EvaluationText {
  std::vector<std::vector<std::int32_t>> documents;  // each with its start token
  std::vector<Window> windows;                       // of the documents
  Index bytes = 0;                                   // that the scored tokens stand for
};

/// Windows spread evenly over all documents, of about `most` scored bytes; 0: all of them.
EvaluationText evaluation_text(const Vocabulary& vocabulary, const std::vector<Document>& documents, Index context,
                               Index most = 0);

/// Log-probabilities of the reference model at every scored place, (places, vocab).
using Reference = std::vector<float>;

struct Evaluation {
  double bits_per_byte = 0;
  double divergence = 0;         // mean KL(reference || this) in bits a token
  double tokens_per_second = 0;  // of reading
  double kv_bytes = 0;           // mean over windows of the most held after a block
  double keys_met = 0;           // by a head's query, where the format counts what attention reads; mean of all read
  double bytes_read = 0;         // by the attention of a token, likewise
};

/// Reads every window in blocks of `block` tokens (0: at once). Keeps the log-probabilities in `keep`, compares with
/// `reference`, where they are given. `tick(share done)` is called after each window.
Evaluation evaluate(Context& ctx, const Network& network, const KvFormat& format, const EvaluationText& text,
                    Index block = 0, const Reference* reference = nullptr, Reference* keep = nullptr,
                    const std::function<void(double)>& tick = {});

/// Of `most` bytes of the documents (0: all), weights and cache in f32.
double bits_per_byte(Context& ctx, const Model& model, const std::vector<Document>& documents, Index most = 0);

/// Tokens a second, one at a time, after `prompt` of them: the best of three.
double decode_speed(Context& ctx, const Network& network, const KvFormat& format, std::span<const std::int32_t> tokens,
                    Index prompt);

}  // namespace lm
