/// The JSON header of a safetensors file, taken in event by event: nothing hostile is ever built, however deep or long.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <tessera/core/config.hpp>
#include <tessera/io/detail/parse.hpp>
#include <tessera/io/tensor.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// Walks the header and knows how far the parser has come.
struct HeaderIterator {
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  const char* at = nullptr;
  const char** progress = nullptr;

  reference operator*() const { return *at; }
  HeaderIterator& operator++() {
    ++at;
    if (progress != nullptr) *progress = at;
    return *this;
  }
  HeaderIterator operator++(int) {
    HeaderIterator before = *this;
    ++*this;
    return before;
  }
  friend bool operator==(const HeaderIterator& a, const HeaderIterator& b) { return a.at == b.at; }
  friend bool operator!=(const HeaderIterator& a, const HeaderIterator& b) { return a.at != b.at; }
};

struct SafetensorsEntry {
  std::string name;
  std::size_t offset = 0;  // in the file, of its header entry
  DType dtype = DType::float32;
  std::vector<Index> shape = {};
  std::uint64_t begin = 0, end = 0;
};

/// Parses on construction; throws format_error. The only shape taken is
/// {"__metadata__": {string: string}, name: {"dtype": string, "shape": [n...], "data_offsets": [n, n]}}.
class SafetensorsHeader {
 public:
  SafetensorsHeader(std::string_view file, std::string_view text)
      : file_(file), begin_(text.data()), progress_(text.data()) {
    if (text.empty() || text[0] != '{') fail("expected the header to begin with '{'");
    if (const auto zero = text.find('\0'); zero != std::string_view::npos) {  // nlohmann-json would stop there
      progress_ = begin_ + zero;
      fail("a zero byte in the header");
    }
    nlohmann::json::sax_parse(HeaderIterator{text.data(), &progress_},
                              HeaderIterator{text.data() + text.size(), nullptr}, this);
  }

  std::vector<SafetensorsEntry> entries;
  std::map<std::string, std::string, std::less<>> metadata;

  // nlohmann's SAX interface; `where_` holds all that is open, so nesting is bounded by refusal.
  bool null() { fail("null; expected ", expected()); }
  bool boolean(bool) { fail("a boolean; expected ", expected()); }
  bool number_integer(std::int64_t value) { fail(value, "; expected ", expected()); }
  bool number_float(double, const std::string& text) { fail(quote(text), "; expected ", expected()); }
  bool binary(nlohmann::json::binary_t&) { fail("binary data; expected ", expected()); }
  bool number_unsigned(std::uint64_t value) {
    if (where_ == Where::shape) {
      if (value > static_cast<std::uint64_t>(std::numeric_limits<Index>::max()))
        fail("extent ", value, " is too large");
      entries.back().shape.push_back(static_cast<Index>(value));
    } else if (where_ == Where::offsets && offsets_ < 2) {
      (offsets_++ == 0 ? entries.back().begin : entries.back().end) = value;
    } else {
      fail(value, "; expected ", expected());
    }
    return true;
  }
  bool string(std::string& value) {
    if (where_ == Where::metadata) {
      metadata[key_] = std::move(value);
    } else if (where_ == Where::tensor && key_ == "dtype") {
      const auto row = std::find_if(dtype_rows.begin(), dtype_rows.end(), [&](const auto& r) {
        return r.name == value && r.dtype != DType::complex128;  // C128 is npy's alone
      });
      if (row == dtype_rows.end()) fail("unknown dtype ", quote(value), "; expected F32, BF16, I64, ...");
      entries.back().dtype = row->dtype;
    } else {
      fail("a string; expected ", expected());
    }
    return true;
  }
  bool start_object(std::size_t) {
    if (where_ == Where::outside) {
      where_ = Where::top;
    } else if (where_ == Where::top) {
      where_ = key_ == "__metadata__" ? Where::metadata : Where::tensor;
      seen_ = 0;
    } else {
      fail("an object; expected ", expected());
    }
    return true;
  }
  bool key(std::string& name) {
    if (where_ == Where::top) {
      if (!names_.insert(name).second) fail("the name ", quote(name), " appears twice");
      if (name != "__metadata__") entries.push_back({.name = name, .offset = offset()});
    } else if (where_ == Where::metadata) {
      if (metadata.contains(name)) fail("the metadata key ", quote(name), " appears twice");
    } else {
      const unsigned bit = name == "dtype" ? 1 : name == "shape" ? 2 : name == "data_offsets" ? 4 : 0;
      if (bit == 0) fail("key ", quote(name), "; expected dtype, shape or data_offsets");
      if ((seen_ & bit) != 0) fail("key ", quote(name), " appears twice");
      seen_ |= bit;
    }
    key_ = std::move(name);
    return true;
  }
  bool end_object() {
    if (where_ == Where::tensor && seen_ != 7)
      fail("tensor ", quote(entries.back().name), " lacks dtype, shape or data_offsets");
    where_ = where_ == Where::top ? Where::outside : Where::top;
    return true;
  }
  bool start_array(std::size_t) {
    if (where_ != Where::tensor || key_ == "dtype") fail("an array; expected ", expected());
    where_ = key_ == "shape" ? Where::shape : Where::offsets;
    offsets_ = 0;
    return true;
  }
  bool end_array() {
    if (where_ == Where::offsets && offsets_ != 2) fail("data_offsets of ", offsets_, " numbers; expected 2");
    where_ = Where::tensor;
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception& reason) {
    progress_ = begin_ + (position > 0 ? position - 1 : 0);
    fail("the header is not JSON: ", quote(reason.what(), 160));  // it repeats as much of the header as it likes
  }

 private:
  enum class Where { outside, top, metadata, tensor, shape, offsets };

  std::size_t offset() const { return sizeof(std::uint64_t) + static_cast<std::size_t>(progress_ - begin_); }
  template <class... Pieces>
  [[noreturn]] void fail(const Pieces&... pieces) const {
    throw_format_error(file_, offset(), pieces...);
  }
  std::string_view expected() const {
    switch (where_) {
      case Where::outside:
        return "an object of tensors";
      case Where::top:
        return "an object with dtype, shape and data_offsets";
      case Where::metadata:
        return "a string";
      case Where::tensor:
        return key_ == "dtype" ? "the name of a type" : "an array of whole numbers";
      case Where::shape:
        return "whole numbers from 0";
      default:
        return "two whole numbers from 0";
    }
  }

  std::string_view file_;
  const char* begin_;
  const char* progress_;
  Where where_ = Where::outside;
  unsigned seen_ = 0;     // keys of the open tensor
  unsigned offsets_ = 0;  // numbers in data_offsets so far
  std::string key_;
  std::set<std::string, std::less<>> names_;
};

}  // namespace tessera::inline TESSERA_ABI::detail
