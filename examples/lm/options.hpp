/// What the programs' options may be, said before any work.
#pragma once

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>

#ifndef LM_DEFAULT_MODEL
#define LM_DEFAULT_MODEL "examples/lm/models/eigen-3m.safetensors"
#endif
#ifndef LM_DEFAULT_TEXT
#define LM_DEFAULT_TEXT "/usr/include/eigen3"
#endif

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

/// The program `name`: options are read, then `run()`; what it throws is said on standard error.
template <class F>
int run_program(const char* name, CLI::App& app, int argc, char** argv, F&& run) {
  CLI11_PARSE(app, argc, argv);
  try {
    run();
    return 0;
  } catch (const std::exception& failure) {
    fmt::print(stderr, "{}: {}\n", name, failure.what());
    return 1;
  }
}

}  // namespace lm
