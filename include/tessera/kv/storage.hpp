/// Where a cache's numbers live. A storage is a type with a member template `Array<T>`; everything above it (codecs,
/// policies, attention) only uses what Contiguous::Array has.
#pragma once

#include <algorithm>
#include <cstddef>
#include <new>
#include <span>
#include <utility>

#include <tessera/core/buffer.hpp>
#include <tessera/core/config.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// One block of memory an array. Growth: `resize` takes what is asked or a quarter more than it held, whichever is
/// larger, so appending n tokens one by one copies O(n) and at most a fifth of the capacity is unused; a first resize
/// is exact. `fit` gives back all that is unused but room for `spare` more elements, which it makes; where there is no
/// memory to move to it leaves all as it is, so that what shrinks does not throw. `bytes` is the capacity: what is
/// really held.
struct Contiguous {
  template <class T>
  class Array {
   public:
    T* data() { return buffer_.data(); }
    const T* data() const { return buffer_.data(); }
    T& operator[](Index i) { return buffer_[i]; }
    const T& operator[](Index i) const { return buffer_[i]; }
    Index size() const { return size_; }
    Index capacity() const { return buffer_.size(); }
    std::size_t bytes() const { return buffer_.bytes(); }

    /// Keeps what fits of the content; new elements are uninitialised.
    void resize(Index size) {
      if (size > capacity()) move_to(std::max(size, capacity() + capacity() / 4));
      size_ = size;
    }
    void reserve(Index size) {
      if (size > capacity()) move_to(size);
    }
    void fit(Index spare = 0) noexcept {
      if (size_ + spare == capacity()) return;
      try {
        move_to(size_ + spare);
      } catch (...) {  // stays where it is
      }
    }

   private:
    void move_to(Index capacity) {
      Buffer<T> next(capacity, uninitialized);
      std::copy_n(buffer_.data(), std::min(size_, capacity), next.data());
      buffer_ = std::move(next);
    }
    Buffer<T> buffer_;
    Index size_ = 0;
  };
};

/// Rows of `width` elements: keeps rows kept[0] < kept[1] < … and gives the rest back but room for `spare` rows.
template <class Array>
void retain_rows(Array& rows, Index width, std::span<const Index> kept, Index spare = 0) {
  const auto n = static_cast<Index>(kept.size());
  for (Index to = 0, run = 0; to < n; to += run) {
    const Index from = kept[static_cast<std::size_t>(to)];
    for (run = 1; to + run < n && kept[static_cast<std::size_t>(to + run)] == from + run;) ++run;
    const auto* const first = rows.data() + from * width;
    if (from != to) std::copy(first, first + run * width, rows.data() + to * width);  // to < from
  }
  rows.resize(n * width);
  rows.fit(spare * width);
}

/// Adds rows [begin, begin + count) of another array.
template <class Array>
void append_rows(Array& rows, const Array& from, Index width, Index begin, Index count) {
  const Index before = rows.size();
  rows.resize(before + count * width);
  std::copy_n(from.data() + begin * width, count * width, rows.data() + before);
}

/// Keeps the first n rows; gives memory back when less than half is in use.
template <class Array>
void truncate_rows(Array& rows, Index width, Index n) {
  rows.resize(n * width);
  if (rows.size() < rows.capacity() / 2) rows.fit();
}

}  // namespace tessera::inline TESSERA_ABI::kv
