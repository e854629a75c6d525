/// Reads tensors of golden.gguf, after the published layout of GGUF version 3 (little-endian).
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace tessera::test {

class GoldenGguf {
 public:
  explicit GoldenGguf(std::vector<char> file) : file_(std::move(file)) {
    if (text(4) != "GGUF" || number<std::uint32_t>() != 3) throw std::runtime_error("not GGUF version 3");
    const auto tensors = number<std::uint64_t>(), pairs = number<std::uint64_t>();
    for (std::uint64_t i = 0; i < pairs; ++i) {
      const std::string key = string();
      const auto type = number<std::uint32_t>();
      const std::size_t start = at_;
      skip(type);
      if (key == "general.alignment") std::memcpy(&alignment_, file_.data() + start, 4);
    }
    std::string before;
    for (std::uint64_t i = 0; i < tensors; ++i) {
      const std::string name = string();
      const auto dimensions = number<std::uint32_t>();
      for (std::uint32_t d = 0; d < dimensions; ++d) number<std::uint64_t>();
      number<std::uint32_t>();  // type
      const auto offset = number<std::uint64_t>();
      if (i > 0) entries_[before].size = offset - entries_[before].offset;  // none here needs padding
      entries_[name] = {offset, 0};
      before = name;
    }
    data_ = (at_ + alignment_ - 1) / alignment_ * alignment_;
    entries_[before].size = file_.size() - data_ - entries_[before].offset;
  }

  std::span<const char> bytes(const std::string& name) const {
    const Entry entry = entries_.at(name);
    if (data_ + entry.offset + entry.size > file_.size()) throw std::runtime_error(name + " is beyond the file's end");
    return {file_.data() + data_ + entry.offset, entry.size};
  }
  std::vector<float> floats(const std::string& name) const {
    const auto raw = bytes(name);
    std::vector<float> values(raw.size() / 4);
    std::memcpy(values.data(), raw.data(), raw.size());
    return values;
  }

 private:
  struct Entry {
    std::uint64_t offset, size;
  };

  template <class T>
  T number() {
    T value;
    if (at_ + sizeof value > file_.size()) throw std::runtime_error("truncated");
    std::memcpy(&value, file_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }
  std::string text(std::size_t size) {
    if (at_ + size > file_.size()) throw std::runtime_error("truncated");
    std::string value(file_.data() + at_, size);
    at_ += size;
    return value;
  }
  std::string string() { return text(number<std::uint64_t>()); }
  void skip(std::uint32_t type) {
    static constexpr std::size_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    if (type == 8) {
      string();
    } else if (type == 9) {
      const auto element = number<std::uint32_t>();
      const auto count = number<std::uint64_t>();
      for (std::uint64_t i = 0; i < count; ++i) skip(element);
    } else {
      text(sizes[type]);
    }
  }

  std::vector<char> file_;
  std::size_t at_ = 0, data_ = 0;
  std::uint32_t alignment_ = 32;
  std::map<std::string, Entry> entries_;
};

inline std::optional<GoldenGguf> golden_gguf() {
  const char* where = std::getenv("TESSERA_TEST_DATA");
#ifdef TESSERA_TEST_DATA_DEFAULT
  if (where == nullptr) where = TESSERA_TEST_DATA_DEFAULT;
#endif
  if (where == nullptr) return std::nullopt;
  std::ifstream in(std::string(where) + "/golden.gguf", std::ios::binary);
  if (!in) return std::nullopt;
  return GoldenGguf(std::vector<char>(std::istreambuf_iterator<char>(in), {}));
}

}  // namespace tessera::test
