/// What a kernel of C = A·B is given, A, B and C sparse, by rows.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>

#include <tessera/kernels/kernel.hpp>

namespace tessera::inline TESSERA_ABI {

/// A sparse (rows, cols) by rows: row i is [row_ptr[i], row_ptr[i + 1]), its columns rising.
template <class T, class I>
struct CsrArrays {
  Index rows = 0, cols = 0;
  const I* row_ptr = nullptr;  // (rows + 1)
  const I* col_idx = nullptr;  // (nnz)
  const T* values = nullptr;   // (nnz)

  Index nnz() const { return rows > 0 ? static_cast<Index>(row_ptr[rows]) : 0; }
};

/// `numeric == false` writes the entries of row i to count[i]; `numeric` writes columns and values at c_ptr. A RowRange
/// is one of pieces: rows [pieces[p], pieces[p + 1]). S has zero(), add(x, y), multiply(x, y); a row is summed in the
/// order of A's entries, from zero().
template <class T, class I, class S>
struct SpgemmArgs : KernelArgs {
  CsrArrays<T, I> A, B;                  // (M,K), (K,N)
  const I* mask_ptr = nullptr;           // (M + 1), or none
  const I* mask_idx = nullptr;           // columns that may be written
  const Index* pieces = nullptr;         // first rows
  const std::uint64_t* moved = nullptr;  // bit k: row k of B is row k - 1, moved by one column; or none
  I* count = nullptr;                    // (M); before the symbolic pass, a bound
  const I* c_ptr = nullptr;              // (M + 1)
  I* c_idx = nullptr;
  T* c_val = nullptr;
  Index most = 0;       // entries of a row, a bound
  Index most_mask = 0;  // entries of a row of the mask
  bool numeric = false, sorted = true;
  S semiring{};
};

namespace detail {

/// Bitmaps are for rows whose products are at least one for this many of their words.
inline constexpr Index spgemm_words = 4;

inline Index spgemm_table(Index entries) {  // at most half full, whole buckets of eight
  return static_cast<Index>(std::bit_ceil(static_cast<std::size_t>(std::max<Index>(2 * entries, 8))));
}

template <class I>
void spgemm_sort(I* columns, Index n) {
  std::sort(columns, columns + n);
}

/// One worker's scratch: a window of the columns as bits, the entries before each word, and a hash table. Rows beyond
/// the bitmap have few products, so that none of it is larger than some multiple of the longest row.
template <class T, class I>
struct SpgemmScratch {
  std::uint64_t* bits;  // (words)
  T* sums;              // (most_mask), of masked rows
  I *before, *keys, *place;
  std::uint8_t* hit;  // (most_mask)

  template <class Args>
  static Index words(const Args& a) {
    const Index all = a.B.cols / 64 + 2, entries = a.most + a.most_mask;
    return entries < all / spgemm_words ? spgemm_words * entries + 2 : all;
  }
  template <class Args>
  static Index table(const Args& a) {
    return spgemm_table(a.mask_ptr != nullptr ? a.most_mask : std::min(a.most, a.B.cols / (64 * spgemm_words) + 1));
  }
  template <class Args>
  static std::size_t bytes(const Args& a) {
    const auto w = static_cast<std::size_t>(words(a)), t = static_cast<std::size_t>(table(a)),
               m = static_cast<std::size_t>(a.mask_ptr != nullptr ? a.most_mask : 0);
    return w * (8 + sizeof(I)) + 2 * t * sizeof(I) + m * (sizeof(T) + 1) + 64;
  }
  template <class Args>
  SpgemmScratch(std::byte* memory, const Args& a) {
    const Index w = words(a), t = table(a), m = a.mask_ptr != nullptr ? a.most_mask : 0;
    bits = reinterpret_cast<std::uint64_t*>(memory);
    sums = reinterpret_cast<T*>(bits + w);  // (T and I of at most 8 bytes, in falling order of alignment)
    before =
        reinterpret_cast<I*>(sums + (m * static_cast<Index>(sizeof(T)) + 7) / 8 * 8 / static_cast<Index>(sizeof(T)));
    keys = before + w;
    place = keys + t;
    hit = reinterpret_cast<std::uint8_t*>(place + t);
  }
};

}  // namespace detail
}  // namespace tessera::inline TESSERA_ABI
