#!/usr/bin/env python3
"""Has the compiler of a build check every source it would compile, code generation left out: syntax.py BUILD [JOBS]"""
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys

build = pathlib.Path(sys.argv[1])
jobs = int(sys.argv[2]) if len(sys.argv) > 2 else os.cpu_count() or 1
units = [unit for unit in json.loads((build / "compile_commands.json").read_text()) if "cmake_pch" not in unit["file"]]
units.sort(key=lambda unit: "unity" not in unit["file"])  # the long ones first


def check(unit):
    command = re.sub(r" -o \S+ -c ", " -fsyntax-only ", unit["command"], count=1)
    done = subprocess.run(command, shell=True, cwd=unit["directory"], capture_output=True, text=True)
    return unit["file"], done.returncode, done.stderr


failed = 0
with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
    for file, status, said in pool.map(check, units):
        if status:
            failed += 1
            print(f"FAILED {file}\n{said}", flush=True)
print(f"{len(units) - failed} of {len(units)} sources are accepted")
sys.exit(1 if failed else 0)
