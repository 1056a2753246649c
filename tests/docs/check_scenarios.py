#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Holds docs/scenarios.md against the tests: no number is missing, every named test exists.

    check_scenarios.py ROOT
"""

import pathlib
import re
import sys

NUMBERED = [str(number) for number in range(1, 144)]
LETTERED = [f"S{number}" for number in range(1, 7)] + [f"G{number}" for number in range(1, 54)]
LETTERED += [f"L{number}" for number in range(1, 8)] + [f"T{number}" for number in range(1, 7)]
LETTERED += [f"I{number}" for number in range(1, 10)] + [f"R{number}" for number in range(1, 8)]
LETTERED += [f"M{number}" for number in range(1, 9)]
ROW = re.compile(r"^\| (\w+) \| ([^|]+) \| ([^|]+) \| (.+) \|$")
TEST = re.compile(r"`(e2e|unit|torture)(?:/([\w.]+))?::([^`]+)`")
NOT_APPLICABLE = "not applicable: "


def rows(text):
    for line in text.splitlines():
        if line.startswith("|") and not line.startswith(("| no.", "|---")):
            match = ROW.match(line)
            yield match.groups() if match else (line, "", "", "")


def names_in(path):
    """The names of the tests in a file: pytest functions or doctest cases."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return set(re.findall(r"^def (test_\w+)", text, re.MULTILINE))
    cases = re.findall(r'TEST_CASE\w*\((?:[\w:]+,\s*)?((?:\s*"(?:[^"\\]|\\.)*")+)', text)
    return {"".join(re.findall(r'"((?:[^"\\]|\\.)*)"', case)) for case in cases}


def torture_faults(root):
    texts = [path.read_text(encoding="utf-8")
             for path in (root / "tests/torture").glob("moves*.py")]
    return set(re.findall(r'^@move\("([\w-]+)"', "\n".join(texts), re.MULTILINE))


def test_problem(root, kind, file, name):
    if kind == "torture":
        return None if name in torture_faults(root) else f"torture has no fault '{name}'"
    path = root / "tests" / kind / (file or "")
    if not path.is_file():
        return f"there is no tests/{kind}/{file}"
    return None if name in names_in(path) else f"tests/{kind}/{file} has no test '{name}'"


def row_problems(root, number, checked, shown):
    if not shown:
        yield "is not a row of four columns"
        return
    tests = TEST.findall(shown)
    if not tests and not shown.startswith(NOT_APPLICABLE):
        yield "names neither a test nor a reason"
    if not tests and len(shown) < 20 or len(checked) < 10:
        yield "says too little"
    for test in tests:
        problem = test_problem(root, *test)
        if problem:
            yield problem


def problems(root):
    found = list(rows((root / "docs/scenarios.md").read_text(encoding="utf-8")))
    numbers = [row[0] for row in found]
    expected = NUMBERED + LETTERED
    if numbers != expected:
        missing = [number for number in expected if number not in numbers]
        odd = [number for number in numbers if number not in expected or numbers.count(number) > 1]
        yield f"missing: {missing}, unknown or twice: {odd}, or not in order"
    for number, _name, checked, shown in found:
        for problem in row_problems(root, number, checked, shown):
            yield f"{number}: {problem}"


def main():
    root = pathlib.Path(sys.argv[1])
    wrong = list(problems(root))
    for problem in wrong:
        print(f"docs/scenarios.md: {problem}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
