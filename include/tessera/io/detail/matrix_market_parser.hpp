/// The grammar of MatrixMarket files, line by line.
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <complex>
#include <concepts>
#include <cstddef>
#include <limits>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>

#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>
#include <tessera/io/coo.hpp>
#include <tessera/io/detail/parse.hpp>

namespace tessera::inline TESSERA_ABI {

enum class MatrixMarketField { real, integer, complex, pattern };

/// The banner and the size line of a file.
struct MatrixMarketHeader {
  bool coordinate = true;  // a list of entries; otherwise all of a dense matrix, column by column
  MatrixMarketField field = MatrixMarketField::real;
  Symmetry symmetry = Symmetry::general;
  Index rows = 0, cols = 0;
  Index entries = 0;  // lines of data
};

namespace detail {

inline constexpr std::string_view matrix_market_fields[] = {"real", "integer", "complex", "pattern"};
inline constexpr std::string_view matrix_market_symmetries[] = {"general", "symmetric", "skew-symmetric", "hermitian"};

constexpr char to_lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
inline bool equals_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) { return to_lower(x) == to_lower(y); });
}

/// Value types that entries are read into.
template <class T>
inline constexpr bool is_matrix_market_value = std::same_as<T, float> || std::same_as<T, double> ||
                                               std::same_as<T, std::complex<float>> ||
                                               std::same_as<T, std::complex<double>> ||
                                               (std::signed_integral<T> && !std::same_as<T, char> &&
                                                !std::same_as<T, wchar_t>);

/// Reads banner and size line on construction. Everything throws format_error naming file and line.
class MatrixMarketParser {
 public:
  MatrixMarketParser(std::string_view text, std::string_view name) : text_(text), name_(name) {
    banner();
    size_line();
    data_ = at_;
    data_line_ = line_;
  }

  MatrixMarketHeader header;

  /// f(row, column, value) for every line of data, from 0, in the file's order. unsupported_error when T cannot hold
  /// the field.
  template <class T, class F>
  void for_each_entry(F&& f) {
    using Field = MatrixMarketField;
    constexpr bool is_complex = !std::floating_point<T> && !std::integral<T>;
    if ((header.field == Field::complex && !is_complex) || (header.field == Field::real && std::integral<T>))
      throw unsupported_error(
          concat("tessera: ", name_, " holds ", field_name(), " values, asked for as ",
                 std::integral<T> ? "integers; read floating-point or complex ones" : "real ones; read complex ones"));
    rewind();
    Index i = first_row(0), j = 0;
    for (Index k = 0; k < header.entries; ++k) {
      if (!next_line())
        fail("the file ends after ", k, " of the ", header.entries, " entries that the size line promises");
      if (header.coordinate) {
        i = index("row", header.rows);
        j = index("column", header.cols);
        check_place(i, j);
      }
      const T value = entry_value<T>();
      if (const auto extra = token(); !extra.empty()) fail("expected the end of the line, not ", quote(extra));
      if constexpr (is_complex)
        if (header.symmetry == Symmetry::hermitian && i == j && value.imag() != 0)
          fail("the diagonal of a hermitian matrix is real");
      f(i, j, value);
      if (!header.coordinate && ++i == header.rows) i = first_row(++j);
    }
    if (next_line()) fail("more lines of data than the ", header.entries, " that the size line promises");
  }

  /// The line of entry k, for a message.
  Index line_of_entry(Index k) {
    rewind();
    for (Index passed = 0; passed <= k; ++passed) next_line();
    return line_;
  }

  template <class... Pieces>
  [[noreturn]] void fail(const Pieces&... pieces) const {
    throw format_error(concat("tessera: ", name_, " line ", line_, ": ", pieces...));
  }

 private:
  static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f'; }
  std::string_view field_name() const { return matrix_market_fields[static_cast<std::size_t>(header.field)]; }
  std::string_view symmetry_name() const { return matrix_market_symmetries[static_cast<std::size_t>(header.symmetry)]; }

  void rewind() {
    at_ = data_;
    line_ = data_line_;
  }
  bool take_line() {
    if (at_ >= text_.size()) return false;
    const std::size_t end = std::min(text_.find('\n', at_), text_.size());
    rest_ = text_.substr(at_, end - at_);
    at_ = end + 1;
    ++line_;
    return true;
  }
  /// The next line that is neither blank nor a comment.
  bool next_line() {
    while (take_line()) {
      while (!rest_.empty() && is_space(rest_.front())) rest_.remove_prefix(1);
      if (!rest_.empty() && rest_.front() != '%') return true;
    }
    return false;
  }
  /// The next word of the line, or nothing.
  std::string_view token() {
    std::size_t begin = 0;
    while (begin < rest_.size() && is_space(rest_[begin])) ++begin;
    std::size_t end = begin;
    while (end < rest_.size() && !is_space(rest_[end])) ++end;
    const auto word = rest_.substr(begin, end - begin);
    rest_.remove_prefix(end);
    return word;
  }

  template <std::size_t N>
  std::size_t choose(const std::string_view (&names)[N], std::string_view what) {
    const auto word = token();
    for (std::size_t i = 0; i < N; ++i)
      if (equals_ignoring_case(word, names[i])) return i;
    std::string all;
    for (const auto name : names) all += concat(all.empty() ? "" : ", ", name);
    fail(what, " ", quote(word), "; expected one of ", all);
  }

  void banner() {
    const bool any = take_line();
    if (!any) line_ = 1;
    if (!any || !equals_ignoring_case(token(), "%%MatrixMarket")) fail("expected the banner %%MatrixMarket");
    constexpr std::string_view objects[] = {"matrix", "vector"};
    if (choose(objects, "object") == 1)
      throw unsupported_error(concat("tessera: ", name_, ": MatrixMarket vectors are not read; expected a matrix"));
    constexpr std::string_view formats[] = {"coordinate", "array"};
    header.coordinate = choose(formats, "format") == 0;
    constexpr std::string_view fields[] = {"real", "integer", "complex", "pattern", "double"};  // double: an old real
    const auto field = choose(fields, "field");
    header.field = field == 4 ? MatrixMarketField::real : static_cast<MatrixMarketField>(field);
    header.symmetry = static_cast<Symmetry>(choose(matrix_market_symmetries, "symmetry"));
    if (const auto extra = token(); !extra.empty()) fail("expected the end of the banner, not ", quote(extra));
    const bool pattern = header.field == MatrixMarketField::pattern;
    if (pattern && !header.coordinate) fail("an array has values; a pattern is only lawful as coordinates");
    if ((pattern && header.symmetry == Symmetry::skew_symmetric) ||
        (header.symmetry == Symmetry::hermitian && header.field != MatrixMarketField::complex))
      fail("a ", field_name(), " matrix cannot be ", symmetry_name());
  }

  Index count(std::string_view what) {
    const auto word = token();
    Index value = 0;
    const auto [end, code] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (word.empty() || code != std::errc{} || end != word.data() + word.size() || value < 0)
      fail("expected ", what, ", a number from 0, not ", word.empty() ? "the end of the line" : quote(word));
    return value;
  }

  void size_line() {
    if (!next_line()) fail("the file ends before its size line");
    header.rows = count("rows");
    header.cols = count("columns");
    if (header.coordinate) header.entries = count("entries");
    if (const auto extra = token(); !extra.empty()) fail("expected the end of the size line, not ", quote(extra));
    if (header.symmetry != Symmetry::general && header.rows != header.cols)
      fail("a ", symmetry_name(), " matrix of ", shape_text(header.rows, header.cols), "; expected a square one");

    if (!header.coordinate && !array_entries()) fail("more elements than can be counted");
    // Refuses a file cut short before anything is parsed or allocated.
    const std::string_view data = text_.substr(std::min(at_, text_.size()));
    const Index lines = std::count(data.begin(), data.end(), '\n') + (data.empty() || data.back() == '\n' ? 0 : 1);
    if (header.entries > lines) fail("the size line promises ", header.entries, " entries; ", lines, " lines follow");
    const bool two = header.field == MatrixMarketField::complex, none = header.field == MatrixMarketField::pattern;
    const Index least = (header.coordinate ? 4 : 0) + (two ? 4 : none ? 0 : 2);  // bytes of a line
    const Index most = (static_cast<Index>(data.size()) + 1) / least;
    if (header.entries > most)
      fail("the size line promises ", header.entries, " entries; the ", data.size(), " bytes that follow hold at most ",
           most);
  }
  bool array_entries() {
    header.entries = header.rows;
    if (header.symmetry == Symmetry::general) return multiply_into(header.entries, header.cols);
    if (header.rows == std::numeric_limits<Index>::max() ||
        !multiply_into(header.entries, header.symmetry == Symmetry::skew_symmetric ? header.rows - 1 : header.rows + 1))
      return false;
    header.entries /= 2;
    return true;
  }
  /// Where column j of an array begins.
  Index first_row(Index j) const {
    if (header.symmetry == Symmetry::general) return 0;
    return header.symmetry == Symmetry::skew_symmetric ? j + 1 : j;
  }

  Index index(std::string_view what, Index extent) {
    const auto word = token();
    Index value = 0;
    const auto [end, code] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (word.empty() || code != std::errc{} || end != word.data() + word.size() || value < 1 || value > extent)
      fail("expected a ", what, " of 1 to ", extent, ", not ", word.empty() ? "the end of the line" : quote(word));
    return value - 1;
  }
  void check_place(Index i, Index j) const {
    if (header.symmetry == Symmetry::general) return;
    if (i < j)
      fail("(", i + 1, ", ", j + 1, ") is above the diagonal; a ", symmetry_name(), " matrix lists those below");
    if (i == j && header.symmetry == Symmetry::skew_symmetric)
      fail("(", i + 1, ", ", j + 1, ") is on the diagonal, which is zero in a skew-symmetric matrix");
  }

  template <class T>
  T entry_value() {
    if (header.field == MatrixMarketField::pattern) return T(1);
    if constexpr (std::integral<T>) {
      return integer<T>(token());
    } else if constexpr (std::floating_point<T>) {
      return real<T>(token());
    } else {
      using R = typename T::value_type;
      const R re = real<R>(token());
      return {re, header.field == MatrixMarketField::complex ? real<R>(token()) : R(0)};
    }
  }

  /// std::from_chars takes a minus only.
  static std::string_view without_plus(std::string_view word) {
    return word.size() > 1 && word[0] == '+' && word[1] != '-' ? word.substr(1) : word;
  }

  template <class T>
  T integer(std::string_view word) const {
    const auto digits = without_plus(word);
    T value = 0;
    const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (end != digits.data() + digits.size() || code == std::errc::invalid_argument)
      fail("expected a whole number, not ", word.empty() ? "the end of the line" : quote(word));
    if (code != std::errc{})
      throw unsupported_error(concat("tessera: ", name_, " line ", line_, ": ", quote(word), " does not fit ",
                                     8 * sizeof(T), " bits; read a wider type"));
    return value;
  }

  template <class R>
  R real(std::string_view word) const {
    const auto digits = without_plus(word);
    R value = 0;
    const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (end != digits.data() + digits.size() || code == std::errc::invalid_argument)
      fail("expected a number, not ", word.empty() ? "the end of the line" : quote(word));
    if (code != std::errc{}) value = out_of_range<R>(digits);
    // Files of whole numbers may hold infinities and NaN all the same: SuiteSparse's tools write them so.
    if (header.field == MatrixMarketField::integer && std::isfinite(value) &&
        digits.find_first_not_of("-0123456789") != std::string_view::npos)
      fail("expected a whole number, not ", word.empty() ? "the end of the line" : quote(word));
    return value;
  }
  /// A number too small for R is rounded; one too large is refused.
  template <class R>
  R out_of_range(std::string_view digits) const {
    long double wide = 0;
    const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), wide);
    if (code == std::errc{} && std::fabs(wide) <= static_cast<long double>(std::numeric_limits<R>::max()))
      return static_cast<R>(wide);
    const std::size_t exponent = digits.find_first_of("eE");
    if (code != std::errc{} && exponent != std::string_view::npos && digits.substr(exponent + 1).starts_with('-'))
      return R(0);
    fail(quote(digits), " does not fit ", 8 * sizeof(R), " bits of floating point");
  }

  std::string_view text_, name_, rest_;
  std::size_t at_ = 0, data_ = 0;
  Index line_ = 0, data_line_ = 0;
};

}  // namespace detail
}  // namespace tessera::inline TESSERA_ABI
