/// What the io tests share: real data, scratch files, and expected messages.
#pragma once

#include <gtest/gtest.h>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <support/scratch_directory.hpp>
#include <tessera/core/error.hpp>
#include <tessera/io/mapped_file.hpp>
#include <utility>

namespace tessera::test {

/// The path of a file of real test data; "" when there is no such file.
inline std::string data_path(const std::string& name) {
  const char* root = std::getenv("TESSERA_TEST_DATA");
  const std::filesystem::path path = std::filesystem::path(root != nullptr ? root : TESSERA_TEST_DATA_DEFAULT) / name;
  return std::filesystem::exists(path) ? path.string() : "";
}

#define TESSERA_DATA_OR_SKIP(variable, name)                     \
  const std::string variable = ::tessera::test::data_path(name); \
  if (variable.empty()) GTEST_SKIP() << "no " << (name) << " under TESSERA_TEST_DATA"

/// `statement` throws `type` with `part` in its message, which begins as all messages do.
#define EXPECT_REFUSED(statement, type, part)                                                           \
  do {                                                                                                  \
    try {                                                                                               \
      statement;                                                                                        \
      ADD_FAILURE() << "not refused: " #statement;                                                      \
    } catch (const type& refusal) {                                                                     \
      EXPECT_TRUE(std::string_view(refusal.what()).starts_with("tessera: ")) << refusal.what();         \
      EXPECT_NE(std::string_view(refusal.what()).find(part), std::string_view::npos) << refusal.what(); \
    }                                                                                                   \
  } while (false)

/// Bytes as a source, kept for as long as the program runs: what is read from them may be seen in place.
inline ByteSource keep(std::string text, std::string name) {
  static std::deque<std::string> kept;
  return ByteSource::memory(kept.emplace_back(std::move(text)), std::move(name));
}

inline std::string slurp(const std::string& path) { return std::string(ByteSource::file(path).text()); }
inline void spill(const std::string& path, std::string_view text) {
  std::ofstream(path, std::ios::binary).write(text.data(), static_cast<std::streamsize>(text.size()));
}

}  // namespace tessera::test
