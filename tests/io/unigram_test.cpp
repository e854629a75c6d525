#include <tessera/io/unigram.hpp>

#include <algorithm>
#include <limits>
#include <tessera/core/rng.hpp>

#include "io_test.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

using Tokens = std::vector<Token>;

struct Pieces {
  std::vector<std::string> texts;
  std::vector<float> scores;
  UnigramVocabulary vocabulary() const { return {texts, scores}; }
  Token find(std::string_view text) const {  // the likeliest, the first of such
    Token best = -1;
    for (std::size_t i = 0; i < texts.size(); ++i)
      if (texts[i] == text && (best < 0 || scores[i] > scores[static_cast<std::size_t>(best)]))
        best = static_cast<Token>(i);
    return best;
  }
};

/// All 2^(n-1) ways to cut a text; false where none is spelled by the pieces.
bool segment_slowly(const Pieces& pieces, std::string_view text, Segmentation& best) {
  bool found = false;
  std::vector<std::size_t> best_order;  // lengths from the last piece to the first
  for (std::size_t cuts = 0; cuts < std::size_t{1} << (text.size() - 1); ++cuts) {
    Segmentation one;
    std::vector<std::size_t> order;
    bool spelled = true;
    for (std::size_t begin = 0, end = 1; spelled && end <= text.size(); ++end) {
      if (end < text.size() && (cuts >> (end - 1) & 1) == 0) continue;
      const Token token = pieces.find(text.substr(begin, end - begin));
      spelled = token >= 0;
      if (!spelled) break;
      one.tokens.push_back(token);
      one.log_likelihood += static_cast<double>(pieces.scores[static_cast<std::size_t>(token)]);
      order.insert(order.begin(), end - begin);
      begin = end;
    }
    if (!spelled) continue;
    const bool better = one.log_likelihood != best.log_likelihood ? one.log_likelihood > best.log_likelihood
                        : one.tokens.size() != best.tokens.size() ? one.tokens.size() < best.tokens.size()
                                                                  : order > best_order;
    if (!found || better) {
      best = one;
      best_order = order;
    }
    found = true;
  }
  return found;
}

TEST(Unigram, EqualsBruteForceOverAllSegmentations) {
  int spelled = 0, refused = 0;
  for (std::uint64_t trial = 0; trial < 30; ++trial) {
    const Philox draws(trial);
    Pieces pieces;
    for (std::uint64_t i = 0; i < 16; ++i) {
      const auto word = draws.block(i);
      std::string text;
      for (std::uint32_t k = 0; k <= word[0] % 4; ++k)
        text += "abc"[word[1] >> (4 * k) & 15 ? word[1] >> (4 * k) & 1 : 2];
      pieces.texts.push_back(text);
      pieces.scores.push_back(-static_cast<float>(word[2] % 12) / 4);  // exact sums, many ties
    }
    const auto vocabulary = pieces.vocabulary();
    for (std::uint64_t w = 0; w < 7; ++w) {
      std::string text;
      for (std::uint64_t k = 0; k <= w; ++k)
        text += "abc"[draws.bits(1000 + 16 * w + k) % 20 == 0 ? 2 : draws.bits(2000 + 16 * w + k) & 1];
      Segmentation expected;
      if (segment_slowly(pieces, text, expected)) {
        const auto got = viterbi_segment(text, vocabulary);
        EXPECT_EQ(got.tokens, expected.tokens) << text;
        EXPECT_EQ(got.log_likelihood, expected.log_likelihood) << text;
        ++spelled;
      } else {
        EXPECT_THROW(viterbi_segment(text, vocabulary), unsupported_error) << text;
        ++refused;
      }
    }
  }
  EXPECT_GT(spelled, 40);
  EXPECT_GT(refused, 20);
}

TEST(Unigram, TiesFewestPiecesThenTheLongestLast) {
  const Pieces pieces{{"a", "aa", "aaa", "aa", "", "b", "b"}, {-1, -2, -3, -2, 0, -5, -4}};
  const auto v = pieces.vocabulary();
  EXPECT_EQ(viterbi_segment("aaaa", v).tokens, (Tokens{0, 2}));  // not 1 1, nor 2 0
  EXPECT_EQ(viterbi_segment("aaaab", v).tokens, (Tokens{0, 2, 6}));
  EXPECT_EQ(viterbi_segment("aaaab", v).log_likelihood, -8);
  EXPECT_TRUE(viterbi_segment("", v).tokens.empty());
  EXPECT_EQ(viterbi_segment("", v).log_likelihood, 0);
  EXPECT_TRUE(viterbi_segment("", UnigramVocabulary({}, {})).tokens.empty());
}

TEST(Unigram, SaysWhatItCannotSpellAndRefusesOddNumbers) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const Pieces pieces{{"ab", "a", "bc", std::string("\0\xff", 2), "d"}, {-1, -1, -1, -1, -infinity}};
  const auto v = pieces.vocabulary();
  EXPECT_EQ(viterbi_segment(std::string_view("abc\0\xff", 5), v).tokens, (Tokens{1, 2, 3}));
  EXPECT_REFUSED(
      viterbi_segment("abca", UnigramVocabulary(std::span(pieces.texts).first(1), std::span(pieces.scores).first(1))),
      unsupported_error, "past byte 2, from where it is \"ca\"");
  EXPECT_REFUSED(viterbi_segment("abd", v), unsupported_error, "past byte 2");  // probability 0
  EXPECT_REFUSED(viterbi_segment("abb", v), unsupported_error, "past byte 2");
  const auto build = [](std::vector<std::string> texts, std::vector<float> scores) {
    return UnigramVocabulary(texts, scores);
  };
  EXPECT_REFUSED(build({"a"}, {}), format_error, "1 pieces and 0 log-probabilities");
  EXPECT_REFUSED(build({"a", "b"}, {0, std::nanf("")}), format_error, "token 1, \"b\"");
  EXPECT_REFUSED(build({"a"}, {infinity}), format_error, "token 0");
}

TEST(Unigram, IsAtLeastAsLikelyAsPairsJoinedGreedily) {
  TESSERA_DATA_OR_SKIP(path, "tok512.bin");
  const auto t = read_tokenizer(path, 512);
  const UnigramVocabulary v(t);
  const std::string text = " Once upon a time, there was a little girl named Lily. She loved to play in the park.";
  const auto got = viterbi_segment(text, v);
  EXPECT_EQ(t.decode(got.tokens), text);
  double greedy = 0;
  for (const Token token : t.encode(text.substr(1), {.bos = false})) greedy += static_cast<double>(t.score(token));
  EXPECT_GE(got.log_likelihood, greedy);
  std::string longer;
  for (int i = 0; i < 50; ++i) longer += text;
  EXPECT_EQ(t.decode(viterbi_segment(longer, v).tokens), longer);
}

}  // namespace
}  // namespace tessera
