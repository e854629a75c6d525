#!/usr/bin/env python3
"""Compiles every header of include/ alone, and twice in one unit, with warnings as errors.

With --json FILE also writes what each cost: the memory that g++ allocated for it ("cost", as a ratio to <Eigen/Dense>
in the same run) and how long it took ("seconds"). Memory is what a budget can be held to: it grows with all that is
parsed and instantiated, and is the same in every run on every machine, where time on a shared one is not.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
REPORT = "\n####"  # where g++ begins to report
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"]


def compile_unit(command, text):
    """(ok, what the compiler said, MB allocated or None, seconds)"""
    start = time.monotonic()
    done = subprocess.run(command + ["-x", "c++", "-"], input=text, capture_output=True, text=True)
    seconds = time.monotonic() - start
    said, _, report = done.stderr.partition(REPORT)
    total = re.search(r"^Total\s+(\d+)([kMG])\s", report, re.MULTILINE)
    memory = int(total[1]) * {"k": 1e-3, "M": 1.0, "G": 1e3}[total[2]] if total else None
    return done.returncode == 0, said.strip(), memory, seconds


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--compiler", default="g++")
    arguments.add_argument("--system", action="append", default=[], metavar="DIR", help="a directory for -isystem")
    arguments.add_argument("--openmp", default="-fopenmp", help="flag for core/omp.hpp; empty leaves that header out")
    arguments.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    arguments.add_argument("--json", type=pathlib.Path, metavar="FILE")
    arguments.add_argument("only", nargs="*", help="headers such as tessera/core/view.hpp; all by default")
    options = arguments.parse_args()

    include = ROOT / "include"
    headers = options.only or sorted(str(path.relative_to(include)) for path in include.rglob("*.hpp"))
    if not options.openmp:
        headers = [header for header in headers if header != "tessera/core/omp.hpp"]
    version = subprocess.run([options.compiler, "--version"], capture_output=True, text=True).stdout
    command = [options.compiler, "-std=c++20", "-O2", "-fsyntax-only", f"-I{include}"]
    for directory in options.system or ["/usr/include/eigen3"]:
        command += ["-isystem", directory]
    if "Free Software Foundation" in version:
        # Without garbage collection what is held at the end is all that was allocated. (-ftime-report says that too, but
        # asks the system for the time so often that it doubles the work.)
        command += ["-fmem-report", "--param=ggc-min-heapsize=100000000"]

    def check(header):
        text = f"#include <{header}>\n" * 2
        flags = [options.openmp] if header == "tessera/core/omp.hpp" else []
        return header, compile_unit(command + WARNINGS + flags, text)

    _, _, unit_memory, unit_seconds = compile_unit(command, "#include <Eigen/Dense>\n")
    failed, costs = 0, {}
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for header, (ok, said, memory, seconds) in pool.map(check, headers):
            if not ok:
                failed += 1
                print(f"FAILED {header}\n{said}\n")
            if memory is not None and unit_memory:
                costs[header] = {"cost": round(memory / unit_memory, 3), "seconds": seconds}
    print(f"{len(headers) - failed} of {len(headers)} headers compile alone")
    if options.json:
        compiler = version.splitlines()[0] if version else options.compiler
        report = {"compiler": compiler, "eigen_dense_seconds": unit_seconds, "headers": costs}
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if failed else 0


sys.exit(main())
