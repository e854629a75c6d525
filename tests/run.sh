#!/usr/bin/env bash
# The whole suite, from a bare Debian machine on: installs what is missing, then checks the formatting, builds and tests
# with g++, builds and tests the modules with the newest clang under AddressSanitizer and UndefinedBehaviorSanitizer, and
# compiles headers and programs with the oldest clang. The last line counts test cases; builds and scripts count as one
# each.
set -uo pipefail
cd "$(dirname "$0")/.."
. cmake/debian_packages.sh

newest_clang() {  # the newest installed above 14, else the newest that apt offers
  local installed
  installed=$(compgen -c clang++- | sed -n 's/^clang++-\([0-9]\+\)$/\1/p' | sort -nu | tail -1)
  if [ "${installed:-14}" -gt 14 ]; then
    echo "$installed"
  else
    as_root apt-get update -q >&2
    apt-cache search --names-only '^clang-[0-9]+$' | sed -n 's/^clang-\([0-9]\+\) .*/\1/p' | sort -n | tail -1
  fi
}

newest=$(newest_clang)
need $(unless g++ g++) $(unless cmake cmake) $(unless ninja ninja-build) $(unless python3 python3) \
  libeigen3-dev libxsimd-dev nlohmann-json3-dev libcli11-dev libfmt-dev libgtest-dev libbenchmark-dev libspectra-dev \
  clang-14 clang-format-14 "clang-$newest" "libclang-rt-$newest-dev" || exit 1

passed=0 failed=0 skipped=0
unset TESSERA_ISA
CTEST_PARALLEL_LEVEL=$(nproc)
export CTEST_PARALLEL_LEVEL ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1

check() {  # check NAME COMMAND…
  local name=$1 start=$SECONDS
  shift
  echo "==== $name"
  if "$@"; then
    passed=$((passed + 1))
    echo "==== $name: passed in $((SECONDS - start)) s"
  else
    failed=$((failed + 1))
    echo "==== $name: FAILED"
    return 1
  fi
}

suite() {  # suite BUILD CTEST-ARGUMENT…: counts the cases of each test program
  local build=$1 start=$SECONDS counts
  shift
  echo "==== tests of $build"
  rm -f "$build/tests.xml"
  ctest --test-dir "$build" --output-on-failure --output-junit tests.xml --test-output-size-passed 1000000 "$@"
  counts=$(python3 tests/support/count.py "$build/tests.xml") || { failed=$((failed + 1)); return; }
  read -r p f s <<<"$(tail -1 <<<"$counts")"
  sed '$d' <<<"$counts"
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
  echo "==== tests of $build: $p passed, $f failed, $s skipped in $((SECONDS - start)) s"
}

configure() {  # configure PRESET DIRECTORY ARGUMENT…
  local preset=$1 directory=$2
  shift 2
  cmake --preset "$preset" -B "$directory" "$@" >"/tmp/configure.$$" 2>&1 || { cat "/tmp/configure.$$"; return 1; }
}

build() {  # build PRESET DIRECTORY ARGUMENT…
  configure "$@" && cmake --build "$2" -j "$(nproc)"
}

# The oldest clang: every header alone, what the language says of all programs but the modules' tests, and as objects what
# holds the kernels of all processors, which is accepted by being compiled.
oldest() {  # oldest PRESET DIRECTORY ARGUMENT…
  configure "$@" -DCMAKE_EXPORT_COMPILE_COMMANDS=ON -DCMAKE_CXX_FLAGS_RELEASE="-O0 -DNDEBUG" &&
    ctest --test-dir "$2" --output-on-failure -R '^headers$' &&
    python3 tests/support/syntax.py "$2" '/test_|/bench_q?gemm\.dir/' &&
    cmake --build "$2" -j "$(nproc)" --target bench_gemm bench_qgemm
}

formatted() {
  find include tests bench examples \( -name '*.hpp' -o -name '*.inl' -o -name '*.cpp' \) -print0 |
    xargs -0 clang-format-14 --dry-run -Werror
}

trap 'rm -f "/tmp/configure.$$"' EXIT
check format formatted
# Kernels beyond AVX2 take more than half of the time to compile. On a processor that lacks them the benchmarks alone hold
# them; on others also what is built for release, and under sanitizers the kernels' own tests.
limit=-DTESSERA_TEST_ISA_LIMIT=avx2
if grep -qw avx512f /proc/cpuinfo; then
  release_limit=-DTESSERA_TEST_ISA_LIMIT= lanes=-DTESSERA_TEST_LANES=all
else
  release_limit=$limit lanes=-DTESSERA_TEST_LANES=
fi
# Room to begin with spares g++ the collecting of garbage (one test file: 42.6 to 37.4 s). Benchmarks are built to see that
# they compile, examples to see that they run, which is half and six tenths of the work where they are not optimized; such
# are not to measure with, so the directory is not the preset's.
check "build release" build release build/check-release "$release_limit" -DTESSERA_BENCH_OPTIONS=-O0 \
  -DTESSERA_EXAMPLE_OPTIONS=-Og -DCMAKE_CXX_FLAGS=--param=ggc-min-heapsize=1500000 && suite build/check-release -E '^headers$'
# Huge pages under malloc spare clang a tenth of its time (a unit of kv 34.9 to 31.4 s); g++ has pages of its own.
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1
# Sanitizers and the newest clang are one build, so that all of it fits into the time there is; it holds the modules'
# tests. Reports name functions; what it takes to name lines too is a seventh of the time: `cmake --preset asan` has it.
check "build asan with clang-$newest" build asan "build/check-asan-$newest" -DCMAKE_CXX_COMPILER="clang++-$newest" \
  -DCMAKE_CXX_FLAGS= -DTESSERA_BUILD_EXAMPLES=OFF "$limit" "$lanes" &&
  suite "build/check-asan-$newest" -E '@' -LE 'slow|build'
check "compile with clang-14" oldest clang-14 build/check-clang-14 "$limit"

echo "took $((SECONDS / 60)) min $((SECONDS % 60)) s"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
