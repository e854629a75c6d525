#pragma once

#include <algorithm>
#include <type_traits>
#include <utility>
#include <xsimd/xsimd.hpp>

#include <tessera/core/types.hpp>
#include <tessera/kernels/gemv/loops.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail::gemv_xsimd {

template <class TA, class T, class Arch>
struct Loops {
  using Reg = xsimd::batch<T, Arch>;
  static constexpr Index lanes = static_cast<Index>(Reg::size);
  static constexpr bool same = std::is_same_v<TA, T>;
  static constexpr Index chunk = 512;  // entries of a line of another type converted at a time

  static void dots(const TA* a, Index row_stride, const T* x, Index k, Index rows, T* out) noexcept {
    Index i = 0;
    for (; i + 4 <= rows; i += 4)
      some_dots(a + i * row_stride, row_stride, x, k, out + i, std::make_integer_sequence<Index, 4>());
    for (; i < rows; ++i) some_dots(a + i * row_stride, row_stride, x, k, out + i, std::integer_sequence<Index, 0>());
  }
  static void axpys(const TA* a, Index col_stride, const T* x, Index x_stride, Index k, Index rows, T* sum) noexcept {
    Index i = 0;
    for (; i + 4 <= k; i += 4)
      some_axpys(a + i * col_stride, col_stride, x + i * x_stride, x_stride, rows, sum,
                 std::make_integer_sequence<Index, 4>());
    for (; i < k; ++i)
      some_axpys(a + i * col_stride, col_stride, x + i * x_stride, x_stride, rows, sum,
                 std::integer_sequence<Index, 0>());
  }

 private:
  /// `n` entries from `line` as T, in `room` if they need converting.
  static const T* as_t(const TA* line, Index n, T* room) {
    if constexpr (same) {
      return line;
    } else {
      for (Index i = 0; i < n; ++i) room[i] = T(line[i]);
      return room;
    }
  }

  template <Index... I>
  static void some_dots(const TA* a, Index row_stride, const T* x, Index k, T* out,
                        std::integer_sequence<Index, I...>) {
    alignas(64) T room[sizeof...(I)][same ? 1 : chunk];
    Reg even[sizeof...(I)] = {((void)I, Reg(T(0)))...}, odd[sizeof...(I)] = {((void)I, Reg(T(0)))...};
    T rest[sizeof...(I)] = {((void)I, T(0))...};
    for (Index begin = 0; begin < k;) {
      const Index n = same ? k : std::min(chunk, k - begin);
      const T* row[sizeof...(I)] = {as_t(a + I * row_stride + begin, n, room[I])...};
      const T* part = x + begin;
      Index i = 0;
      for (; i + 2 * lanes <= n; i += 2 * lanes) {
        const Reg x0 = Reg::load_unaligned(part + i), x1 = Reg::load_unaligned(part + i + lanes);
        ((even[I] = xsimd::fma(Reg::load_unaligned(row[I] + i), x0, even[I])), ...);
        ((odd[I] = xsimd::fma(Reg::load_unaligned(row[I] + i + lanes), x1, odd[I])), ...);
      }
      for (; i < n; ++i) ((rest[I] += row[I][i] * part[i]), ...);
      begin += n;
    }
    ((out[I] = xsimd::hadd(even[I] + odd[I]) + rest[I]), ...);
  }

  template <Index... I>
  static void some_axpys(const TA* a, Index col_stride, const T* x, Index x_stride, Index rows, T* sum,
                         std::integer_sequence<Index, I...>) {
    alignas(64) T room[sizeof...(I)][same ? 1 : chunk];
    const Reg factor[sizeof...(I)] = {Reg(x[I * x_stride])...};
    for (Index begin = 0; begin < rows;) {
      const Index n = same ? rows : std::min(chunk, rows - begin);
      const T* col[sizeof...(I)] = {as_t(a + I * col_stride + begin, n, room[I])...};
      T* part = sum + begin;
      Index i = 0;
      for (; i + lanes <= n; i += lanes) {
        Reg s = Reg::load_unaligned(part + i);
        ((s = xsimd::fma(Reg::load_unaligned(col[I] + i), factor[I], s)), ...);
        s.store_unaligned(part + i);
      }
      for (; i < n; ++i) ((part[i] += col[I][i] * x[I * x_stride]), ...);
      begin += n;
    }
  }
};

/// Loops as LoopsGemv takes them.
template <class Arch>
struct Portable {
  template <class TA, class T>
  using Loops = gemv_xsimd::Loops<TA, T, Arch>;
};

}  // namespace detail::gemv_xsimd

/// The portable lane: four dot products or four axpys at a time.
template <class Arch = xsimd::default_arch>
struct GemvXsimd : detail::LoopsGemv<detail::gemv_xsimd::Portable<Arch>::template Loops> {
  static constexpr std::string_view name = "gemv:xsimd";
  static constexpr Isa isa = Isa::portable;
};

}  // namespace tessera::inline TESSERA_ABI
