/// The block sizes that gemm uses in this process.
#pragma once

#include <atomic>
#include <concepts>
#include <cstdio>
#include <cstdlib>
#include <string>

#include <tessera/core/error.hpp>
#include <tessera/kernels/gemm/args.hpp>
#include <tessera/simd/isa.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

template <class T>
constexpr const char* blocks_name() {
  return sizeof(T) == 4 ? "f32" : "f64";
}

constexpr Index most_gemm_blocks = Index{1} << 20;

/// Throws unsupported_error for block sizes that no product can take.
inline void check_gemm_blocks(const GemmBlocks& b) {
  for (const Index size : {b.mc, b.kc, b.nc})
    if (size < 0 || size > most_gemm_blocks)
      throw unsupported_error(concat("tessera: gemm blocks mc ", b.mc, " kc ", b.kc, " nc ", b.nc, ": expected 0 to ",
                                     most_gemm_blocks, " each"));
}

/// The line of T in the file that save_gemm_blocks wrote for a processor with these features, among its first 1000
/// lines; zeros without one.
template <std::floating_point T>
GemmBlocks read_gemm_blocks(const char* path) {
  GemmBlocks found;
  std::FILE* file = std::fopen(path, "r");
  if (file == nullptr) return found;
  const std::string want = isa_text(active_isa());
  char line[512];
  for (int lines = 0; lines < 1000 && std::fgets(line, sizeof line, file) != nullptr; ++lines) {
    char type[8] = {}, isa[400] = {};
    long mc = 0, kc = 0, nc = 0;
    if (std::sscanf(line, "%7s %ld %ld %ld %399[^\n]", type, &mc, &kc, &nc, isa) != 5) continue;
    const auto sane = [](long n) { return n > 0 && n <= most_gemm_blocks; };
    if (std::string_view(type) == blocks_name<T>() && want == isa && sane(mc) && sane(kc) && sane(nc))
      found = {mc, kc, nc};
  }
  std::fclose(file);
  return found;
}

template <std::floating_point T>
struct BlocksInUse {
  std::atomic<Index> mc, kc, nc;
  BlocksInUse() {
    const char* path = std::getenv("TESSERA_GEMM_BLOCKS");
    set(path == nullptr ? GemmBlocks() : read_gemm_blocks<T>(path));
  }
  void set(const GemmBlocks& b) {
    mc.store(b.mc, std::memory_order_relaxed);
    kc.store(b.kc, std::memory_order_relaxed);
    nc.store(b.nc, std::memory_order_relaxed);
  }
  static BlocksInUse& get() {
    static BlocksInUse blocks;
    return blocks;
  }
};

}  // namespace detail

/// Block sizes of the products of T by T, float or double; zeros are the kernels' own, from the sizes of the caches.
/// At first those of the file that the environment's TESSERA_GEMM_BLOCKS names, if it has any for this processor:
/// tune/gemm.hpp finds and writes them.
template <std::floating_point T>
GemmBlocks gemm_blocks() {
  const auto& b = detail::BlocksInUse<T>::get();
  return {b.mc.load(std::memory_order_relaxed), b.kc.load(std::memory_order_relaxed),
          b.nc.load(std::memory_order_relaxed)};
}
/// For all products that start later, in every thread. Throws unsupported_error unless each is from 0 to 2^20.
template <std::floating_point T>
void set_gemm_blocks(const GemmBlocks& blocks) {
  detail::check_gemm_blocks(blocks);
  detail::BlocksInUse<T>::get().set(blocks);
}

}  // namespace tessera::inline TESSERA_ABI
