/// Tensors of golden.gguf, which a reference implementation wrote.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <tessera/io/gguf.hpp>
#include <utility>
#include <vector>

namespace tessera::test {

class GoldenGguf {
 public:
  explicit GoldenGguf(Gguf file) : file_(std::move(file)) {}
  bool has(const std::string& name) const { return file_.find(name) != nullptr; }
  std::span<const std::byte> bytes(const std::string& name) const { return file_[name].data; }
  std::vector<float> floats(const std::string& name) const {
    const auto values = file_[name].read();
    return {values.begin(), values.end()};
  }

 private:
  Gguf file_;
};

inline std::optional<GoldenGguf> golden_gguf() {
  const char* where = std::getenv("TESSERA_TEST_DATA");
#ifdef TESSERA_TEST_DATA_DEFAULT
  if (where == nullptr) where = TESSERA_TEST_DATA_DEFAULT;
#endif
  if (where == nullptr) return std::nullopt;
  const std::string path = std::string(where) + "/golden.gguf";
  if (!std::filesystem::exists(path)) return std::nullopt;
  return GoldenGguf(read_gguf(path));
}

}  // namespace tessera::test
