/// What the readers share: checked sizes, messages, and a cursor that cannot leave its bytes.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>

namespace tessera::inline TESSERA_ABI::detail {

static_assert(std::endian::native == std::endian::little,
              "tessera/io: the file formats are read on little-endian machines only");

/// "tessera: NAME at byte OFFSET: …"
template <class... Pieces>
[[noreturn]] void throw_format_error(std::string_view name, std::size_t offset, const Pieces&... pieces) {
  throw format_error(concat("tessera: ", name, " at byte ", offset, ": ", pieces...));
}

/// Untrusted text for a message: quoted, unprintable bytes escaped, cut after `most`.
inline std::string quote(std::string_view text, std::size_t most = 60) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string out = "\"";
  for (std::size_t i = 0; i < text.size() && i < most; ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
      out += text[i];
    } else {
      out += "\\x";
      out += digits[c >> 4];
      out += digits[c & 15];
    }
  }
  return out += text.size() > most ? "\"..." : "\"";
}

/// product *= factor; false when that does not fit an Index.
inline bool multiply_into(Index& product, Index factor) { return !__builtin_mul_overflow(product, factor, &product); }
inline bool add_into(Index& sum, Index term) { return !__builtin_add_overflow(sum, term, &sum); }

/// Elements of a shape, or -1 when an extent is negative or the product of the extents that are not zero exceeds an
/// Index: strides are such products even where the whole is empty.
inline Index checked_size(std::span<const Index> shape) {
  Index product = 1;
  bool empty = false;
  for (const Index extent : shape) {
    if (extent < 0) return -1;
    if (extent == 0)
      empty = true;
    else if (!multiply_into(product, extent))
      return -1;
  }
  return empty ? 0 : product;
}

inline std::string shape_text(std::span<const Index> shape) {
  std::string text = "(";
  for (std::size_t d = 0; d < shape.size(); ++d) {
    if (d > 0) text += ", ";
    if (d == 8) return text += "...)";
    Piece(shape[d]).append_to(text);
  }
  return text += ")";
}

/// Reads little-endian scalars in order; a read past the end throws format_error naming what was expected there.
class ByteCursor {
 public:
  ByteCursor(std::span<const std::byte> bytes, std::string_view name) : bytes_(bytes), name_(name) {}

  std::size_t offset() const { return offset_; }
  std::size_t left() const { return bytes_.size() - offset_; }

  std::span<const std::byte> take(std::size_t count, std::string_view what) {
    if (count > left())
      throw_format_error(name_, offset_, "expected ", what, " of ", count, " bytes, but the file ends after ", left());
    const auto part = bytes_.subspan(offset_, count);
    offset_ += count;
    return part;
  }
  template <class T>
  requires std::is_trivially_copyable_v<T> T read(std::string_view what) {
    T value;
    std::memcpy(&value, take(sizeof(T), what).data(), sizeof(T));
    return value;
  }

 private:
  std::span<const std::byte> bytes_;
  std::string_view name_;
  std::size_t offset_ = 0;
};

}  // namespace tessera::inline TESSERA_ABI::detail
