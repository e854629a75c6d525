/// Arrays in reserved ranges of addresses: they grow in place, page by page, and are contiguous for every kernel.
#pragma once

#include <cstddef>
#include <limits>
#include <new>
#include <type_traits>

#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>
#include <tessera/kv/storage.hpp>
#include <tessera/kv/storages/pages.hpp>

namespace tessera::inline TESSERA_ABI::kv {

#if defined(__linux__)
/// R. Prabhu et al., "vAttention: Dynamic Memory Management for Serving LLMs without PagedAttention" (2024), §5, with
/// the processor's pages: addresses are reserved, pages come with tokens and go when they are truncated or evicted.
/// Appending never copies, at most a page an array is unused, and `reserve` takes addresses alone. `bytes` is the pages
/// in use. A fork shares the pages that are there, which stay contiguous: the first one of a cache copies them into a
/// file in memory once, later ones copy what was written since. Deviation: no page is mapped ahead by another thread;
/// the system is asked for 16 at a time, and a fault is some tenths of a microsecond. Copies (not forks) are deep.
/// Throws std::bad_alloc where the system refuses memory or addresses, shape_error as Buffer does.
/// Elsewhere than on Linux this is Contiguous.
struct Virtual {
  using Fork = detail::PageSharing;

  template <class T>
  requires std::is_trivially_copyable_v<T>
  class Array {
   public:
    T* data() { return reinterpret_cast<T*>(pages_.data()); }
    const T* data() const { return reinterpret_cast<const T*>(pages_.data()); }
    T& operator[](Index i) { return data()[i]; }
    const T& operator[](Index i) const { return data()[i]; }
    Index size() const { return size_; }
    Index capacity() const { return static_cast<Index>(pages_.bytes() / sizeof(T)); }
    std::size_t bytes() const { return pages_.bytes(); }

    /// Keeps what fits of the content; whole pages that are no longer used go back.
    void resize(Index size) {
      pages_.resize(bytes_of(size));
      size_ = size;
    }
    void reserve(Index size) { pages_.reserve(bytes_of(size)); }
    void fit(Index = 0) noexcept {  // room is addresses, which stay
      try {
        pages_.fit();
      } catch (const std::bad_alloc&) {  // a frozen part that is too long stays
      }
    }

   private:
    static std::size_t bytes_of(Index size) {
      constexpr Index most = std::numeric_limits<Index>::max() / static_cast<Index>(sizeof(T));
      if (size < 0 || size > most)
        throw shape_error(tessera::detail::concat("tessera: an array of ", size, " elements of ", sizeof(T),
                                                  " bytes; expected 0 to ", most));
      return static_cast<std::size_t>(size) * sizeof(T);
    }
    detail::Pages pages_;
    Index size_ = 0;
  };
};
#else
struct Virtual : Contiguous {};
#endif

}  // namespace tessera::inline TESSERA_ABI::kv
