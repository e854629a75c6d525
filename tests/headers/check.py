#!/usr/bin/env python3
"""Compiles every header of include/ alone, and twice in one unit, with warnings as errors.

What many headers include is parsed once: a header that includes all that a precompiled one does, itself apart, starts
from that one, which gives it nothing that it would not have had. (g++ forgets the warning pragmas of precompiled
headers, so it gets none of ours.)

With --costs FILE writes instead what each header cost: the memory that g++ allocated for it ("cost", as a ratio to
<Eigen/Dense> in the same run) and how long it took ("seconds"). Memory is what a budget can be held to: it grows with
all that is parsed and instantiated, and is the same in every run on every machine, where time on a shared one is not.
"""
import argparse
import concurrent.futures
import functools
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
INCLUDE = ROOT / "include"
REPORT = "\n####"  # where g++ begins to report
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"]
# Roughly how much there is to parse, in bytes; of a header of the standard library as the last says.
PARSED = {"Eigen/": 1_500_000, "xsimd/": 1_000_000, "nlohmann/": 1_500_000, "": 60_000}


def compile_unit(command, text):
    """(ok, what the compiler said, MB allocated or None, seconds)"""
    start = time.monotonic()
    done = subprocess.run(command + ["-x", "c++", "-"], input=text, capture_output=True, text=True)
    seconds = time.monotonic() - start
    said, _, report = done.stderr.partition(REPORT)
    total = re.search(r"^Total\s+(\d+)([kMG])\s", report, re.MULTILINE)
    memory = int(total[1]) * {"k": 1e-3, "M": 1.0, "G": 1e3}[total[2]] if total else None
    return done.returncode == 0, said.strip(), memory, seconds


@functools.cache
def included(header):
    """The headers, ours and others', that one of ours names."""
    text = (INCLUDE / header).read_text()
    return frozenset(re.findall(r'^\s*#\s*include\s+[<"]([^>"]+)[>"]', text, re.MULTILINE))


@functools.cache
def closure(header):
    """All that it includes, itself among them; of others' headers only those that ours name."""
    found, left = {header}, [header]
    while left:
        at = left.pop()
        if (INCLUDE / at).is_file():
            left += included(at) - found
            found |= included(at)
    return frozenset(found)


def size(header):
    ours = INCLUDE / header
    return ours.stat().st_size if ours.is_file() else next(n for key, n in PARSED.items() if header.startswith(key))


def bases_for(headers, gnu):
    """Headers that are worth precompiling, in the order of what they spare the others."""
    if gnu:
        return [["Eigen/Core"], ["Eigen/Core", "xsimd/xsimd.hpp"]]
    sizes = {name: size(name) for header in headers for name in closure(header)}
    weight = {header: sum(sizes[name] for name in closure(header)) for header in headers}
    spared, chosen = dict.fromkeys(headers, 0), []
    users = {base: [h for h in headers if h not in closure(base) and closure(base) <= closure(h)] for base in headers}
    while len(chosen) < 24:
        def gain(base):
            return sum(max(0, weight[base] - spared[header]) for header in users[base]) - 2 * weight[base]
        best = max(headers, key=gain)
        if gain(best) <= 0:
            break
        chosen.append([best])
        for header in users[best]:
            spared[header] = max(spared[header], weight[best])
    return chosen


def precompile(command, jobs, folder, headers, gnu):
    """[(what it holds, flags that bring it)], the largest first."""
    bases = bases_for(headers, gnu)

    def make(base):
        unit = folder / f"base{bases.index(base)}.hpp"
        unit.write_text("".join(f"#include <{header}>\n" for header in base))
        made = unit.with_suffix(".hpp.gch")
        once = [] if gnu else ["-fpch-instantiate-templates"]  # not anew in every unit
        done = subprocess.run(command + once + ["-x", "c++-header", str(unit), "-o", str(made)], capture_output=True)
        holds = frozenset().union(*(closure(header) for header in base))
        flags = ["-include", str(unit)] if gnu else ["-include-pch", str(made)]
        return (holds, flags) if done.returncode == 0 else None

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        return sorted(filter(None, pool.map(make, bases)), key=lambda base: -sum(map(size, base[0])))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--compiler", default="g++")
    arguments.add_argument("--system", action="append", default=[], metavar="DIR", help="a directory for -isystem")
    arguments.add_argument("--openmp", default="-fopenmp", help="flag for core/omp.hpp; empty leaves that header out")
    arguments.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    arguments.add_argument("--costs", type=pathlib.Path, metavar="FILE")
    arguments.add_argument("only", nargs="*", help="headers such as tessera/core/view.hpp; all by default")
    options = arguments.parse_args()

    headers = options.only or sorted(str(path.relative_to(INCLUDE)) for path in INCLUDE.rglob("*.hpp"))
    if not options.openmp:
        headers = [header for header in headers if header != "tessera/core/omp.hpp"]
    version = subprocess.run([options.compiler, "--version"], capture_output=True, text=True).stdout
    gnu = "Free Software Foundation" in version
    command = [options.compiler, "-std=c++20", "-O2", f"-I{INCLUDE}"]
    for directory in options.system or ["/usr/include/eigen3"]:
        command += ["-isystem", directory]
    syntax = command + ["-fsyntax-only"]
    if gnu and options.costs:
        # Without garbage collection what is held at the end is all that was allocated. (-ftime-report says that too, but
        # asks the system for the time so often that it doubles the work.)
        syntax += ["-fmem-report", "--param=ggc-min-heapsize=100000000"]

    failed, costs = 0, {}
    with tempfile.TemporaryDirectory() as folder:
        bases = [] if options.costs else precompile(command, options.jobs, pathlib.Path(folder), headers, gnu)

        def check(header):
            text = f"#include <{header}>\n" * 2
            flags = [options.openmp] if header == "tessera/core/omp.hpp" else []
            if not flags and header != "tessera/instantiate.hpp":  # that one comes first
                has = closure(header)
                flags = next((flags for holds, flags in bases if header not in holds and holds <= has), [])
            return header, compile_unit(syntax + WARNINGS + flags, text)

        _, _, unit_memory, unit_seconds = compile_unit(syntax, "#include <Eigen/Dense>\n")
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            for header, (ok, said, memory, seconds) in pool.map(check, headers):
                if not ok:
                    failed += 1
                    print(f"FAILED {header}\n{said}\n")
                if memory is not None and unit_memory:
                    costs[header] = {"cost": round(memory / unit_memory, 3), "seconds": seconds}
    print(f"{len(headers) - failed} of {len(headers)} headers compile alone")
    if options.costs:
        compiler = version.splitlines()[0] if version else options.compiler
        report = {"compiler": compiler, "eigen_dense_seconds": unit_seconds, "headers": costs}
        options.costs.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if failed else 0


sys.exit(main())
