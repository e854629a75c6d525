/// The obvious loops.
#pragma once

#include <tessera/kernels/triangular_solve/args.hpp>

namespace tessera::inline TESSERA_ABI {

struct TriangularSolveRef {
  static constexpr std::string_view name = "triangular_solve:ref";
  static constexpr Isa isa = Isa::portable;
  template <class T, class I>
  static const char* reject(const TriangularSolveArgs<T, I>&) {
    return nullptr;
  }
  template <class T, class I>
  static void run(const TriangularSolveArgs<T, I>& a, RowRange turns) noexcept {
    const I *starts = a.row_ptr, *columns = a.col_idx;
    const T *values = a.values, *diagonal = a.diagonal;
    const Index step = a.X.row_stride();
    for (Index k = a.first + turns.begin; k < a.first + turns.end; ++k) {
      const Index i = a.row(k), last = starts[i + 1];
      for (Index r = 0; r < a.X.cols(); ++r) {
        T* const x = a.X.data() + r * a.X.col_stride();
        T sum = x[i * step];
        for (Index e = starts[i]; e < last; ++e) sum -= values[e] * x[columns[e] * step];
        x[i * step] = diagonal == nullptr ? sum : sum / diagonal[i];
      }
    }
  }
};

struct TriangularSlicesRef {
  static constexpr std::string_view name = "triangular_slices:ref";
  static constexpr Isa isa = Isa::portable;
  template <class T, class I>
  static const char* reject(const TriangularSlicesArgs<T, I>&) {
    return nullptr;
  }
  template <class T, class I>
  static void run(const TriangularSlicesArgs<T, I>& a, RowRange slices) noexcept {
    for (Index s = a.first + slices.begin; s < a.first + slices.end; ++s) {
      const Index from = a.position[s], rows = a.position[s + 1] - from;
      T sum[TriangularSlicesArgs<T, I>::width] = {};
      for (Index r = 0; r < rows; ++r) sum[r] = a.x[a.order[from + r] * a.stride];
      for (Index k = a.step[s], e = a.entry[s]; k < a.step[s + 1]; e += a.held[k++])
        for (Index r = 0; r < a.held[k]; ++r) sum[r] -= a.values[e + r] * a.x[a.col_idx[e + r] * a.stride];
      for (Index r = 0; r < rows; ++r)
        a.x[a.order[from + r] * a.stride] = a.diagonal == nullptr ? sum[r] : sum[r] / a.diagonal[from + r];
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI
