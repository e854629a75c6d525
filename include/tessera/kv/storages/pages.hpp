/// Memory that grows and shrinks in pages at the end of a reserved range of addresses. Linux.
#pragma once

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include <tessera/core/config.hpp>
#include <tessera/kv/storages/page_sharing.hpp>

namespace tessera::inline TESSERA_ABI::kv::detail {

/// Bytes at the beginning of a reserved range. A page is there once it was written, and gone when the size falls below
/// it. When the range is used up, the pages move to one eight times as long, without being copied. Two or three entries
/// of the process's list of mappings (vm.max_map_count), a few more after each move. Pages of 2 MiB are asked for where
/// they are full.
/// Throws std::bad_alloc.
class Pages {
 public:
  static std::size_t page() {
    static const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    return size;
  }

  Pages() = default;
  /// Deep; inside PageSharing the pages there are shared until either writes to them. What is shared is a file that
  /// both map privately; what the original wrote since it was frozen is copied, or, when that is more than was frozen,
  /// frozen anew.
  Pages(const Pages& other) {
    if (other.size_ == 0) return;
    PageSharing* const sharing = PageSharing::current();
    if (sharing == nullptr || !other.freeze(*sharing) || !map_part(other.part_, other.reserved_)) {
      Pages copy;
      copy.resize(other.size_);
      std::memcpy(copy.data_, other.data_, other.size_);
      swap(copy);
      return;
    }
    Pages rest;  // frees what was mapped if resize throws
    swap(rest);
    rest.resize(other.size_);
    rest.copy_changes(other, *sharing);
    swap(rest);
  }
  Pages(Pages&& other) noexcept { swap(other); }
  Pages& operator=(Pages other) noexcept {
    swap(other);
    return *this;
  }
  ~Pages() { release(); }
  void swap(Pages& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(reserved_, other.reserved_);
    std::swap(open_, other.open_);
    std::swap(advised_, other.advised_);
    cuts_.swap(other.cuts_);
    part_.swap(other.part_);
  }

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  std::size_t reserved() const { return reserved_; }
  /// Pages in use, shared or not, and those of a frozen part that no one else shares any more.
  std::size_t bytes() const {
    const std::size_t used = whole(size_);
    return part_.use_count() == 1 ? std::max(used, part_->bytes) : used;
  }

  void resize(std::size_t size) {
    const std::size_t used = checked(size), before = whole(size_);
    if (used > reserved_) move_to(used, 8 * reserved_);
    if (used > open_) unlock(used);
    if (used < before) madvise(data_ + used, before - used, MADV_DONTNEED);
    advise(used);
    size_ = size;
  }
  /// Addresses alone.
  void reserve(std::size_t size) {
    if (checked(size) > reserved_) move_to(checked(size), 0);
  }
  /// Leaves a frozen part that is longer than what is used and that no one else shares.
  void fit() {
    if (size_ == 0) return release();
    if (part_.use_count() != 1 || part_->bytes <= whole(size_)) return;
    Pages own;
    own.reserve(reserved_);
    own.resize(size_);
    std::memcpy(own.data_, data_, size_);
    swap(own);
  }
  void release() noexcept {
    if (data_ != nullptr) munmap(data_, reserved_);
    data_ = nullptr;
    size_ = reserved_ = open_ = advised_ = 0;
    cuts_.clear();
    part_.reset();
  }

 private:
  static constexpr std::size_t huge = std::size_t{2} << 20, least = std::size_t{16} << 20;
  static std::size_t whole(std::size_t size) { return (size + page() - 1) / page() * page(); }
  static std::size_t checked(std::size_t size) {
    if (size > std::numeric_limits<std::size_t>::max() / 4) throw std::bad_alloc();
    return whole(size);
  }

  /// `size` bytes of addresses from a multiple of 2 MiB on, or null.
  static std::byte* addresses(std::size_t size) {
    void* const got = mmap(nullptr, size + huge, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (got == MAP_FAILED) return nullptr;
    auto* const raw = static_cast<std::byte*>(got);
    const std::size_t before = (huge - reinterpret_cast<std::uintptr_t>(raw) % huge) % huge;
    if (before > 0) munmap(raw, before);
    if (before < huge) munmap(raw + before + size, huge - before);
    madvise(raw + before, size, MADV_NOHUGEPAGE);  // else one token could take 2 MiB
    return raw + before;
  }

  /// Moves to at least `needed` bytes of addresses, `wanted` if they can be had.
  void move_to(std::size_t needed, std::size_t wanted) {
    std::size_t size = std::max({needed, wanted, least});
    cuts_.reserve(cuts_.size() + 2);
    std::byte* next = addresses(size);
    while (next == nullptr && size > needed) next = addresses(size = std::max(needed, whole(size / 4)));
    if (next == nullptr) throw std::bad_alloc();
    // From here on nothing fails: what cannot be moved is copied.
    if (open_ > 0 && mprotect(next, open_, PROT_READ | PROT_WRITE) != 0) {
      munmap(next, size);
      throw std::bad_alloc();
    }
    const std::size_t used = whole(size_);
    if (advised_ > 0) cut(advised_);
    for (std::size_t begin = 0, i = 0; begin < used; ++i) {  // one mapping at a time
      const std::size_t end = std::min(used, i < cuts_.size() ? cuts_[i] : used);
      if (mremap(data_ + begin, end - begin, end - begin, MREMAP_MAYMOVE | MREMAP_FIXED, next + begin) == MAP_FAILED) {
        std::memcpy(next + begin, data_ + begin, std::min(end, size_) - begin);
        munmap(data_ + begin, end - begin);
      }
      begin = end;
    }
    if (used < reserved_) munmap(data_ + used, reserved_ - used);  // what moved is no longer ours
    cuts_.erase(std::lower_bound(cuts_.begin(), cuts_.end(), used), cuts_.end());
    if (used > 0) cuts_.push_back(used);
    data_ = next;
    reserved_ = size;
  }
  void cut(std::size_t at) {
    const auto place = std::lower_bound(cuts_.begin(), cuts_.end(), at);
    if (place == cuts_.end() || *place != at) cuts_.insert(place, at);
  }

  /// Makes pages up to `used` writable, and some more so that few calls are needed: they are not there before they are
  /// written. Here the system says whether it will have that much memory.
  void unlock(std::size_t used) {
    const std::size_t more = std::min(reserved_, std::max(used, open_ + std::max(open_ / 4, 16 * page())));
    for (const std::size_t end : {whole(more), used})
      if (mprotect(data_ + open_, end - open_, PROT_READ | PROT_WRITE) == 0) {
        open_ = end;
        return;
      }
    throw std::bad_alloc();
  }

  void advise(std::size_t used) {
    const std::size_t full = used / huge * huge;
    if (full > advised_)
      madvise(data_ + advised_, full - advised_, MADV_HUGEPAGE);
    else if (full < advised_)
      madvise(data_ + full, advised_ - full, MADV_NOHUGEPAGE);
    advised_ = full;
  }

  bool map_part(std::shared_ptr<const FrozenPart> part, std::size_t reserve) {
    std::byte* const base = addresses(reserve);
    if (base == nullptr) return false;
    if (mmap(base, part->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, part->file->descriptor,
             static_cast<off_t>(part->offset)) == MAP_FAILED) {
      munmap(base, reserve);
      return false;
    }
    data_ = base;
    reserved_ = reserve;
    size_ = open_ = part->bytes;
    cuts_.assign(1, part->bytes);
    part_ = std::move(part);
    return true;
  }

  /// The same content, mostly frozen; only where it lies changes.
  bool freeze(PageSharing& sharing) const {
    const std::size_t used = whole(size_);
    if (part_ && used <= 2 * part_->bytes && used >= part_->bytes / 2) return true;
    Pages frozen;
    const auto part = sharing.freeze(data_, size_, used);
    if (!part || !frozen.map_part(part, reserved_)) return false;
    frozen.size_ = size_;
    auto& self = const_cast<Pages&>(*this);  // NOLINT: a fork is asked of a cache that may change
    self.swap(frozen);
    return true;
  }

  void copy_changes(const Pages& other, PageSharing& sharing) {
    constexpr std::size_t batch = 512;
    std::uint64_t flags[batch];
    const std::size_t step = page(), shared = std::min(part_->bytes, whole(size_));
    for (std::size_t begin = 0; begin < shared; begin += batch * step) {
      const std::size_t count = std::min(batch, (shared - begin) / step);
      const bool told =
          sharing.page_flags((reinterpret_cast<std::uintptr_t>(other.data_) + begin) / step, count, flags);
      for (std::size_t i = 0; i < count; ++i) {
        const std::size_t at = begin + i * step;
        const bool changed = told ? flags[i] >> 62 != 0 && (flags[i] >> 61 & 1) == 0  // there, and not of the file
                                  : std::memcmp(data_ + at, other.data_ + at, step) != 0;
        if (changed) std::memcpy(data_ + at, other.data_ + at, std::min(step, size_ - at));
      }
    }
    if (size_ > shared) std::memcpy(data_ + shared, other.data_ + shared, size_ - shared);
  }

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t reserved_ = 0;       // addresses
  std::size_t open_ = 0;           // may be written
  std::size_t advised_ = 0;        // in pages of 2 MiB, if the system has them
  std::vector<std::size_t> cuts_;  // where mappings may end
  std::shared_ptr<const FrozenPart> part_;
};

}  // namespace tessera::inline TESSERA_ABI::kv::detail
#endif
