/// MatrixMarket files: coordinate and array; real, integer, complex, pattern; every symmetry.
/// R. Boisvert, R. Pozo, K. Remington, "The Matrix Market Exchange Formats: Initial Design" (NISTIR 5935, 1996).
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <complex>
#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <tessera/core/buffer.hpp>
#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/io/atomic_file.hpp>
#include <tessera/io/coo.hpp>
#include <tessera/io/detail/matrix_market_parser.hpp>
#include <tessera/io/detail/matrix_market_text.hpp>
#include <tessera/io/detail/parse.hpp>
#include <tessera/io/mapped_file.hpp>

namespace tessera::inline TESSERA_ABI {

template <class T>
concept MatrixMarketValue = detail::is_matrix_market_value<T>;

/// Banner and size line alone.
inline MatrixMarketHeader read_matrix_market_header(const ByteSource& source) {
  return detail::MatrixMarketParser(source.text(), source.name()).header;
}
inline MatrixMarketHeader read_matrix_market_header(const std::string& path) {
  return read_matrix_market_header(ByteSource::file(path));
}

struct MatrixMarketOptions {
  bool expand = false;   // list also the entries that symmetry implies
  bool repeats = false;  // keep several entries at one place, which assembly codes write to be added up
};

/// The entries of a file of either format (an array lists zeros too); a pattern's values are 1. Comments and blank
/// lines may stand anywhere after the banner. Throws format_error naming the line: also for an entry that appears
/// twice, is above the diagonal of a symmetric matrix, or is not there; unsupported_error when T cannot hold the
/// values. O(bytes), and O(n log n) when the entries are in neither row nor column order.
template <MatrixMarketValue T>
Coo<T> read_matrix_market(const ByteSource& source, MatrixMarketOptions options = {}) {
  detail::MatrixMarketParser parser(source.text(), source.name());
  Coo<T> matrix;
  matrix.rows = parser.header.rows;
  matrix.cols = parser.header.cols;
  matrix.symmetry = parser.header.symmetry;
  const auto entries = static_cast<std::size_t>(parser.header.entries);
  matrix.row.reserve(entries);
  matrix.col.reserve(entries);
  matrix.value.reserve(entries);
  parser.for_each_entry<T>([&](Index i, Index j, const T& value) {
    matrix.row.push_back(i);
    matrix.col.push_back(j);
    matrix.value.push_back(value);
  });
  if (parser.header.coordinate && !options.repeats)
    if (const auto [first, again] = detail::find_repeat(matrix.row, matrix.col); again >= 0) {
      const Index line = parser.line_of_entry(first);
      parser.line_of_entry(again);
      parser.fail("(", matrix.row[static_cast<std::size_t>(again)] + 1, ", ",
                  matrix.col[static_cast<std::size_t>(again)] + 1, ") is already on line ", line);
    }
  return options.expand ? expand(std::move(matrix)) : matrix;
}
template <MatrixMarketValue T>
Coo<T> read_matrix_market(const std::string& path, MatrixMarketOptions options = {}) {
  return read_matrix_market<T>(ByteSource::file(path), options);
}

/// A dense matrix that owns its elements, (rows, cols) row-major.
template <class T>
struct DenseArray {
  Index rows = 0, cols = 0;
  Buffer<T> values;
  MatrixView<const T> view() const { return {values.data(), rows, cols}; }
  MatrixView<T> view() { return {values.data(), rows, cols}; }
};

/// An array file, every element, symmetry expanded. Coordinate files are refused (unsupported_error): read the entries
/// and say `to_dense`. O(bytes).
template <MatrixMarketValue T>
DenseArray<T> read_matrix_market_array(const ByteSource& source) {
  detail::MatrixMarketParser parser(source.text(), source.name());
  const auto& header = parser.header;
  if (header.coordinate)
    throw unsupported_error(detail::concat(
        "tessera: ", source.name(), " lists coordinates; expected an array, or read_matrix_market and to_dense"));
  DenseArray<T> dense{header.rows, header.cols, Buffer<T>(header.rows * header.cols)};
  parser.for_each_entry<T>([&](Index i, Index j, const T& value) {
    dense.values[i * header.cols + j] = value;
    if (i != j && header.symmetry != Symmetry::general)
      dense.values[j * header.cols + i] = detail::mirrored(value, header.symmetry);
  });
  return dense;
}
template <MatrixMarketValue T>
DenseArray<T> read_matrix_market_array(const std::string& path) {
  return read_matrix_market_array<T>(ByteSource::file(path));
}

struct MatrixMarketWriteOptions {
  bool pattern = false;  // coordinates only
  std::string_view comment = {};
};

/// Writes the entries as they are listed, symmetry included, values in the shortest form that reads back the same.
/// Throws shape_error for lists of different lengths, a place outside the matrix or not among those its symmetry lists.
template <ByteSink Sink, MatrixMarketValue T>
void write_matrix_market(Sink& out, const Coo<T>& matrix, MatrixMarketWriteOptions options = {}) {
  const bool general = matrix.symmetry == Symmetry::general;
  const std::size_t entries = matrix.value.size();
  if (matrix.row.size() != entries || matrix.col.size() != entries || (!general && matrix.rows != matrix.cols))
    throw shape_error(detail::concat("tessera: a list of ", matrix.row.size(), " rows, ", matrix.col.size(),
                                     " columns, ", entries, " values of a ",
                                     detail::shape_text(matrix.rows, matrix.cols),
                                     " matrix; expected as many of each, and a square matrix where it is symmetric"));
  const Index above = matrix.symmetry == Symmetry::skew_symmetric ? 0 : 1;
  for (std::size_t k = 0; k < entries; ++k) {
    const Index i = matrix.row[k], j = matrix.col[k];
    if (i < 0 || i >= matrix.rows || j < 0 || j >= matrix.cols || (!general && j >= i + above))
      throw shape_error(detail::concat("tessera: entry ", k, " at (", i, ", ", j, ") of a ",
                                       detail::shape_text(matrix.rows, matrix.cols),
                                       general ? "" : " symmetric one, which lists those below its diagonal"));
  }
  detail::MatrixMarketText<Sink> text(out);
  text.banner("coordinate", options.pattern ? "pattern" : detail::matrix_market_field<T>(), matrix.symmetry,
              options.comment);
  text.line(matrix.rows, matrix.cols, static_cast<Index>(entries));
  for (std::size_t k = 0; k < entries; ++k) {
    if (options.pattern)
      text.line(matrix.row[k] + 1, matrix.col[k] + 1);
    else
      text.line(matrix.row[k] + 1, matrix.col[k] + 1, matrix.value[k]);
  }
  text.flush();
}

/// Writes a dense matrix as a general array.
template <ByteSink Sink, class T>
requires MatrixMarketValue<std::remove_cv_t<T>>
void write_matrix_market(Sink& out, MatrixView<T> matrix, std::string_view comment = {}) {  // (M,N)
  detail::MatrixMarketText<Sink> text(out);
  text.banner("array", detail::matrix_market_field<std::remove_cv_t<T>>(), Symmetry::general, comment);
  text.line(matrix.rows(), matrix.cols());
  for (Index j = 0; j < matrix.cols(); ++j)
    for (Index i = 0; i < matrix.rows(); ++i) text.line(matrix(i, j));
  text.flush();
}

/// Either, to a file that appears whole or not at all.
template <MatrixMarketValue T>
void write_matrix_market(const std::string& path, const Coo<T>& matrix, MatrixMarketWriteOptions options = {}) {
  AtomicFile file(path);
  write_matrix_market(file, matrix, options);
  file.commit();
}
template <class T>
requires MatrixMarketValue<std::remove_cv_t<T>>
void write_matrix_market(const std::string& path, MatrixView<T> matrix, std::string_view comment = {}) {
  AtomicFile file(path);
  write_matrix_market(file, matrix, comment);
  file.commit();
}

}  // namespace tessera::inline TESSERA_ABI
