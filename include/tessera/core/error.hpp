/// What a user's mistake throws. Each message says what was asked, where, both values and what would be right.
#pragma once

#include <concepts>
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

template <class T>
void append(std::string& text, const T& piece) {
  if constexpr (std::is_convertible_v<const T&, std::string_view>)
    text += std::string_view(piece);
  else if constexpr (std::same_as<T, char>)
    text += piece;
  else
    text += std::to_string(piece);
}

/// One string from strings and numbers.
template <class... Pieces>
std::string concat(const Pieces&... pieces) {
  std::string text;
  (append(text, pieces), ...);
  return text;
}

/// "4096x4096"
inline std::string shape_text(Index rows, Index cols) { return concat(rows, "x", cols); }

}  // namespace detail
}  // namespace tessera::inline TESSERA_ABI
