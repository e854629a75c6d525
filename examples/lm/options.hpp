/// What the programs' options may be, said before any work.
#pragma once

#include <CLI/CLI.hpp>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>

namespace lm {

/// A number from `least` to `most`; CLI::Range lets NaN pass.
inline CLI::Validator number_in(double least, double most) {
  return CLI::Range(least, most) &
         CLI::Validator(
             [](std::string& text) { return std::isnan(std::strtod(text.c_str(), nullptr)) ? "not a number" : ""; },
             "NUMBER");
}

/// Digits of at most 64 bits: a sign would wrap around in an unsigned number, and more would become the largest one.
inline CLI::Validator natural_number() {
  return CLI::Validator(
      [](std::string& text) {
        std::uint64_t value = 0;
        const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
        return failure != std::errc() || end != text.data() + text.size()
                   ? "Value " + text + " is no natural number of 64 bits"
                   : std::string();
      },
      "NATURAL");
}

}  // namespace lm
