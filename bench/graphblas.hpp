/// Matrices of GraphBLAS from compressed rows; for peer files alone, and only where it is installed.
#pragma once

extern "C" {
#include <GraphBLAS.h>
}

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace peers {

inline void check(GrB_Info info) {
  if (info != GrB_SUCCESS) throw std::runtime_error("GraphBLAS failed with code " + std::to_string(info));
}
/// `threads` at most from now on.
inline void use_graphblas(int threads) {
  [[maybe_unused]] static const bool ready = (check(GrB_init(GrB_BLOCKING)), true);
  check(GxB_Global_Option_set_INT32(GxB_GLOBAL_NTHREADS, threads));
}

/// Freed with its owner; by rows.
struct GraphMatrix {
  GrB_Matrix of = nullptr;
  GraphMatrix(GrB_Type type, std::uint64_t rows, std::uint64_t cols) { check(GrB_Matrix_new(&of, type, rows, cols)); }
  GraphMatrix(const GraphMatrix&) = delete;
  GraphMatrix& operator=(const GraphMatrix&) = delete;
  ~GraphMatrix() { GrB_Matrix_free(&of); }
};

/// Rows and columns of every nonzero.
struct Places {
  std::vector<GrB_Index> row, col;
  Places(std::ptrdiff_t rows, const std::int32_t* row_ptr, const std::int32_t* col_idx)
      : col(col_idx, col_idx + row_ptr[rows]) {
    row.reserve(col.size());
    for (std::ptrdiff_t i = 0; i < rows; ++i)
      for (std::int32_t e = row_ptr[i]; e < row_ptr[i + 1]; ++e) row.push_back(static_cast<GrB_Index>(i));
  }
};

}  // namespace peers
