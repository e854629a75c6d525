/// A codec's parameters as words after its name.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <string>
#include <string_view>
#include <system_error>

#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>

namespace tessera::inline TESSERA_ABI::kv::detail {

/// f(name, number) of each number that may be chosen, those of a codec inside another too.
template <class C, class F>
void for_each_parameter(C& codec, const F& f) {
  if constexpr (requires { codec.group; }) f("group", codec.group);
  if constexpr (requires { codec.recent; }) f("recent", codec.recent);
  if constexpr (requires { codec.value_group; }) f("value_group", codec.value_group);
  if constexpr (requires { codec.segment; }) f("segment", codec.segment);
  if constexpr (requires { codec.window; }) f("window", codec.window);
  if constexpr (requires { codec.chunk; }) f("chunk", codec.chunk);
  if constexpr (requires { codec.rank; }) f("rank", codec.rank);
  if constexpr (requires { codec.sparsity; }) f("sparsity", codec.sparsity);
  if constexpr (requires { codec.codec; }) for_each_parameter(codec.codec, f);
}

/// What follows `name` in "name word=number word=number"; nothing else may follow it.
inline bool names_codec(std::string_view text, std::string_view name) {
  if (!text.starts_with(name)) return false;
  const std::string_view rest = text.substr(name.size());
  return rest.empty() || (rest.front() == ' ' && rest.find('=') < rest.find(' ', 1));
}

/// Sets the numbers that `text` gives after `name`. Throws unsupported_error for words that are no number of the codec.
template <class C>
void set_parameters(C& codec, std::string_view text, std::string_view name) {
  for (std::string_view rest = text.substr(name.size()); !rest.empty();) {
    rest.remove_prefix(1);  // the space
    const std::string_view word = rest.substr(0, rest.find(' '));
    rest.remove_prefix(word.size());
    const std::size_t equals = std::min(word.find('='), word.size());
    bool known = false, read = false;
    std::string names;
    for_each_parameter(codec, [&](std::string_view parameter, auto& number) {
      names += tessera::detail::concat(names.empty() ? "" : ", ", parameter);
      if (parameter != word.substr(0, equals)) return;
      known = true;
      const char* const end = word.data() + word.size();
      auto value = number;
      const auto [last, failure] = std::from_chars(word.data() + std::min(equals + 1, word.size()), end, value);
      read = failure == std::errc() && last == end;
      if (read) number = value;
    });
    if (!known || !read)
      throw unsupported_error(tessera::detail::concat("tessera: '", word, "' of KV codec '", text,
                                                      known ? "' is no number" : "'; expected numbers of its ",
                                                      known           ? ""
                                                      : names.empty() ? "own, which has none"
                                                                      : names));
  }
}

}  // namespace tessera::inline TESSERA_ABI::kv::detail
