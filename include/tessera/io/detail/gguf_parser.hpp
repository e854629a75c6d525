/// GGUF's metadata to and from bytes.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <tessera/core/config.hpp>
#include <tessera/io/atomic_file.hpp>
#include <tessera/io/detail/parse.hpp>
#include <tessera/io/gguf_metadata.hpp>

namespace tessera::inline TESSERA_ABI::detail {

inline constexpr int gguf_deepest_array = 32;

/// Reads values; every count is held against the bytes that are left before memory is taken for it.
class GgufParser {
 public:
  GgufParser(std::span<const std::byte> bytes, std::string_view name) : cursor_(bytes, name), name_(name) {}

  ByteCursor& cursor() { return cursor_; }

  std::string string(std::string_view what) {
    const std::size_t at = cursor_.offset();
    const auto length = cursor_.read<std::uint64_t>(what);
    if (length > cursor_.left())
      throw_format_error(name_, at, "expected ", what, " of ", length, " bytes, but the file ends after ",
                         cursor_.left());
    const auto bytes = cursor_.take(static_cast<std::size_t>(length), what);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  GgufValue value() {
    const std::size_t at = cursor_.offset();
    const auto type = cursor_.read<std::uint32_t>("the type of a metadata value");
    if (type >= gguf_value_types) throw_format_error(name_, at, "metadata type ", type, "; expected 0 to 12");
    GgufValue result;
    if (type == alternative_index<GgufArray, GgufValue>)
      result = array(0);
    else
      with_type<GgufValue>(type, [&]<class T>(std::type_identity<T>) {
        if constexpr (!std::same_as<T, GgufArray>) result.emplace<T>(scalar<T>());
      });
    return result;
  }

 private:
  /// f with the alternative of that number.
  template <class Variant, class F, std::size_t I = 0>
  static void with_type(std::size_t index, F&& f) {
    if constexpr (I < std::variant_size_v<Variant>) {
      if (index == I) return f(std::type_identity<std::variant_alternative_t<I, Variant>>{});
      with_type<Variant, F, I + 1>(index, std::forward<F>(f));
    }
  }

  template <class T>
  T scalar() {
    if constexpr (std::same_as<T, std::string>) {
      return string("a string");
    } else if constexpr (std::same_as<T, bool>) {
      const std::size_t at = cursor_.offset();
      const auto byte = cursor_.read<std::uint8_t>("a boolean");
      if (byte > 1) throw_format_error(name_, at, "a boolean of ", int{byte}, "; expected 0 or 1");
      return byte == 1;
    } else {
      return cursor_.read<T>("a metadata value");
    }
  }

  GgufArray array(int depth) {
    const std::size_t at = cursor_.offset();
    const auto type = cursor_.read<std::uint32_t>("the type of an array");
    const auto count = cursor_.read<std::uint64_t>("the length of an array");
    if (type >= gguf_value_types) throw_format_error(name_, at, "array of type ", type, "; expected 0 to 12");
    GgufArray result;
    with_type<GgufArray::Elements>(type, [&]<class V>(std::type_identity<V>) {
      using T = typename V::value_type;
      constexpr std::size_t least = std::same_as<T, std::string> ? 8 : std::same_as<T, GgufArray> ? 12 : sizeof(T);
      if (count > cursor_.left() / least)
        throw_format_error(name_, at, "an array of ", count, " ", gguf_value_names[type], ", but the file ends after ",
                           cursor_.left(), " bytes");
      V elements;
      elements.reserve(static_cast<std::size_t>(count));
      for (std::uint64_t i = 0; i < count; ++i) {
        if constexpr (std::same_as<T, GgufArray>) {
          if (depth == gguf_deepest_array)
            throw_format_error(name_, at, "arrays nested deeper than ", gguf_deepest_array);
          elements.push_back(array(depth + 1));
        } else {
          elements.push_back(scalar<T>());
        }
      }
      result.elements = std::move(elements);
    });
    return result;
  }

  ByteCursor cursor_;
  std::string_view name_;
};

/// Counts what it writes.
template <ByteSink Sink>
class GgufPrinter {
 public:
  explicit GgufPrinter(Sink& out) : out_(&out) {}
  std::size_t written() const { return written_; }

  void bytes(std::span<const std::byte> more) {
    out_->write(more);
    written_ += more.size();
  }
  template <class T>
  requires std::is_arithmetic_v<T>
  void scalar(T value) { bytes(std::as_bytes(std::span(&value, 1))); }
  void scalar(bool value) { scalar(static_cast<std::uint8_t>(value ? 1 : 0)); }
  void scalar(std::string_view text) {
    scalar(static_cast<std::uint64_t>(text.size()));
    bytes(std::as_bytes(std::span(text)));
  }
  void scalar(const std::string& text) { scalar(std::string_view(text)); }
  void scalar(const GgufArray& array) { this->array(array, 0); }
  void value(const GgufValue& value) {
    scalar(static_cast<std::uint32_t>(value.index()));
    std::visit([&](const auto& held) { scalar(held); }, value);
  }
  void pad(std::size_t alignment) {
    constexpr std::byte zeros[64] = {};
    std::size_t count = (alignment - written_ % alignment) % alignment;
    for (; count > 0; count -= std::min(count, sizeof zeros)) bytes(std::span(zeros, std::min(count, sizeof zeros)));
  }

 private:
  void array(const GgufArray& array, int depth) {
    if (depth > gguf_deepest_array)
      throw format_error(concat("tessera: GGUF metadata: arrays nested deeper than ", gguf_deepest_array));
    scalar(static_cast<std::uint32_t>(array.elements.index()));
    std::visit(
        [&]<class V>(const V& elements) {
          scalar(static_cast<std::uint64_t>(elements.size()));
          for (std::size_t i = 0; i < elements.size(); ++i) {
            if constexpr (std::same_as<V, std::vector<GgufArray>>)
              this->array(elements[i], depth + 1);
            else if constexpr (std::same_as<V, std::vector<bool>>)
              scalar(bool(elements[i]));
            else
              scalar(elements[i]);
          }
        },
        array.elements);
  }

  Sink* out_;
  std::size_t written_ = 0;
};

}  // namespace tessera::inline TESSERA_ABI::detail
