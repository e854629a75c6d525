/// Few rows or few columns: the small factor is packed once, the large one streams by in place, and each of its lines
/// is read from memory once.
#pragma once

#include <algorithm>

#include <tessera/kernels/gemm/args.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// The kernel around a lane's `FewOps`; derived ones add their name and ISA.
template <template <class> class Ops>
struct FewGemm {
  static constexpr bool finishes = true;
  static constexpr Index longest = 16384;  // beyond, the packed factor leaves the second-level cache

  template <class TA, class TB, class T>
  static const char* reject(const GemmArgs<TA, TB, T>& args) {
    if (args.triangle != 0) return "a triangle of C alone is wanted";
    if (args.A.col_stride() != 1 || args.B.row_stride() != 1) return "rows of A or columns of B are not contiguous";
    if (std::min(args.m(), args.n()) > 2 * Ops<T>::lanes) return "more rows and columns than two vectors hold";
    if (args.k() < 32) return "sums of less than 32 terms";
    if (args.k() > longest) return "sums of more than 16384 terms";
    return nullptr;
  }
  template <class TA, class TB, class T>
  static std::size_t scratch(const GemmArgs<TA, TB, T>& args) {
    return static_cast<std::size_t>(args.k() * width<T>(std::min(args.m(), args.n())) + Ops<T>::lanes) * sizeof(T);
  }
  template <class TA, class TB, class T>
  static void run(const GemmArgs<TA, TB, T>& args, RowRange rows) noexcept {
    const Index rs = args.A.row_stride(), cs = args.B.col_stride(), m = rows.end - rows.begin;
    const Index crs = args.C.row_stride(), ccs = args.C.col_stride();
    const TA* a = args.A.data() + rows.begin * rs;
    T* c = args.C.data() + rows.begin * crs;
    T* room = reinterpret_cast<T*>(args.scratch_of(rows.worker));
    if (args.m() < args.n())
      product(args.B.data(), cs, args.n(), a, rs, m, args, c, ccs, crs, room,
              [&](Index j, Index count) { args.done(rows.begin, m, j, count); });
    else
      product(a, rs, m, args.B.data(), cs, args.n(), args, c, crs, ccs, room,
              [&](Index i, Index count) { args.done(rows.begin + i, count, 0, args.n()); });
  }

 private:
  template <class T>
  static Index width(Index count) {
    return count > Ops<T>::lanes ? 2 * Ops<T>::lanes : Ops<T>::lanes;
  }

  template <class TM, class TF, class Args, class T, class Done>
  static void product(const TM* many, Index stride, Index count, const TF* few, Index few_stride, Index cols,
                      const Args& args, T* c, Index many_step, Index few_step, T* room, Done&& done) noexcept {
    using O = Ops<T>;
    const Index k = args.k();
    const T alpha = args.alpha, beta = args.beta;
    O::pack(few, few_stride, 1, cols, width<T>(cols), k, room);
    for (Index i = 0, r; i < count; i += r) {
      r = O::take(count - i);
      const TM *line = many + i * stride, *next = i + 2 * O::rows <= count ? line + O::rows * stride : line;
      T* out = c + i * many_step;
      if (few_step == 1) {
        O::tile(r, line, stride, next, room, k, alpha, beta, out, many_step, cols);
      } else {
        alignas(64) T tile[O::rows * 2 * O::lanes];
        O::tile(r, line, stride, next, room, k, alpha, T(0), tile, cols, cols);
        for (Index j = 0; j < cols; ++j)
          for (Index l = 0; l < r; ++l) {
            T& to = out[l * many_step + j * few_step];
            to = beta == T(0) ? tile[l * cols + j] : tile[l * cols + j] + beta * to;
          }
      }
      done(i, r);
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI::detail
