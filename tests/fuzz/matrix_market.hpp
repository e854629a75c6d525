#pragma once

#include <algorithm>
#include <complex>
#include <cstdint>
#include <tessera/io/matrix_market.hpp>

#include "target.hpp"

namespace tessera::fuzz {

template <class T>
void matrix_market_as(const ByteSource& file) {
  accepts([&] {
    const auto matrix = read_matrix_market<T>(file);
    TESSERA_FUZZ_LAW(matrix.value.size() <= file.bytes().size());
    MemoryFile first, second;
    write_matrix_market(first, matrix);
    const auto again = read_matrix_market<T>(ByteSource::memory(first.bytes, "(fuzz)"));
    TESSERA_FUZZ_LAW(again.rows == matrix.rows && again.cols == matrix.cols && again.symmetry == matrix.symmetry);
    TESSERA_FUZZ_LAW(again.row == matrix.row && again.col == matrix.col);
    write_matrix_market(second, again);
    TESSERA_FUZZ_LAW(first.bytes == second.bytes);  // NaN too
    if (matrix.rows < 100 && matrix.cols < 100) {
      const auto all = expand(matrix);
      const auto dense = to_dense(matrix), also = to_dense(all);
      TESSERA_FUZZ_LAW(dense.size() == also.size());
    }
  });
  accepts([&] {
    const auto dense = read_matrix_market_array<T>(file);
    MemoryFile first, second;
    write_matrix_market(first, dense.view());
    write_matrix_market(second, read_matrix_market_array<T>(ByteSource::memory(first.bytes, "(fuzz)")).view());
    TESSERA_FUZZ_LAW(first.bytes == second.bytes);
  });
}

inline void matrix_market(std::span<const std::uint8_t> input) {
  const auto file = source(input);
  matrix_market_as<double>(file);
  matrix_market_as<std::complex<float>>(file);
  matrix_market_as<std::int8_t>(file);
  matrix_market_as<std::int64_t>(file);
  accepts([&] { read_matrix_market<float>(file, {.expand = true, .repeats = true}); });
}

}  // namespace tessera::fuzz
