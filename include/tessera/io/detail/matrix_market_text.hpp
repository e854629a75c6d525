/// Lines of a MatrixMarket file being written, and repeated entries found.
#pragma once

#include <algorithm>
#include <charconv>
#include <complex>
#include <concepts>
#include <cstddef>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <tessera/core/config.hpp>
#include <tessera/io/atomic_file.hpp>
#include <tessera/io/coo.hpp>
#include <tessera/io/detail/matrix_market_parser.hpp>

namespace tessera::inline TESSERA_ABI::detail {

template <class T>
constexpr std::string_view matrix_market_field() {
  return std::integral<T> ? "integer" : std::floating_point<T> ? "real" : "complex";
}

/// Gathers lines and passes them on in pieces of 64 KiB.
template <ByteSink Sink>
class MatrixMarketText {
 public:
  explicit MatrixMarketText(Sink& out) : out_(out) {}

  void banner(std::string_view format, std::string_view field, Symmetry symmetry, std::string_view comment) {
    text_ = concat("%%MatrixMarket matrix ", format, " ", field, " ",
                   matrix_market_symmetries[static_cast<std::size_t>(symmetry)], "\n");
    while (!comment.empty()) {
      const std::size_t end = std::min(comment.find('\n'), comment.size());
      text_ += concat("% ", comment.substr(0, end), "\n");
      comment.remove_prefix(std::min(end + 1, comment.size()));
    }
  }
  template <class... Values>
  void line(const Values&... values) {
    (put(values), ...);
    text_.back() = '\n';
    if (text_.size() >= 1 << 16) flush();
  }
  void flush() {
    out_.write(std::as_bytes(std::span(text_)));
    text_.clear();
  }

 private:
  template <class V>
  void put(const V& value) {
    if constexpr (std::integral<V> || std::floating_point<V>) {
      char digits[64];
      text_.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr) += ' ';
    } else {
      put(value.real());
      put(value.imag());
    }
  }

  Sink& out_;
  std::string text_;
};

/// Two entries at one place, the later one the first such in the list, or (-1, -1).
inline std::pair<Index, Index> find_repeat(const std::vector<Index>& row, const std::vector<Index>& col) {
  bool by_row = true, by_col = true;
  for (std::size_t k = 1; k < row.size(); ++k) {
    by_row = by_row && std::tie(row[k - 1], col[k - 1]) < std::tie(row[k], col[k]);
    by_col = by_col && std::tie(col[k - 1], row[k - 1]) < std::tie(col[k], row[k]);
  }
  std::pair<Index, Index> repeat{-1, -1};
  if (by_row || by_col) return repeat;
  std::vector<std::size_t> order(row.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return std::tie(col[a], row[a], a) < std::tie(col[b], row[b], b); });
  for (std::size_t k = 1; k < order.size(); ++k) {
    const auto first = static_cast<Index>(order[k - 1]), again = static_cast<Index>(order[k]);
    if (row[order[k - 1]] == row[order[k]] && col[order[k - 1]] == col[order[k]] &&
        (repeat.second < 0 || again < repeat.second))
      repeat = {first, again};
  }
  return repeat;
}

}  // namespace tessera::inline TESSERA_ABI::detail
