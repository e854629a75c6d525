/// Owning memory, aligned to a cache line.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <new>
#include <type_traits>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>

#include <cstdint>
#endif

#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>

namespace tessera::inline TESSERA_ABI {

struct uninitialized_t {};
inline constexpr uninitialized_t uninitialized{};

/// `size` elements at a 64-byte boundary, zero unless asked otherwise. Copies are deep. Converts to std::span.
/// Throws shape_error for a negative or unrepresentable size, std::bad_alloc when memory runs out.
template <class T>
requires std::is_trivially_copyable_v<T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(Index size) : Buffer(size, uninitialized) { std::fill_n(data_, size_, T{}); }
  Buffer(Index size, uninitialized_t) : data_(allocate(size)), size_(size) {}
  Buffer(const Buffer& other) : Buffer(other.size_, uninitialized) { std::copy_n(other.data_, size_, data_); }
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer other) noexcept {
    swap(other);
    return *this;
  }
  ~Buffer() { ::operator delete (data_, std::align_val_t{cache_line}); }

  void swap(Buffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  Index size() const { return size_; }
  std::size_t bytes() const { return static_cast<std::size_t>(size_) * sizeof(T); }
  T& operator[](Index i) { return data_[i]; }
  const T& operator[](Index i) const { return data_[i]; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }

 private:
  static T* allocate(Index size) {
    constexpr Index most = std::numeric_limits<Index>::max() / static_cast<Index>(sizeof(T));
    if (size < 0 || size > most)
      throw shape_error(
          detail::concat("tessera: a buffer of ", size, " elements of ", sizeof(T), " bytes; expected 0 to ", most));
    if (size == 0) return nullptr;
    const std::size_t bytes = static_cast<std::size_t>(size) * sizeof(T);
    void* memory = ::operator new (bytes, std::align_val_t{cache_line});
    ask_for_huge_pages(memory, bytes);
    return static_cast<T*>(memory);
  }

  /// Reading large buffers once is up to 30% faster in pages of 2 MiB. Advice only: the system may decline.
  static void ask_for_huge_pages([[maybe_unused]] void* memory, [[maybe_unused]] std::size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    constexpr std::uintptr_t page = 4096;
    if (bytes < std::size_t{4} << 20) return;
    const auto begin = (reinterpret_cast<std::uintptr_t>(memory) + page - 1) / page * page;
    const auto end = (reinterpret_cast<std::uintptr_t>(memory) + bytes) / page * page;
    madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
  }

  T* data_ = nullptr;
  Index size_ = 0;
};

}  // namespace tessera::inline TESSERA_ABI
