/// The obvious loops.
#pragma once

#include <tessera/kernels/sparse_int8/args.hpp>

namespace tessera::inline TESSERA_ABI {

struct BsrInt8Ref {
  static constexpr std::string_view name = "bsr_int8:ref";
  static constexpr Isa isa = Isa::portable;
  static const char* reject(const BsrInt8Args&) { return nullptr; }
  static void run(const BsrInt8Args& a, RowRange range) noexcept {
    const Index R = a.block_rows, begin = range.begin * R, end = std::min(a.rows, range.end * R);
    for (Index j = 0; j < a.C.cols(); j += a.panel) {
      const std::int16_t* const x = a.panel_at(j);
      for (Index i = begin; i < end; ++i)
        for (Index c = 0; c < a.columns(j); ++c) {
          std::uint32_t sum = 0;
          for (Index e = a.block_ptr[i / R]; e < a.block_ptr[i / R + 1]; ++e)
            sum += static_cast<std::uint32_t>(a.values[e * R + i % R] * x[a.block_col[e] * a.panel + c]);
          a.C(i, j + c) = a.joined(a.C(i, j + c), static_cast<std::int32_t>(sum), true);
        }
      a.done(begin, end - begin, j);
    }
  }
};

struct NmInt8Ref {
  static constexpr std::string_view name = "nm_int8:ref";
  static constexpr Isa isa = Isa::portable;
  static const char* reject(const NmInt8Args&) { return nullptr; }
  static void run(const NmInt8Args& a, RowRange rows) noexcept {
    const Index each = a.groups() * a.n;
    for (Index j = 0; j < a.C.cols(); j += a.panel) {
      const std::int16_t* const x = a.panel_at(j);
      for (Index i = rows.begin; i < rows.end; ++i)
        for (Index c = 0; c < a.columns(j); ++c) {
          std::uint32_t sum = 0;
          for (Index k = 0; k < each; ++k)
            if (const Index at = a.column(i, k); at < a.cols)
              sum += static_cast<std::uint32_t>(a.values[i * each + k] * x[at * a.panel + c]);
          a.C(i, j + c) = a.joined(a.C(i, j + c), static_cast<std::int32_t>(sum), true);
        }
      a.done(rows.begin, rows.end - rows.begin, j);
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI
