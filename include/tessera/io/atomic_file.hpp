/// Where writers write: a file that appears whole or not at all, or memory.
#pragma once

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <concepts>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <tessera/core/config.hpp>
#include <tessera/io/mapped_file.hpp>

namespace tessera::inline TESSERA_ABI {

/// Anything that takes bytes in order.
template <class S>
concept ByteSink = requires(S& sink, std::span<const std::byte> bytes) {
  sink.write(bytes);
};

/// Bytes collected in memory.
struct MemoryFile {
  std::vector<std::byte> bytes;
  void write(std::span<const std::byte> more) { bytes.insert(bytes.end(), more.begin(), more.end()); }
  std::string_view text() const { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }
};

/// Writes beside `path` and renames over it in commit(), so that a reader sees the old file or the whole new one, also
/// across a crash. Without commit() the file is removed again. Follows a symbolic link. Throws io_error.
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path) : path_(target(path)) {
    static std::atomic<unsigned> counter{0};
    for (int attempt = 0; file_ == nullptr; ++attempt) {
      temporary_ = detail::concat(path_, ".", ::getpid(), ".", counter.fetch_add(1), ".tmp");
      file_ = std::fopen(temporary_.c_str(), "wbx");
      if (file_ == nullptr && (errno != EEXIST || attempt == 100)) detail::throw_io_error("create", temporary_, errno);
    }
  }
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile() { discard(); }

  void write(std::span<const std::byte> bytes) {
    if (!bytes.empty() && std::fwrite(bytes.data(), 1, bytes.size(), file_) != bytes.size()) fail("write");
  }

  void commit() {
    if (std::fflush(file_) != 0 || ::fsync(::fileno(file_)) != 0) fail("write");
    std::FILE* file = file_;
    file_ = nullptr;
    if (std::fclose(file) != 0) fail("close");
    if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail("replace");
    temporary_.clear();
  }

 private:
  static std::string target(const std::string& path) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) return path;
    if (!S_ISREG(status.st_mode))
      throw io_error(detail::concat("tessera: cannot replace ", path, ": it is not a regular file"));
    char* resolved = ::realpath(path.c_str(), nullptr);
    if (resolved == nullptr) detail::throw_io_error("resolve", path, errno);
    std::string real(resolved);
    std::free(resolved);
    return real;
  }
  [[noreturn]] void fail(std::string_view what) {
    const int code = errno;
    discard();
    detail::throw_io_error(what, path_, code);
  }
  void discard() noexcept {
    if (file_ != nullptr) std::fclose(file_);
    file_ = nullptr;
    if (!temporary_.empty()) std::remove(temporary_.c_str());
    temporary_.clear();
  }

  std::string path_, temporary_;
  std::FILE* file_ = nullptr;
};

}  // namespace tessera::inline TESSERA_ABI
