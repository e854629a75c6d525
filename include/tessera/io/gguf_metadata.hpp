/// GGUF's metadata: keys and typed values, in the file's order.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>
#include <tessera/io/detail/parse.hpp>

namespace tessera::inline TESSERA_ABI {

/// An array of one type, nested or not. The alternatives' indices are GGUF's type numbers, here and in GgufValue.
struct GgufArray {
  using Elements = std::variant<std::vector<std::uint8_t>, std::vector<std::int8_t>, std::vector<std::uint16_t>,
                                std::vector<std::int16_t>, std::vector<std::uint32_t>, std::vector<std::int32_t>,
                                std::vector<float>, std::vector<bool>, std::vector<std::string>, std::vector<GgufArray>,
                                std::vector<std::uint64_t>, std::vector<std::int64_t>, std::vector<double>>;
  Elements elements;

  std::size_t size() const {
    return std::visit([](const auto& e) { return e.size(); }, elements);
  }
  friend bool operator==(const GgufArray& a, const GgufArray& b) { return a.elements == b.elements; }
};

using GgufValue = std::variant<std::uint8_t, std::int8_t, std::uint16_t, std::int16_t, std::uint32_t, std::int32_t,
                               float, bool, std::string, GgufArray, std::uint64_t, std::int64_t, double>;

namespace detail {

inline constexpr std::string_view gguf_value_names[] = {"uint8",  "int8",    "uint16", "int16",  "uint32",
                                                        "int32",  "float32", "bool",   "string", "array",
                                                        "uint64", "int64",   "float64"};
inline constexpr std::size_t gguf_value_types = std::size(gguf_value_names);

template <class T, class Variant>
inline constexpr std::size_t alternative_index = 0;
template <class T, class... Ts>
inline constexpr std::size_t alternative_index<T, std::variant<Ts...>> = [] {
  std::size_t index = 0;
  (void)((std::is_same_v<T, Ts> ? true : (++index, false)) || ...);
  return index;
}();

}  // namespace detail

/// Keys are unique; what is set anew keeps its place. Lookup O(log n).
class GgufMetadata {
 public:
  using Entry = std::pair<std::string, GgufValue>;
  std::span<const Entry> entries() const { return entries_; }
  std::size_t size() const { return entries_.size(); }

  void set(std::string key, GgufValue value) {
    const auto [at, added] = by_key_.emplace(key, entries_.size());
    if (added)
      entries_.emplace_back(std::move(key), std::move(value));
    else
      entries_[at->second].second = std::move(value);
  }
  /// nullptr when there is no such key.
  const GgufValue* find(std::string_view key) const {
    const auto found = by_key_.find(key);
    return found == by_key_.end() ? nullptr : &entries_[found->second].second;
  }

  /// The value as exactly T (std::string, float, GgufArray, ...). Throws format_error when it is missing or of another
  /// type.
  template <class T>
  const T& get(std::string_view key) const {
    const GgufValue& value = at(key);
    if (const T* held = std::get_if<T>(&value)) return *held;
    fail(key, value, detail::gguf_value_names[detail::alternative_index<T, GgufValue>]);
  }
  /// The elements of an array of T.
  template <class T>
  const std::vector<T>& array(std::string_view key) const {
    const GgufValue& value = at(key);
    if (const auto* held = std::get_if<GgufArray>(&value))
      if (const auto* elements = std::get_if<std::vector<T>>(&held->elements)) return *elements;
    fail(key, value,
         detail::concat("an array of ",
                        detail::gguf_value_names[detail::alternative_index<std::vector<T>, GgufArray::Elements>]));
  }
  /// A whole number of any width that fits an Index.
  Index integer(std::string_view key) const {
    const GgufValue& value = at(key);
    Index result = 0;
    const bool fits = std::visit(
        [&]<class T>(const T& held) {
          if constexpr (std::integral<T> && !std::same_as<T, bool>) {
            if (!std::in_range<Index>(held)) return false;
            result = static_cast<Index>(held);
            return true;
          } else {
            return false;
          }
        },
        value);
    if (!fits) fail(key, value, "a whole number");
    return result;
  }
  /// A floating-point number of either width.
  double number(std::string_view key) const {
    const GgufValue& value = at(key);
    if (const float* held = std::get_if<float>(&value)) return static_cast<double>(*held);
    if (const double* held = std::get_if<double>(&value)) return *held;
    fail(key, value, "a floating-point number");
  }

  friend bool operator==(const GgufMetadata& a, const GgufMetadata& b) { return a.entries_ == b.entries_; }

 private:
  friend class Gguf;
  const GgufValue& at(std::string_view key) const {
    if (const GgufValue* value = find(key)) return *value;
    throw format_error(
        detail::concat("tessera: ", source_, ": no metadata key ", detail::quote(key), " among its ", entries_.size()));
  }
  [[noreturn]] void fail(std::string_view key, const GgufValue& value, std::string_view expected) const {
    throw format_error(detail::concat("tessera: ", source_, ": metadata key ", detail::quote(key), " is of type ",
                                      detail::gguf_value_names[value.index()], "; expected ", expected));
  }

  std::string source_ = "GGUF metadata";
  std::vector<Entry> entries_;
  std::map<std::string, std::size_t, std::less<>> by_key_;
};

}  // namespace tessera::inline TESSERA_ABI
