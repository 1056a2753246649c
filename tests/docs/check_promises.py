#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Holds docs/promises.md against the tests: no promise is missing, every named test exists.

    check_promises.py ROOT
"""

import pathlib
import re
import sys

PROMISES = 12
PAGE = "docs/promises.md"


def is_there(root, name):
    if name.startswith("tests/"):
        return (root / name).is_dir()
    if name.startswith("test_"):
        return (root / "tests/e2e" / f"{name}.py").is_file()
    return any((root / "tests/unit").rglob(f"{name}_test.cpp"))


def problems(root):
    text = (root / PAGE).read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)
    if [int(row[0]) for row in rows] != list(range(1, PROMISES + 1)):
        yield f"the promises are not 1 to {PROMISES}, with four columns each"
    for number, _promise, _status, shown in rows:
        names = re.findall(r"`([\w/]+)`", shown)
        if not names:
            yield f"promise {number}: names no test"
        for name in names:
            if not is_there(root, name):
                yield f"promise {number}: there is no test '{name}'"
    for name in re.findall(r"`(test_\w+|tests/\w+)`", text):
        if not is_there(root, name):
            yield f"there is no test '{name}'"


def main():
    wrong = sorted(set(problems(pathlib.Path(sys.argv[1]))))
    for problem in wrong:
        print(f"{PAGE}: {problem}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
