/// Files as read-only bytes: memory-mapped, or any bytes in memory under a name.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <concepts>
#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>

namespace tessera::inline TESSERA_ABI {

/// The operating system refused: no such file, no permission, no space. Names the file and the system's reason.
struct io_error : error {
  using error::error;
};

namespace detail {
[[noreturn]] inline void throw_io_error(std::string_view what, std::string_view path, int code) {
  throw io_error(concat("tessera: cannot ", what, " ", path, ": ", std::strerror(code)));
}
}  // namespace detail

/// A regular file mapped read-only for as long as the object lives. The pages are the file's own: a file that another
/// process shortens meanwhile ends the program with SIGBUS, so replace files by renaming, as this library's writers do.
/// Throws io_error naming the file.
class MappedFile {
 public:
  explicit MappedFile(std::string path) : name_(std::move(path)) {
    const int file = ::open(name_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe is refused, not waited for
    if (file < 0) detail::throw_io_error("open", name_, errno);
    struct stat status {};
    if (::fstat(file, &status) != 0) {
      const int code = errno;
      ::close(file);
      detail::throw_io_error("read the size of", name_, code);
    }
    if (!S_ISREG(status.st_mode)) {
      ::close(file);
      throw io_error(detail::concat("tessera: cannot map ", name_, ": it is not a regular file"));
    }
    size_ = static_cast<std::size_t>(status.st_size);
    if (size_ > 0) {  // mmap refuses an empty range
      data_ = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file, 0);
      const int code = errno;
      if (data_ == MAP_FAILED) {
        ::close(file);
        detail::throw_io_error("map", name_, code);
      }
    }
    ::close(file);
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile() {
    if (size_ > 0) ::munmap(data_, size_);
  }

  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(data_), size_}; }
  const std::string& name() const { return name_; }

 private:
  std::string name_;
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

/// What every reader reads: bytes and their name for messages. `file` keeps the mapping alive while any copy lives;
/// `memory` borrows bytes that must outlive whatever is read from them without copying.
class ByteSource {
 public:
  static ByteSource file(const std::string& path) {
    auto mapped = std::make_shared<const MappedFile>(path);
    const auto bytes = mapped->bytes();
    return {bytes, path, std::move(mapped)};
  }
  static ByteSource memory(std::span<const std::byte> bytes, std::string name = "(memory)") {
    return {bytes, std::move(name), nullptr};
  }
  static ByteSource memory(std::string_view text, std::string name = "(memory)") {
    return {std::as_bytes(std::span(text)), std::move(name), nullptr};
  }
  /// Nothing would hold a temporary's bytes.
  template <class Owner>
  requires std::same_as<Owner, std::string> || std::same_as<Owner, std::vector<std::byte>>
  static ByteSource memory(Owner&& temporary, std::string name = "(memory)") = delete;

  std::span<const std::byte> bytes() const { return bytes_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()}; }
  const std::string& name() const { return name_; }
  /// What keeps the bytes alive; null when they are borrowed.
  const std::shared_ptr<const MappedFile>& owner() const { return owner_; }

 private:
  ByteSource(std::span<const std::byte> bytes, std::string name, std::shared_ptr<const MappedFile> owner)
      : bytes_(bytes), name_(std::move(name)), owner_(std::move(owner)) {}

  std::span<const std::byte> bytes_;
  std::string name_;
  std::shared_ptr<const MappedFile> owner_;
};

}  // namespace tessera::inline TESSERA_ABI
