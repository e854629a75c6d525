/// What a user's mistake throws. Each message says what was asked, where, both values and what would be right.
#pragma once

#include <concepts>
#include <cstdio>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

#include <tessera/core/config.hpp>

namespace tessera::inline TESSERA_ABI {

/// Base of everything the library throws by itself.
struct error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Two operands whose shapes do not fit, or an index outside a shape.
struct shape_error : error {
  using error::error;
};

/// A file or byte stream that is not what it claims to be: names the file, the offset and what was expected.
struct format_error : error {
  using error::error;
};

/// An operator that lacks a property it is tagged with.
struct property_error : error {
  using error::error;
};

/// A lawful request that no kernel or type here can carry out.
struct unsupported_error : error {
  using error::error;
};

namespace detail {

/// A piece of a message: a string, a letter, or a number, which if real has six digits and an exponent where it is
/// needed.
class Piece {
 public:
  template <class T>
  Piece(const T& piece) {  // NOLINT: implicit, as std::string's from a literal
    if constexpr (std::is_convertible_v<const T&, std::string_view>)
      text_ = piece;
    else if constexpr (std::same_as<T, char>)
      kind_ = Kind::letter, letter_ = piece;
    else if constexpr (std::floating_point<T>)
      kind_ = Kind::real, real_ = piece;
    else if constexpr (std::unsigned_integral<T>)
      kind_ = Kind::natural, natural_ = piece;
    else
      kind_ = Kind::integer, integer_ = piece;
  }

  void append_to(std::string& text) const {
    switch (kind_) {
      case Kind::text:
        text += text_;
        break;
      case Kind::letter:
        text += letter_;
        break;
      case Kind::real:
        append_real(text);
        break;
      case Kind::natural:
        text += std::to_string(natural_);
        break;
      case Kind::integer:
        text += std::to_string(integer_);
        break;
    }
  }

 private:
  void append_real(std::string& text) const {
    char digits[32];
    std::snprintf(digits, sizeof digits, "%g", real_);
    text += digits;
  }

  enum class Kind { text, letter, real, natural, integer };
  Kind kind_ = Kind::text;
  union {
    std::string_view text_{};
    char letter_;
    double real_;
    unsigned long long natural_;
    long long integer_;
  };
};

TESSERA_NOINLINE inline std::string join(std::initializer_list<Piece> pieces) {
  std::string text;
  for (const Piece& piece : pieces) piece.append_to(text);
  return text;
}

/// One string from strings and numbers.
template <class... Pieces>
std::string concat(const Pieces&... pieces) {
  return join({Piece(pieces)...});
}

/// "4096x4096"
inline std::string shape_text(Index rows, Index cols) { return concat(rows, "x", cols); }

}  // namespace detail
}  // namespace tessera::inline TESSERA_ABI
