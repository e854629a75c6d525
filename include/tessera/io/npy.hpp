/// NumPy's array files. Format: numpy.lib.format, versions 1.0, 2.0 and 3.0.
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/io/atomic_file.hpp>
#include <tessera/io/detail/elements.hpp>
#include <tessera/io/detail/parse.hpp>
#include <tessera/io/mapped_file.hpp>
#include <tessera/io/tensor.hpp>

namespace tessera::inline TESSERA_ABI {
namespace detail {

/// The header: a Python dictionary with the keys 'descr', 'fortran_order' and 'shape', each once, in any order.
class NpyHeader {
 public:
  NpyHeader(std::string_view text, std::size_t offset, std::string_view name)
      : text_(text), offset_(offset), name_(name) {
    bool seen[3] = {};
    expect('{');
    while (!accept('}')) {
      const std::string_view key = string();
      constexpr std::array<std::string_view, 3> keys{"descr", "fortran_order", "shape"};
      const auto which = static_cast<std::size_t>(std::find(keys.begin(), keys.end(), key) - keys.begin());
      if (which == keys.size()) fail("key ", quote(key), "; expected 'descr', 'fortran_order' or 'shape'");
      if (std::exchange(seen[which], true)) fail("key ", quote(key), " appears twice");
      expect(':');
      if (which == 0) descr();
      if (which == 1) column_major = boolean();
      if (which == 2) tuple();
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip();
    if (at_ != text_.size()) fail("expected nothing but padding after the dictionary");
    if (!seen[0] || !seen[1] || !seen[2]) fail("the dictionary lacks 'descr', 'fortran_order' or 'shape'");
  }

  DType dtype = DType::float64;
  bool swapped = false, column_major = false;
  std::vector<Index> shape;

 private:
  template <class... Pieces>
  [[noreturn]] void fail(const Pieces&... pieces) const {
    throw_format_error(name_, offset_ + at_, "npy header: ", pieces...);
  }
  void skip() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r'))
      ++at_;
  }
  bool accept(char c) {
    skip();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) fail("expected '", c, "'");
  }
  bool accept_word(std::string_view word) {
    if (!text_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }
  std::string_view string() {
    skip();
    const char quote = at_ < text_.size() ? text_[at_] : '\0';
    if (quote != '\'' && quote != '"') fail("expected a quoted string");
    const std::size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) fail("a string that does not end");
    const auto value = text_.substr(at_ + 1, end - at_ - 1);
    if (value.find('\\') != std::string_view::npos) fail("an escape in a string; expected plain characters");
    at_ = end + 1;
    return value;
  }
  bool boolean() {
    skip();
    if (accept_word("True")) return true;
    if (accept_word("False")) return false;
    fail("expected True or False");
  }
  void tuple() {
    expect('(');
    while (!accept(')')) {
      skip();
      Index extent = 0;
      const char* first = text_.data() + at_;
      const auto [end, error] = std::from_chars(first, text_.data() + text_.size(), extent);
      if (error != std::errc{} || extent < 0) fail("expected an extent of 0 to ", std::numeric_limits<Index>::max());
      at_ += static_cast<std::size_t>(end - first);
      accept_word("L");  // Python 2 wrote long integers so
      shape.push_back(extent);
      if (!accept(',')) {
        expect(')');
        if (shape.size() == 1) fail("a tuple of one element is written (n,)");
        break;
      }
    }
  }
  void descr() {
    skip();
    if (at_ < text_.size() && text_[at_] == '[')
      throw unsupported_error(concat("tessera: ", name_, ": npy arrays of structures are not read"));
    const std::string_view text = string();
    constexpr std::array<std::pair<std::string_view, DType>, 14> codes{{{"f8", DType::float64},
                                                                        {"f4", DType::float32},
                                                                        {"f2", DType::float16},
                                                                        {"i8", DType::int64},
                                                                        {"i4", DType::int32},
                                                                        {"i2", DType::int16},
                                                                        {"i1", DType::int8},
                                                                        {"u8", DType::uint64},
                                                                        {"u4", DType::uint32},
                                                                        {"u2", DType::uint16},
                                                                        {"u1", DType::uint8},
                                                                        {"b1", DType::boolean},
                                                                        {"c8", DType::complex64},
                                                                        {"c16", DType::complex128}}};
    const char order = text.empty() ? '\0' : text[0];
    if (order != '<' && order != '>' && order != '|' && order != '=')
      fail("descr ", quote(text), "; expected a byte order of <, >, | or =");
    for (const auto& [code, type] : codes)
      if (text.substr(1) == code) {
        if (order == '|' && dtype_bits(type) > 8) fail("descr ", quote(text), " has no byte order");
        dtype = type;
        swapped = order == '>' && dtype_bits(type) > 8;
        return;
      }
    throw unsupported_error(concat("tessera: ", name_, ": npy arrays of ", quote(text),
                                   " are not read; expected f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 b1 c8 or c16"));
  }

  std::string_view text_;
  std::size_t at_ = 0, offset_;
  std::string_view name_;
};

inline constexpr std::string_view npy_magic{"\x93NUMPY", 6};

template <class T>
constexpr std::string_view npy_descr() {
  switch (dtype_of<T>) {
    case DType::float64:
      return "<f8";
    case DType::float32:
      return "<f4";
    case DType::float16:
      return "<f2";
    case DType::int64:
      return "<i8";
    case DType::int32:
      return "<i4";
    case DType::int16:
      return "<i2";
    case DType::int8:
      return "|i1";
    case DType::uint64:
      return "<u8";
    case DType::uint32:
      return "<u4";
    case DType::uint16:
      return "<u2";
    case DType::uint8:
      return "|u1";
    case DType::boolean:
      return "|b1";
    case DType::complex64:
      return "<c8";
    case DType::complex128:
      return "<c16";
    default:
      return {};
  }
}

}  // namespace detail

/// The array of a .npy file, of any rank and either order, its elements left in the file: `.view<float, 2>()` sees them
/// in place, `.read<float>()` copies, converts and swaps. Throws format_error, unsupported_error (structures, objects,
/// strings, dates). O(header).
inline Tensor read_npy(const ByteSource& source) {
  detail::ByteCursor cursor(source.bytes(), source.name());
  const auto magic = cursor.take(6, "the magic string \\x93NUMPY");
  if (!std::equal(magic.begin(), magic.end(), std::as_bytes(std::span(detail::npy_magic)).begin()))
    detail::throw_format_error(source.name(), 0, "expected the magic string \\x93NUMPY");
  const auto major = cursor.read<std::uint8_t>("a version");
  const auto minor = cursor.read<std::uint8_t>("a version");
  if (major < 1 || major > 3 || minor != 0)
    detail::throw_format_error(source.name(), 6, "npy version ", int{major}, ".", int{minor},
                               "; expected 1.0, 2.0 or 3.0");
  const std::size_t length = major == 1 ? cursor.read<std::uint16_t>("the header's length")
                                        : cursor.read<std::uint32_t>("the header's length");
  const std::size_t begin = cursor.offset();
  const auto text = cursor.take(length, "a header");
  const detail::NpyHeader header({reinterpret_cast<const char*>(text.data()), text.size()}, begin, source.name());

  Index bytes = detail::checked_size(header.shape);
  if (bytes < 0 || !detail::multiply_into(bytes, dtype_bits(header.dtype) / 8) ||
      static_cast<std::size_t>(bytes) != cursor.left())
    detail::throw_format_error(source.name(), cursor.offset(), cursor.left(), " bytes follow the header; ",
                               dtype_name(header.dtype), " of shape ", detail::shape_text(header.shape), " needs ",
                               bytes < 0 ? std::string("more than memory can hold") : std::to_string(bytes));
  return {.name = source.name(),
          .dtype = header.dtype,
          .shape = header.shape,
          .data = source.bytes().subspan(cursor.offset()),
          .column_major = header.column_major,
          .swapped = header.swapped,
          .owner = source.owner()};
}
inline Tensor read_npy(const std::string& path) { return read_npy(ByteSource::file(path)); }

/// Writes a view of any strides as version 1.0, row-major, data aligned to 64 bytes. O(size).
template <ByteSink Sink, class T, int Rank>
requires(TensorElement<T> && !detail::npy_descr<std::remove_cv_t<T>>().empty()) void write_npy(Sink& out,
                                                                                               View<T, Rank> array) {
  std::string header =
      detail::concat("{'descr': '", detail::npy_descr<std::remove_cv_t<T>>(), "', 'fortran_order': False, 'shape': (");
  for (int d = 0; d < Rank; ++d) header += detail::concat(array.extent(d), Rank == 1 ? "," : d + 1 < Rank ? ", " : "");
  header += "), }";
  constexpr std::size_t fixed = 10;
  const std::size_t total = (fixed + header.size() + 1 + 63) / 64 * 64;
  header.append(total - fixed - header.size() - 1, ' ') += '\n';

  std::string prefix(detail::npy_magic);
  prefix += {'\1', '\0', static_cast<char>(header.size() & 0xff), static_cast<char>(header.size() >> 8)};
  out.write(std::as_bytes(std::span(prefix)));
  out.write(std::as_bytes(std::span(header)));
  detail::write_elements(out, View<const T, Rank>(array.data(), array.extents(), array.strides()));
}
template <class T, int Rank>
void write_npy(const std::string& path, View<T, Rank> array) {
  AtomicFile file(path);
  write_npy(file, array);
  file.commit();
}

}  // namespace tessera::inline TESSERA_ABI
