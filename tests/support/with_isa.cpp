// with_isa LEVEL PROGRAM [ARGUMENT…] runs the program with TESSERA_ISA=LEVEL, or returns 77 (skipped) where this
// processor does not have all that the level allows, or nothing else: then the program by itself runs the same.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <tessera/simd/isa.hpp>

int main(int argc, char** argv) try {
  if (argc < 3) {
    std::fprintf(stderr, "usage: with_isa LEVEL PROGRAM [ARGUMENT...]\n");
    return 2;
  }
  const tessera::IsaSet wanted = tessera::parse_isa(argv[1]);
  if ((wanted & tessera::cpu_isa()) != wanted) {
    std::printf("skipped: %s is not in this processor's %s\n", argv[1], tessera::isa_text(tessera::cpu_isa()).c_str());
    return 77;
  }
  if (wanted == tessera::cpu_isa()) {
    std::printf("skipped: %s is all that this processor has, and runs without being asked for\n", argv[1]);
    return 77;
  }
  setenv("TESSERA_ISA", argv[1], 1);
  execv(argv[2], argv + 2);
  std::perror(argv[2]);
  return 2;
} catch (const std::exception& failure) {
  std::fprintf(stderr, "with_isa: %s\n", failure.what());
  return 2;
}
