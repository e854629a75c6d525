/// Scratch memory that is kept between operations, so that steady-state code does not allocate.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <new>
#include <type_traits>
#include <vector>

#include <tessera/core/buffer.hpp>

namespace tessera::inline TESSERA_ABI {

/// A stack of 64-byte aligned allocations. Memory taken inside a `Scope` is free again when the scope ends; addresses
/// stay valid until then. Not for use by two threads at once.
class Workspace {
 public:
  class Scope {
   public:
    explicit Scope(Workspace& workspace) : workspace_(workspace), block_(workspace.block_), used_(workspace.used_) {}
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope() {
      workspace_.block_ = block_;
      workspace_.used_ = used_;
    }

    /// `count` uninitialised elements. Throws std::bad_alloc.
    template <class T>
    requires std::is_trivially_copyable_v<T> T* take(Index count) {
      constexpr Index most = std::numeric_limits<Index>::max() - static_cast<Index>(cache_line);  // bytes, rounded up
      if (count < 0 || count > most / static_cast<Index>(sizeof(T))) throw std::bad_alloc();
      return static_cast<T*>(workspace_.take_bytes(static_cast<std::size_t>(count) * sizeof(T)));
    }

   private:
    Workspace& workspace_;
    std::size_t block_, used_;
  };

  /// Bytes held, in use or not.
  std::size_t capacity() const {
    std::size_t total = 0;
    for (const auto& block : blocks_) total += block.bytes();
    return total;
  }

  /// Gives all memory back. No scope may be open.
  void release() {
    blocks_.clear();
    block_ = used_ = 0;
  }

 private:
  void* take_bytes(std::size_t bytes) {
    bytes = (bytes + cache_line - 1) / cache_line * cache_line;
    while (block_ < blocks_.size() && blocks_[block_].bytes() - used_ < bytes) {
      ++block_;
      used_ = 0;
    }
    if (block_ == blocks_.size()) {
      const std::size_t size = std::max({bytes, capacity(), std::size_t{1} << 16});
      blocks_.emplace_back(static_cast<Index>(size), uninitialized);
      used_ = 0;
    }
    void* memory = blocks_[block_].data() + used_;
    used_ += bytes;
    return memory;
  }

  std::vector<Buffer<std::byte>> blocks_;
  std::size_t block_ = 0;  // the one being filled
  std::size_t used_ = 0;   // bytes of it
};

}  // namespace tessera::inline TESSERA_ABI
