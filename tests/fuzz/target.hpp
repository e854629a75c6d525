/// What the fuzz targets share: an input is either read or refused by format_error or unsupported_error; anything else
/// that leaves a reader, and any law that does not hold, ends the program.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string_view>
#include <tessera/core/error.hpp>
#include <tessera/io/mapped_file.hpp>

namespace tessera::fuzz {

#define TESSERA_FUZZ_LAW(condition)                                                       \
  do {                                                                                    \
    if (!(condition)) {                                                                   \
      std::fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                       \
    }                                                                                     \
  } while (false)

/// Runs `read`; false when it refused the input in one of the two lawful ways, with a message that names the input.
template <class F>
bool accepts(F&& read) {
  try {
    read();
    return true;
  } catch (const format_error& refusal) {
    TESSERA_FUZZ_LAW(std::string_view(refusal.what()).find("(fuzz)") != std::string_view::npos);
  } catch (const unsupported_error& refusal) {
    TESSERA_FUZZ_LAW(std::string_view(refusal.what()).starts_with("tessera: "));
  }
  return false;
}

inline ByteSource source(std::span<const std::uint8_t> input) {
  return ByteSource::memory(std::as_bytes(input), "(fuzz)");
}

}  // namespace tessera::fuzz
