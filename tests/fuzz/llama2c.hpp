#pragma once

#include <algorithm>
#include <tessera/io/llama2c.hpp>

#include "target.hpp"

namespace tessera::fuzz {

inline void llama2c(std::span<const std::uint8_t> input) {
  Llama2c model;
  if (!accepts([&] { model = read_llama2c(source(input)); })) return;
  MemoryFile written;
  write_llama2c(written, model.config, model.weights);
  const auto bytes = std::as_bytes(input);
  TESSERA_FUZZ_LAW(std::equal(written.bytes.begin(), written.bytes.end(), bytes.begin(), bytes.end()));
}

}  // namespace tessera::fuzz
