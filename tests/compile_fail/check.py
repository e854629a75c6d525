#!/usr/bin/env python3
"""check.py SOURCE COMPILER [FLAG…]: SOURCE must not compile, and the compiler must say what its first line expects:

  // expect: <regular expression, searched in what the compiler prints>

A source that mentions CONTROL must compile with -DCONTROL, which shows that only the intended mistake is refused.
"""
import re
import subprocess
import sys

source, command = sys.argv[1], sys.argv[2:] + ["-fsyntax-only", sys.argv[1]]
with open(source, encoding="utf-8") as file:
    text = file.read()
expected = re.match(r"// expect: (.*\S)", text)
if not expected:
    sys.exit(f"{source}: the first line is not '// expect: <regular expression>'")
done = subprocess.run(command, capture_output=True, text=True)
if done.returncode == 0:
    sys.exit(f"{source} compiles, and must not")
if not re.search(expected[1], done.stderr):
    sys.exit(f"{source}: the compiler does not say '{expected[1]}' but:\n{done.stderr}")
if "CONTROL" in text:
    control = subprocess.run(command + ["-DCONTROL"], capture_output=True, text=True)
    if control.returncode != 0:
        sys.exit(f"{source}: must compile with -DCONTROL:\n{control.stderr}")
