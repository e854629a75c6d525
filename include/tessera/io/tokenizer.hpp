/// llama2.c's tokenizer files and their byte-pair encoding, which is SentencePiece's by best score with byte fallback.
/// T. Kudo, J. Richardson, "SentencePiece" (2018); https://github.com/karpathy/llama2.c.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <queue>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>
#include <tessera/io/atomic_file.hpp>
#include <tessera/io/detail/parse.hpp>
#include <tessera/io/mapped_file.hpp>

namespace tessera::inline TESSERA_ABI {

using Token = std::int32_t;

/// A vocabulary: 0 is unknown, 1 begins a text, 2 ends it, 3..258 are the bytes 0..255, the rest are pieces.
class Tokenizer {
 public:
  static constexpr Token unknown = 0, bos = 1, eos = 2, first_byte = 3;
  static constexpr std::size_t least_size = first_byte + 256;

  /// Why a vocabulary cannot have this as its i-th token, or nothing.
  static std::string reject(std::size_t i, std::string_view piece, float score) {
    if (std::isnan(score)) return detail::concat("token ", i, " scores NaN");
    if (i >= first_byte && i < least_size && piece != byte_name(i - first_byte))
      return detail::concat("token ", i, " is ", detail::quote(piece), "; expected the byte token ",
                            byte_name(i - first_byte));
    return {};
  }

  struct EncodeOptions {
    bool bos = true;   // begin with BOS
    bool eos = false;  // end with EOS
  };

  /// Takes pieces and scores by token. Throws format_error when bytes are not at 3..258, spelled <0x00>..<0xFF>, or a
  /// score is NaN.
  Tokenizer(std::vector<std::string> pieces, std::vector<float> scores)
      : pieces_(std::move(pieces)), scores_(std::move(scores)) {
    if (pieces_.size() != scores_.size() || pieces_.size() < least_size ||
        pieces_.size() > static_cast<std::size_t>(std::numeric_limits<Token>::max()))
      throw format_error(detail::concat("tessera: a vocabulary of ", pieces_.size(), " pieces and ", scores_.size(),
                                        " scores; expected as many, and at least ", least_size));
    for (std::size_t i = 0; i < pieces_.size(); ++i)
      if (const std::string reason = reject(i, pieces_[i], scores_[i]); !reason.empty())
        throw format_error("tessera: a vocabulary's " + reason);
    for (std::size_t i = least_size; i < pieces_.size(); ++i)
      ids_.emplace(pieces_[i], static_cast<Token>(i));  // the first of equal ones
    space_ = find(" ");
    for (std::size_t b = 0; b < 256; ++b) bytes_[b] = static_cast<char>(b);
  }

  Index vocab_size() const { return static_cast<Index>(pieces_.size()); }
  /// The bytes of a piece as the file has them. Throws shape_error for a token that is not in the vocabulary.
  std::string_view piece(Token token) const { return pieces_[index(token)]; }
  float score(Token token) const { return scores_[index(token)]; }
  /// The token that a piece of text is, or -1. Control and byte tokens are never what text is, whatever it spells.
  Token find(std::string_view piece) const {
    const auto found = ids_.find(piece);
    return found == ids_.end() ? -1 : found->second;
  }

  /// Characters (or their bytes, where a character is no piece), a space before them if that is a piece, then the pair
  /// of neighbours that joins into the best-scoring piece, leftmost first, until none does. O(n log n).
  std::vector<Token> encode(std::string_view text, EncodeOptions options) const;
  std::vector<Token> encode(std::string_view text) const { return encode(text, EncodeOptions()); }

  /// The text that `token` adds after `previous`: no space directly after BOS, byte tokens as their byte, nothing for
  /// BOS and EOS. Valid while the tokenizer lives.
  std::string_view decode(Token previous, Token token) const {
    const std::string_view text = piece(token);
    if (token == bos || token == eos) return {};
    if (token >= first_byte && token < first_byte + 256)
      return {&bytes_[static_cast<std::size_t>(token - first_byte)], 1};
    return previous == bos && space_ >= 0 && text.starts_with(' ') ? text.substr(1) : text;
  }
  /// The text of a sequence; `decode(encode(text)) == text` for any bytes when the sequence begins with BOS.
  std::string decode(std::span<const Token> tokens) const {
    std::string text;
    Token previous = unknown;
    for (const Token token : tokens) {
      text += decode(previous, token);
      previous = token;
    }
    return text;
  }

 private:
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };

  static std::string byte_name(std::size_t byte) {
    constexpr std::string_view digits = "0123456789ABCDEF";
    return {'<', '0', 'x', digits[byte >> 4], digits[byte & 15], '>'};
  }
  std::size_t index(Token token) const {
    if (token < 0 || static_cast<std::size_t>(token) >= pieces_.size())
      throw shape_error(detail::concat("tessera: token ", token, " of a vocabulary of ", pieces_.size()));
    return static_cast<std::size_t>(token);
  }
  void append_character(std::string_view character, std::vector<Token>& tokens) const {
    if (const Token token = find(character); token >= 0) {
      tokens.push_back(token);
      return;
    }
    for (const char c : character) tokens.push_back(first_byte + static_cast<unsigned char>(c));
  }

  std::vector<std::string> pieces_;
  std::vector<float> scores_;
  std::unordered_map<std::string, Token, Hash, std::equal_to<>> ids_;
  Token space_ = -1;
  char bytes_[256] = {};
};

inline std::vector<Token> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  std::vector<Token> tokens;
  if (!text.empty() && space_ >= 0) tokens.push_back(space_);
  for (std::size_t i = 0; i < text.size();) {
    std::size_t length = 1;  // a character is a byte and up to three continuation bytes after it
    while (length < 4 && i + length < text.size() && (static_cast<unsigned char>(text[i + length]) & 0xC0) == 0x80)
      ++length;
    append_character(text.substr(i, length), tokens);
    i += length;
  }

  // A list of live pieces and a heap of joins; a join whose pieces changed meanwhile is skipped when it comes up.
  struct Join {
    float score;
    std::size_t left, right;
    Token left_token, right_token, token;
    bool operator<(const Join& other) const { return score != other.score ? score < other.score : left > other.left; }
  };
  constexpr std::size_t none = std::numeric_limits<std::size_t>::max();
  std::vector<std::size_t> next(tokens.size()), before(tokens.size());
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    next[i] = i + 1 < tokens.size() ? i + 1 : none;
    before[i] = i > 0 ? i - 1 : none;
  }
  std::priority_queue<Join> joins;
  std::string pair;
  const auto consider = [&](std::size_t left, std::size_t right) {
    if (left == none || right == none) return;
    pair = pieces_[static_cast<std::size_t>(tokens[left])];
    pair += pieces_[static_cast<std::size_t>(tokens[right])];
    if (const Token joined = find(pair); joined >= 0)
      joins.push({scores_[static_cast<std::size_t>(joined)], left, right, tokens[left], tokens[right], joined});
  };
  for (std::size_t i = 0; i + 1 < tokens.size(); ++i) consider(i, i + 1);
  while (!joins.empty()) {
    const Join join = joins.top();
    joins.pop();
    if (tokens[join.left] != join.left_token || tokens[join.right] != join.right_token || next[join.left] != join.right)
      continue;
    tokens[join.left] = join.token;
    tokens[join.right] = -1;
    next[join.left] = next[join.right];
    if (next[join.left] != none) before[next[join.left]] = join.left;
    consider(before[join.left], join.left);
    consider(join.left, next[join.left]);
  }

  std::vector<Token> result;
  if (options.bos) result.push_back(bos);
  for (const Token token : tokens)
    if (token >= 0) result.push_back(token);
  if (options.eos) result.push_back(eos);
  return result;
}

/// A tokenizer file: int32 length of the longest piece, then for every token a float32 score, an int32 length and the
/// bytes, to the end of the file. `vocab_size` >= 0 demands that many tokens (a file cut between two tokens is a
/// smaller vocabulary otherwise). Throws format_error.
inline Tokenizer read_tokenizer(const ByteSource& source, Index vocab_size = -1) {
  detail::ByteCursor cursor(source.bytes(), source.name());
  const auto longest = cursor.read<std::int32_t>("the longest piece's length");
  if (longest < 1)
    detail::throw_format_error(source.name(), 0, "longest piece of ", longest, " bytes; expected at least 1");
  std::vector<std::string> pieces;
  std::vector<float> scores;
  std::int32_t found = 0;
  while (cursor.left() > 0) {
    scores.push_back(cursor.read<float>("a score"));
    const std::size_t at = cursor.offset();
    const auto length = cursor.read<std::int32_t>("a piece's length");
    if (length < 0 || length > longest)
      detail::throw_format_error(source.name(), at, "token ", pieces.size(), " of ", length, " bytes; expected 0 to ",
                                 longest);
    found = std::max(found, length);
    const auto bytes = cursor.take(static_cast<std::size_t>(length), "a piece");
    pieces.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (const auto reason = Tokenizer::reject(pieces.size() - 1, pieces.back(), scores.back()); !reason.empty())
      detail::throw_format_error(source.name(), at - sizeof(float), reason);
  }
  if (vocab_size >= 0 && static_cast<std::size_t>(vocab_size) != pieces.size())
    detail::throw_format_error(source.name(), cursor.offset(), pieces.size(), " tokens; expected ", vocab_size);
  if (pieces.size() < Tokenizer::least_size)
    detail::throw_format_error(source.name(), cursor.offset(), "the file ends after ", pieces.size(),
                               " tokens; expected at least ", Tokenizer::least_size);
  if (found != longest)
    detail::throw_format_error(source.name(), 0, "longest piece of ", longest, " bytes; the longest there is has ",
                               found);
  return Tokenizer(std::move(pieces), std::move(scores));
}
inline Tokenizer read_tokenizer(const std::string& path, Index vocab_size = -1) {
  return read_tokenizer(ByteSource::file(path), vocab_size);
}

/// What read_tokenizer reads, byte for byte.
template <ByteSink Sink>
void write_tokenizer(Sink& out, const Tokenizer& tokenizer) {
  std::int32_t longest = 0;
  const auto count = static_cast<Token>(tokenizer.vocab_size());
  for (Token t = 0; t < count; ++t) longest = std::max(longest, static_cast<std::int32_t>(tokenizer.piece(t).size()));
  const auto scalar = [&](auto value) { out.write(std::as_bytes(std::span(&value, 1))); };
  scalar(longest);
  for (Token t = 0; t < count; ++t) {
    scalar(tokenizer.score(t));
    scalar(static_cast<std::int32_t>(tokenizer.piece(t).size()));
    out.write(std::as_bytes(std::span(tokenizer.piece(t))));
  }
}
inline void write_tokenizer(const std::string& path, const Tokenizer& tokenizer) {
  AtomicFile file(path);
  write_tokenizer(file, tokenizer);
  file.commit();
}

}  // namespace tessera::inline TESSERA_ABI
