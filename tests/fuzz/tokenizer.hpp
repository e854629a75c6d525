#pragma once

#include <algorithm>
#include <string>
#include <tessera/io/tokenizer.hpp>
#include <vector>

#include "target.hpp"

namespace tessera::fuzz {

/// A two-byte count, that many bytes of text, then a tokenizer file.
inline void tokenizer(std::span<const std::uint8_t> input) {
  if (input.size() < 2) return;
  const std::size_t length = std::min<std::size_t>(input[0] + 256u * input[1], input.size() - 2);
  const std::string_view text(reinterpret_cast<const char*>(input.data()) + 2, length);
  const auto file = input.subspan(2 + length);
  accepts([&] {
    const auto tokens = read_tokenizer(source(file));
    MemoryFile written;
    write_tokenizer(written, tokens);
    const auto bytes = std::as_bytes(file);
    TESSERA_FUZZ_LAW(std::equal(written.bytes.begin(), written.bytes.end(), bytes.begin(), bytes.end()));

    const auto encoded = tokens.encode(text, {.bos = true, .eos = true});
    TESSERA_FUZZ_LAW(encoded.size() <= text.size() + 3);
    for (const Token token : encoded) TESSERA_FUZZ_LAW(token >= 0 && token < tokens.vocab_size());
    TESSERA_FUZZ_LAW(tokens.decode(encoded) == text);
  });
}

}  // namespace tessera::fuzz
