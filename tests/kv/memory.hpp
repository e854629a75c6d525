/// How much memory this process has.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdio>
#include <tessera/core/context.hpp>
#if defined(__linux__)
#include <fcntl.h>
#include <malloc.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define TESSERA_TEST_SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TESSERA_TEST_SANITIZED
#endif
#endif
#if defined(TESSERA_TEST_SANITIZED)
#include <sanitizer/asan_interface.h>
#endif

namespace tessera::test {

#if defined(TESSERA_TEST_SANITIZED)
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif

#if defined(__linux__)
inline constexpr bool measures_residence = !sanitized;  // AddressSanitizer keeps what was freed for a while

inline std::size_t page() {
  static const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return size;
}
/// KiB of AddressSanitizer's shadow: an eighth of what the program reads or writes, on systems whose untouched pages
/// are not one page of zeros for all.
inline long shadow_kib() {
  long kib = 0;
#if defined(TESSERA_TEST_SANITIZED)
  std::size_t scale = 0, offset = 0;
  __asan_get_shadow_mapping(&scale, &offset);
  const std::size_t end = offset + ((std::size_t{1} << 47) >> scale);
  bool shadow = false;
  char line[256];
  std::FILE* const file = std::fopen("/proc/self/smaps", "r");
  while (std::fgets(line, sizeof line, file) != nullptr) {
    std::size_t from = 0, to = 0;
    long anonymous = 0;
    if (std::sscanf(line, "%zx-%zx ", &from, &to) == 2) shadow = from >= offset && to <= end;
    if (shadow && std::sscanf(line, "Anonymous: %ld", &anonymous) == 1) kib += anonymous;
  }
  std::fclose(file);
#endif
  return kib;
}
/// MiB of the process's own data, pages that it maps twice counted once. Code is left out: its share changes whenever
/// another process of the same program begins or ends.
inline double resident_mib() {
  long anonymous = -1, shared = -1;
  char line[256];
  std::FILE* const file = std::fopen("/proc/self/smaps_rollup", "r");
  while (std::fgets(line, sizeof line, file) != nullptr)
    if (std::sscanf(line, "Pss_Anon: %ld", &anonymous) != 1) std::sscanf(line, "Pss_Shmem: %ld", &shared);
  std::fclose(file);
  EXPECT_GE(anonymous, 0);
  EXPECT_GE(shared, 0);
  return static_cast<double>(anonymous + shared - shadow_kib()) / 1024;
}
/// The same after scratch and what the allocator keeps are given back.
inline double resident_mib(Context& ctx) {
  ctx.workspace.release();
  default_context().workspace.release();
#if defined(__GLIBC__)
  malloc_trim(0);
#endif
  return resident_mib();
}
inline Index open_files() {
  Index count = 0;
  for (int descriptor = 0; descriptor < 1000; ++descriptor) count += fcntl(descriptor, F_GETFD) >= 0 ? 1 : 0;
  return count;
}
inline Index mappings() {
  Index lines = 0;
  std::FILE* const file = std::fopen("/proc/self/maps", "r");
  for (int c = 0; (c = std::fgetc(file)) != EOF;) lines += c == '\n' ? 1 : 0;
  std::fclose(file);
  return lines;
}
/// What files in memory hold of arrays that forks share.
inline std::size_t frozen_bytes() {
  std::size_t bytes = 0;
  struct stat file;
  for (int descriptor = 0; descriptor < 1000; ++descriptor)
    if (fstat(descriptor, &file) == 0 && S_ISREG(file.st_mode) && file.st_nlink == 0)
      bytes += 512 * static_cast<std::size_t>(file.st_blocks);
  return bytes;
}
#else
inline constexpr bool measures_residence = false;
inline std::size_t frozen_bytes() { return 0; }
inline std::size_t page() { return 4096; }
inline double resident_mib() { return 0; }
inline double resident_mib(Context&) { return 0; }
inline Index open_files() { return 0; }
inline Index mappings() { return 0; }
#endif

}  // namespace tessera::test
