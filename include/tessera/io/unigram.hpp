/// The most likely segmentation of a text into pieces that are drawn independently: a unigram language model.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>
#include <tessera/io/detail/parse.hpp>
#include <tessera/io/tokenizer.hpp>

namespace tessera::inline TESSERA_ABI {

/// Pieces of bytes with log-probabilities, as a trie. Empty pieces and such of probability 0 (-inf) never stand in a
/// text; of equal pieces the likelier one does, and of equally likely ones the first. O(bytes of all pieces) memory.
class UnigramVocabulary {
 public:
  /// Token i is pieces[i]. Throws format_error for numbers that differ, and log-probabilities that are NaN or +inf.
  UnigramVocabulary(std::span<const std::string> pieces, std::span<const float> log_probabilities) {
    if (pieces.size() != log_probabilities.size() ||
        pieces.size() > static_cast<std::size_t>(std::numeric_limits<Token>::max()))
      throw format_error(detail::concat("tessera: a vocabulary of ", pieces.size(), " pieces and ",
                                        log_probabilities.size(), " log-probabilities; expected as many"));
    std::vector<Entry> entries;
    for (std::size_t i = 0; i < pieces.size(); ++i)
      entries.push_back({pieces[i], log_probabilities[i], static_cast<Token>(i)});
    build(std::move(entries));
  }
  /// The pieces of a tokenizer with their scores; control and byte tokens are never what text is.
  explicit UnigramVocabulary(const Tokenizer& tokenizer) {
    std::vector<Entry> entries;
    const auto size = static_cast<Token>(tokenizer.vocab_size());
    for (Token t = Tokenizer::least_size; t < size; ++t) entries.push_back({tokenizer.piece(t), tokenizer.score(t), t});
    build(std::move(entries));
  }

  /// f(length, token, log-probability) for every piece that text begins with, the shortest first.
  /// O(longest piece · log 256).
  template <class F>
  void each_prefix(std::string_view text, F f) const {
    std::size_t node = 0;
    for (std::size_t length = 1; length <= text.size(); ++length) {
      const auto byte = static_cast<unsigned char>(text[length - 1]);
      const auto begin = labels_.begin() + first_[node], end = labels_.begin() + first_[node + 1];
      const auto found = std::lower_bound(begin, end, byte);
      if (found == end || *found != byte) return;
      node = static_cast<std::size_t>(found - labels_.begin());
      if (tokens_[node] >= 0) f(length, tokens_[node], scores_[node]);
    }
  }

 private:
  struct Entry {
    std::string_view piece;
    float score;
    Token token;
  };

  void build(std::vector<Entry> entries) {
    std::size_t total = 0;
    for (const Entry& e : entries) {
      if (std::isnan(e.score) || e.score == std::numeric_limits<float>::infinity())
        throw format_error(detail::concat("tessera: token ", e.token, ", ", detail::quote(e.piece),
                                          ", has a log-probability of ", e.score, "; expected less than infinity"));
      total += e.piece.size();
    }
    if (total >= static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()))
      throw unsupported_error(
          detail::concat("tessera: a vocabulary of ", total, " bytes; expected less than 2^31 - 1"));
    std::erase_if(entries, [](const Entry& e) { return e.piece.empty() || std::isinf(e.score); });
    std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
      if (const int order = a.piece.compare(b.piece); order != 0) return order < 0;
      return a.score != b.score ? a.score > b.score : a.token < b.token;
    });
    // Breadth first, so that the children of a node are neighbours and those of the next node follow them.
    struct Range {
      std::size_t begin, end, depth;
    };
    std::vector<Range> nodes{{0, entries.size(), 0}};
    labels_.push_back(0);
    for (std::size_t k = 0; k < nodes.size(); ++k) {
      auto [at, end, depth] = nodes[k];
      const bool ends = at < end && entries[at].piece.size() == depth;
      tokens_.push_back(ends ? entries[at].token : -1);
      scores_.push_back(ends ? entries[at].score : 0.0f);
      while (at < end && entries[at].piece.size() == depth) ++at;
      first_.push_back(static_cast<std::int32_t>(nodes.size()));
      while (at < end) {
        const char byte = entries[at].piece[depth];
        const std::size_t begin = at;
        while (at < end && entries[at].piece[depth] == byte) ++at;
        nodes.push_back({begin, at, depth + 1});
        labels_.push_back(static_cast<unsigned char>(byte));
      }
    }
    first_.push_back(static_cast<std::int32_t>(nodes.size()));
  }

  std::vector<std::int32_t> first_;    // (nodes + 1): node k's children are first_[k] … first_[k + 1] - 1
  std::vector<unsigned char> labels_;  // (nodes): the byte that leads to each; ascending among siblings
  std::vector<Token> tokens_;          // (nodes): -1 where no piece ends
  std::vector<float> scores_;          // (nodes)
};

struct Segmentation {
  std::vector<Token> tokens;
  double log_likelihood = 0;  // the sum of the tokens', from the left
};

/// The segmentation of `text` with the largest likelihood; of equals that of fewest pieces, then that whose last piece
/// is longest, then the last but one, and so on. Throws unsupported_error, with the byte, for a text that the
/// vocabulary cannot spell. Viterbi's algorithm, O(text · longest piece); 32 bytes a byte of text.
/// T. Kudo, "Subword Regularization: Improving Neural Network Translation Models with Multiple Subword Candidates"
/// (ACL 2018), §3.2; F. Li (2024), on optimal sub-word encoding.
inline Segmentation viterbi_segment(std::string_view text, const UnigramVocabulary& vocabulary) {
  struct Best {
    double log_likelihood = 0;
    std::size_t pieces = 0, begin = 0;  // pieces up to here; where the last one begins
    Token token = -1;                   // none: not reached
  };
  std::vector<Best> best(text.size() + 1);
  std::size_t reached = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const Best from = best[i];
    if (i > 0 && from.token < 0) continue;
    vocabulary.each_prefix(text.substr(i), [&](std::size_t length, Token token, float score) {
      const double sum = from.log_likelihood + static_cast<double>(score);
      Best& to = best[i + length];
      if (to.token < 0 || sum > to.log_likelihood || (sum == to.log_likelihood && from.pieces + 1 < to.pieces))
        to = {sum, from.pieces + 1, i, token};
      reached = std::max(reached, i + length);
    });
  }
  if (reached < text.size())
    throw unsupported_error(detail::concat("tessera: no pieces of the vocabulary spell the text past byte ", reached,
                                           ", from where it is ", detail::quote(text.substr(reached))));
  Segmentation result{std::vector<Token>(best.back().pieces), best.back().log_likelihood};
  std::size_t end = text.size();
  for (std::size_t k = result.tokens.size(); k > 0; end = best[end].begin) result.tokens[--k] = best[end].token;
  return result;
}

}  // namespace tessera::inline TESSERA_ABI
