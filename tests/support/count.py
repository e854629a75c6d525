#!/usr/bin/env python3
"""count.py FILE: counts test cases in what `ctest --output-junit` wrote. A GoogleTest program counts its cases, every
other test counts as one. Prints what was skipped, and as its last line "PASSED FAILED SKIPPED"."""
import re
import sys
import xml.etree.ElementTree as ElementTree

passed = failed = skipped = 0
reasons = {}  # test case -> the entries that skipped it
for test in ElementTree.parse(sys.argv[1]).getroot().iter("testcase"):
    name, status = test.get("name"), test.get("status")
    output = test.findtext("system-out") or ""

    def count(word):
        found = re.search(rf"^\[  {word} \] (\d+) tests?[.,]", output, re.MULTILINE)
        return int(found[1]) if found else 0

    why = test.find("skipped")
    if status == "notrun" and (why is None or not why.get("message", "").startswith("SKIP_")):
        failed += 1  # no program, or a test it depends on has failed
        print(f"  FAILED: {name} was not run: {why.get('message') if why is not None else ''}")
    elif status in ("notrun", "disabled"):
        skipped += 1
        said = [line for line in output.splitlines() if line.startswith("skipped")]
        reasons.setdefault(said[0] if said else "not run", []).append(name)
    elif re.search(r"^\[==========\] .* ran\.", output, re.MULTILINE):
        cases = {word: count(word) for word in ("PASSED ", "FAILED ", "SKIPPED")}
        passed += cases["PASSED "]
        failed += cases["FAILED "] or (status == "fail")
        skipped += cases["SKIPPED"]
        for case in set(re.findall(r"^\[  SKIPPED \] (\S+\.\S+)(?= \(\d+ ms\))", output, re.MULTILINE)):
            reasons.setdefault(case, []).append(name)
    else:
        passed += status == "run"
        failed += status == "fail"
for reason, names in sorted(reasons.items()):
    print(f"  {reason if reason.startswith('skipped') else 'skipped: ' + reason} ({', '.join(sorted(names))})")
print(passed, failed, skipped)
