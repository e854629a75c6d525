#pragma once

#include <tessera/kernels/group_sparse/args.hpp>

namespace tessera::inline TESSERA_ABI {

/// The obvious loops.
struct GroupSparseRef {
  static constexpr std::string_view name = "group_sparse:ref";
  static constexpr Isa isa = Isa::portable;
  static const char* reject(const GroupSparseArgs&) { return nullptr; }

  static void run(const GroupSparseArgs& a, RowRange range) noexcept {
    constexpr Index size = SparseGroup::size;
    if (a.transpose) {
      for (Index n = range.begin; n < range.end; ++n)
        for (Index i = 0; i < a.rows; ++i)
          for (Index e = a.begin[i]; e < a.begin[i + 1]; ++e)
            for (Index p = 0; p < size; ++p)
              a.y[n * a.padded + a.columns[e] * size + p] += a.alpha * a.X(i, n) * a.groups[e].value(p);
      return;
    }
    for (Index i = a.pieces[range.begin]; i < a.pieces[range.end]; ++i)
      for (Index n = 0; n < a.n; ++n) {
        float sum = 0;
        for (Index e = a.begin[i]; e < a.begin[i + 1]; ++e)
          for (Index p = 0; p < size; ++p) sum += a.groups[e].value(p) * a.x[a.at(a.columns[e] * size + p, n)];
        a.Y(i, n) = a.beta == 0 ? a.alpha * sum : a.alpha * sum + a.beta * a.Y(i, n);
      }
  }
};

}  // namespace tessera::inline TESSERA_ABI
