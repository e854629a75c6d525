#include <tessera/io/tokenizer.hpp>

#include <limits>
#include <tessera/core/rng.hpp>

#include "io_test.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

struct Piece {
  std::string text;
  float score;
};

/// Control and byte tokens, then `pieces`.
Tokenizer vocabulary(const std::vector<Piece>& pieces) {
  std::vector<std::string> texts{"<unk>", "\n<s>\n", "\n</s>\n"};
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(byte));
    texts.emplace_back(name);
  }
  std::vector<float> scores(texts.size(), 0.0f);
  for (const auto& piece : pieces) {
    texts.push_back(piece.text);
    scores.push_back(piece.score);
  }
  return Tokenizer(texts, scores);
}
const std::vector<Piece> small{{" ", -1},  {"a", -2},    {"b", -3},  {"c", -4},       {"ab", -5},
                               {"bc", -4}, {"abc", -10}, {" a", -6}, {"\xc3\xa9", -7}};
constexpr Token space = 259, a = 260, b = 261, c = 262, ab = 263, bc = 264, abc = 265, space_a = 266, e_acute = 267;

using Tokens = std::vector<Token>;

std::string file_of(const Tokenizer& tokenizer) {
  MemoryFile file;
  write_tokenizer(file, tokenizer);
  return std::string(file.text());
}
Tokenizer read(const std::string& text) { return read_tokenizer(ByteSource::memory(text, "tok.bin")); }

TEST(Tokenizer, JoinsTheBestPairFirst) {
  const auto t = vocabulary(small);
  // " a" would score -6 and "ab" -5, but "bc" -4 comes first; then "abc" and " a" compete and -6 wins.
  EXPECT_EQ(t.encode("abc"), (Tokens{Tokenizer::bos, space_a, bc}));
  EXPECT_EQ(t.encode("babc", {.bos = false}), (Tokens{space, b, abc}));
  EXPECT_EQ(t.encode("ab", {.bos = false, .eos = true}), (Tokens{space, ab, Tokenizer::eos}));
  EXPECT_EQ(t.encode("c", {.bos = false}), (Tokens{space, c}));
  EXPECT_EQ(t.encode("", {.bos = true, .eos = true}), (Tokens{Tokenizer::bos, Tokenizer::eos}));
}

TEST(Tokenizer, EqualScoresJoinLeftToRight) {
  const auto t = vocabulary({{" ", 0}, {"a", 0}, {"aa", -1}, {"aaa", -1}});
  EXPECT_EQ(t.encode("aaaaa", {.bos = false}), (Tokens{259, 262, 261}));
}

TEST(Tokenizer, BytesStandForWhatIsNoPiece) {
  const auto t = vocabulary(small);
  const auto byte = [](unsigned value) { return static_cast<Token>(Tokenizer::first_byte + value); };
  EXPECT_EQ(t.encode("\xc3\xa9z", {.bos = false}), (Tokens{space, e_acute, byte('z')}));
  EXPECT_EQ(t.encode("\xf0\x9f\x98\x80", {.bos = false}),
            (Tokens{space, byte(0xf0), byte(0x9f), byte(0x98), byte(0x80)}));
  EXPECT_EQ(t.encode(std::string_view("\0", 1), {.bos = false}), (Tokens{space, byte(0)}));
}

TEST(Tokenizer, TextNeverSpellsControlOrByteTokens) {
  auto pieces = small;
  for (const char* part :
       {"<", "s", ">", "<s", "<s>", "\n", "\n<s>", "\n<s>\n", "0", "x", "4", "1", "<0", "<0x", "<0x4", "<0x41"})
    pieces.push_back({part, 1});
  const auto t = vocabulary(pieces);
  const std::string text = "\n<s>\n<0x41><unk>";
  const auto tokens = t.encode(text, {.bos = false});
  for (const Token token : tokens) EXPECT_NE(token, Tokenizer::bos);
  EXPECT_EQ(t.decode(tokens), " " + text);
}

TEST(Tokenizer, Decoding) {
  const auto t = vocabulary(small);
  EXPECT_EQ(t.decode(Tokens{Tokenizer::bos, space_a, b}), "ab");
  EXPECT_EQ(t.decode(Tokens{space_a, space_a}), " a a");
  EXPECT_EQ(t.decode(Tokens{Tokenizer::bos, space, a, Tokenizer::eos}), "a");
  EXPECT_EQ(t.decode(a, Tokenizer::first_byte + 'x'), "x");
  EXPECT_EQ(t.decode(Tokenizer::bos, Tokenizer::unknown), "<unk>");
  EXPECT_REFUSED(t.decode(a, 268), shape_error, "token 268 of a vocabulary of 268");
  EXPECT_REFUSED(t.decode(a, -1), shape_error, "token -1");
  EXPECT_EQ(t.find("abc"), abc);
  EXPECT_EQ(t.find("cab"), -1);
}

/// The greedy rule as it is told: look at all pairs, join the best, begin again.
Tokens encode_slowly(const Tokenizer& t, std::string_view text) {
  Tokens tokens{t.find(" ")};
  for (const char each : text) {
    const Token token = t.find(std::string_view(&each, 1));
    tokens.push_back(token >= 0 ? token : Tokenizer::first_byte + static_cast<unsigned char>(each));
  }
  for (;;) {
    float best = -std::numeric_limits<float>::infinity();
    std::size_t at = tokens.size();
    Token joined = -1;
    for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
      const Token token = t.find(std::string(t.piece(tokens[i])) + std::string(t.piece(tokens[i + 1])));
      if (token >= 0 && (joined < 0 || t.score(token) > best)) {
        best = t.score(token);
        at = i;
        joined = token;
      }
    }
    if (joined < 0) return tokens;
    tokens[at] = joined;
    tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

TEST(Tokenizer, EqualsTheObviousLoop) {
  std::vector<Piece> pieces{{" ", 0}, {"a", 0}, {"b", 0}, {"c", 0}};
  const Philox draws(3);
  for (std::uint64_t i = 0; i < 60; ++i) {
    const auto word = draws.block(i);
    std::string text;
    for (std::uint32_t n = 0; n < 2 + word[0] % 4; ++n) text += " abc"[(word[1] >> (2 * n)) & 3];
    pieces.push_back({text, -static_cast<float>(word[2] % 8)});  // many ties
  }
  const auto t = vocabulary(pieces);
  for (std::uint64_t trial = 0; trial < 200; ++trial) {
    std::string text;
    for (std::uint64_t i = 0; i < trial; ++i) text += " abcz"[Philox(4, trial).bits(i) % 5];
    if (text.empty()) continue;
    EXPECT_EQ(t.encode(text, {.bos = false}), encode_slowly(t, text)) << text;
    EXPECT_EQ(t.decode(t.encode(text)), text);
  }
}

TEST(Tokenizer, FilesReadBackTheSame) {
  const test::ScratchDirectory scratch;
  const auto t = vocabulary(small);
  write_tokenizer(scratch / "tok.bin", t);
  const auto again = read_tokenizer(scratch / "tok.bin", 268);
  EXPECT_EQ(file_of(again), test::slurp(scratch / "tok.bin"));
  EXPECT_EQ(again.encode("abc bc"), t.encode("abc bc"));
  EXPECT_EQ(again.score(abc), -10.0f);
  EXPECT_REFUSED(read_tokenizer(scratch / "tok.bin", 512), format_error, "268 tokens; expected 512");
}

TEST(Tokenizer, MalformedFilesAreRefused) {
  const std::string good = file_of(vocabulary(small));
  const auto with = [&](std::size_t at, std::int32_t value) {
    std::string bad = good;
    std::memcpy(bad.data() + at, &value, sizeof value);
    return bad;
  };
  EXPECT_REFUSED(read(""), format_error, "tok.bin at byte 0: expected the longest piece's length");
  EXPECT_REFUSED(read(with(0, 0)), format_error, "longest piece of 0 bytes");
  EXPECT_REFUSED(read(with(0, -1)), format_error, "longest piece of -1 bytes");
  EXPECT_REFUSED(read(with(0, 3)), format_error, "token 0 of 5 bytes; expected 0 to 3");
  EXPECT_REFUSED(read(with(0, 100)), format_error, "the longest there is has 6");
  EXPECT_REFUSED(read(with(8, -5)), format_error, "tok.bin at byte 8: token 0 of -5 bytes");
  EXPECT_REFUSED(read(with(0, std::numeric_limits<std::int32_t>::max()).replace(8, 4, "\xff\xff\xff\x7f")),
                 format_error, "a piece of 2147483647 bytes, but the file ends");
  EXPECT_REFUSED(read(with(4, 0x7fc00000)), format_error, "token 0 scores NaN");
  std::string byte = good;
  byte.replace(byte.find("<0x7F>"), 6, "<0x7f>");
  EXPECT_REFUSED(read(byte), format_error, "token 130 is \"<0x7f>\"; expected the byte token <0x7F>");
  EXPECT_REFUSED(read(good.substr(0, 4 + 13)), format_error, "ends after 1 tokens");
  EXPECT_REFUSED(Tokenizer({"a"}, {}), format_error, "1 pieces and 0 scores");
}

TEST(Tokenizer, RealVocabulary) {
  TESSERA_DATA_OR_SKIP(path, "tok512.bin");
  const auto t = read_tokenizer(path, 512);
  EXPECT_EQ(file_of(t), test::slurp(path));
  EXPECT_EQ(t.piece(Tokenizer::bos), "\n<s>\n");
  const std::string story =
      "Once upon a time, there was a little girl named Lily.\nShe said \"h\xc3\xa9llo\"  twice \xf0\x9f\x98\x80.";
  EXPECT_EQ(t.decode(t.encode(story)), story);
  EXPECT_EQ(t.encode("Once upon a time"), (Tokens{1, 403, 407, 261, 378}));
  EXPECT_EQ(t.encode(story, {.bos = false}).size(), t.encode(story).size() - 1);
  std::string ascii;
  for (char each = 1; each < 127; ++each) ascii += each;
  EXPECT_EQ(t.encode(ascii, {.bos = false}), encode_slowly(t, ascii));
}

TEST(Tokenizer, RealText) {
  TESSERA_DATA_OR_SKIP(path, "tok512.bin");
  TESSERA_DATA_OR_SKIP(text_path, "tinyshakespeare.txt");
  const auto t = read_tokenizer(path);
  const std::string text = test::slurp(text_path);
  const auto tokens = t.encode(text);
  EXPECT_LT(tokens.size(), text.size() * 2 / 3);
  EXPECT_EQ(t.decode(tokens), text);
}

}  // namespace
}  // namespace tessera
