/// The obvious loops, of any types and strides.
#pragma once

#include <tessera/kernels/spmm/args.hpp>

namespace tessera::inline TESSERA_ABI {

struct SpmmRef {
  static constexpr std::string_view name = "spmm:ref";
  static constexpr Isa isa = Isa::portable;
  template <class T, class I>
  static const char* reject(const SpmmArgs<T, I>&) {
    return nullptr;
  }
  template <class T, class I>
  static void run(const SpmmArgs<T, I>& a, RowRange range) noexcept {
    for (Index p = range.begin; p < range.end; ++p) {
      const auto piece = a.piece(p);
      for (Index j = piece.j; j < piece.j_end; ++j)
        a.op == Op::none ? forward(a, piece.i, piece.i_end, j) : transposed(a, piece.i, piece.i_end, j);
    }
  }

 private:
  template <class T, class I>
  static void forward(const SpmmArgs<T, I>& a, Index begin, Index end, Index j) {
    using S = accum_t<T>;
    for (Index i = begin; i < end; ++i) {
      S sum = 0;
      for (I e = a.row_ptr[i]; e < a.row_ptr[i + 1]; ++e) sum += static_cast<S>(a.values[e]) * a.X(a.col_idx[e], j);
      a.Y(i, j) = a.beta == S(0) ? a.alpha * sum : a.alpha * sum + a.beta * a.Y(i, j);
    }
  }
  template <class T, class I>
  static void transposed(const SpmmArgs<T, I>& a, Index begin, Index end, Index j) {
    using S = accum_t<T>;
    for (Index c = begin; c < end; ++c) a.Y(c, j) = a.beta == S(0) ? S(0) : a.beta * a.Y(c, j);
    for (Index i = 0; i < a.rows; ++i)
      for (I e = a.row_ptr[i]; e < a.row_ptr[i + 1]; ++e) {
        const Index c = a.col_idx[e];
        if (c >= begin && c < end) a.Y(c, j) += static_cast<S>(a.values[e]) * (a.alpha * a.X(i, j));
      }
  }
};

}  // namespace tessera::inline TESSERA_ABI
