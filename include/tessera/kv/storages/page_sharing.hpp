/// What arrays of pages share: parts of files in memory. Linux.
#pragma once

#if defined(__linux__)
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include <tessera/core/config.hpp>

namespace tessera::inline TESSERA_ABI::kv::detail {

/// A file in memory that nothing but its mappings and this object keep; written once, then never changed.
struct FrozenFile {
  explicit FrozenFile(int file) : descriptor(file) {}
  FrozenFile(const FrozenFile&) = delete;
  FrozenFile& operator=(const FrozenFile&) = delete;
  ~FrozenFile() { close(descriptor); }
  int descriptor;
  std::size_t end = 0;
};
/// Whole pages of it, which go back to the system when no array maps them any more.
struct FrozenPart {
  FrozenPart(std::shared_ptr<const FrozenFile> of, std::size_t begin, std::size_t size)
      : file(std::move(of)), offset(begin), bytes(size) {}
  FrozenPart(const FrozenPart&) = delete;
  FrozenPart& operator=(const FrozenPart&) = delete;
  ~FrozenPart() {
    if (file.use_count() > 1)  // or all of the file goes
      fallocate(file->descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                static_cast<off_t>(bytes));
  }
  std::shared_ptr<const FrozenFile> file;
  std::size_t offset, bytes;
};

/// While one lives, copies of Pages made by this thread share their memory. One file serves all of them: descriptors
/// are few. Without one (no memfd_create, no descriptor left) copies are deep.
class PageSharing {
 public:
  PageSharing() : outer_(std::exchange(current(), this)) {}
  PageSharing(const PageSharing&) = delete;
  PageSharing& operator=(const PageSharing&) = delete;
  ~PageSharing() {
    current() = outer_;
    if (pagemap_ >= 0) close(pagemap_);
  }
  static PageSharing*& current() {
    thread_local PageSharing* innermost = nullptr;
    return innermost;
  }

  /// A copy of `bytes` bytes in the file, `pages` long; null if that cannot be had.
  std::shared_ptr<const FrozenPart> freeze(const std::byte* data, std::size_t bytes, std::size_t pages) {
    if (!file_) {
      const int descriptor = memfd_create("tessera kv", MFD_CLOEXEC);
      if (descriptor < 0) return nullptr;
      file_ = std::make_shared<FrozenFile>(descriptor);
    }
    auto part = std::make_shared<FrozenPart>(file_, file_->end, pages);
    for (std::size_t done = 0; done < bytes;) {
      const ssize_t some =
          pwrite(file_->descriptor, data + done, bytes - done, static_cast<off_t>(part->offset + done));
      if (some <= 0) return nullptr;
      done += static_cast<std::size_t>(some);
    }
    file_->end += pages;
    return part;
  }

  /// What /proc/self/pagemap says of `count` pages from `page` on; false where it says nothing.
  bool page_flags(std::uintptr_t page, std::size_t count, std::uint64_t* flags) {
    if (pagemap_ == unopened) pagemap_ = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    return pagemap_ >= 0 &&
           pread(pagemap_, flags, 8 * count, static_cast<off_t>(8 * page)) == static_cast<ssize_t>(8 * count);
  }

 private:
  static constexpr int unopened = -2;
  PageSharing* outer_;
  std::shared_ptr<FrozenFile> file_;
  int pagemap_ = unopened;
};

}  // namespace tessera::inline TESSERA_ABI::kv::detail
#endif
