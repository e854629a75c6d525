#!/usr/bin/env python3
"""Has the compiler of a build check the sources it would compile, those left out whose object has WITHOUT in its name,
code generation left out too: syntax.py BUILD [WITHOUT]"""
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys

build = pathlib.Path(sys.argv[1])
without = sys.argv[2] if len(sys.argv) > 2 else "cmake_pch"
units = [unit for unit in json.loads((build / "compile_commands.json").read_text())
         if not re.search(f"cmake_pch|{without}", re.search(r" -o (\S+)", unit["command"])[1])]
units.sort(key=lambda unit: "one_meaning/all" not in unit["file"])  # the longest first


def check(unit):
    command = re.sub(r" -o \S+ -c ", " -fsyntax-only ", unit["command"], count=1)
    done = subprocess.run(command, shell=True, cwd=unit["directory"], capture_output=True, text=True)
    return unit["file"], done.returncode, done.stderr


failed = 0
with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
    for file, status, said in pool.map(check, units):
        if status:
            failed += 1
            print(f"FAILED {file}\n{said}", flush=True)
print(f"{len(units) - failed} of {len(units)} sources are accepted")
sys.exit(1 if failed else 0)
