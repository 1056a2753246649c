#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Holds a program's --help against its manual page, both ways.

    check_help.py PAGE.pod PROGRAM

Every option and verb that --help names must be an =item or =head2 of the page, and the other way
round. Options in the page's OPTIONS section are the program's own; with verbs, those below
"=head2 VERB" are the verb's.
"""

import re
import subprocess
import sys

OPTION = re.compile(r"--[a-z][a-z-]*")


def options_of_help(program, *verb):
    done = subprocess.run([program, *verb, "--help"], capture_output=True, text=True, check=True)
    text = done.stdout
    listed = [line for line in text.splitlines() if re.match(r"\s+(-\w,)?--", line)]
    options = {OPTION.search(line).group() for line in listed}
    verbs = re.findall(r"^  ([a-z-]+)  ", text.partition("\nVerbs:")[2], re.MULTILINE)
    return options, verbs


def sections_of_page(page):
    """Section or "VERBS/verb" → its options."""
    sections, current, chapter = {}, "", ""
    with open(page, encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("=head1 "):
                current = chapter = line[7:].strip()
            elif line.startswith("=head2 ") and chapter == "VERBS":
                current = "VERBS/" + line.split()[1]
            sections.setdefault(current, set())
            if line.startswith("=item "):
                sections[current].update(OPTION.findall(line))
    return sections


def differences(what, in_help, in_page):
    for name in sorted(in_help - in_page):
        yield f"{what}: {name} is in --help and not in the page"
    for name in sorted(in_page - in_help):
        yield f"{what}: {name} is in the page and not in --help"


def check(page, program):
    sections = sections_of_page(page)
    common, verbs = options_of_help(program)
    yield from differences("OPTIONS", common, sections.get("OPTIONS", set()))
    documented = {name.partition("/")[2] for name in sections if name.startswith("VERBS/")}
    yield from differences("VERBS", set(verbs), documented)
    for verb in documented.intersection(verbs):
        options, _ = options_of_help(program, verb)
        yield from differences(verb, options - common, sections["VERBS/" + verb])


def main():
    page, program = sys.argv[1:]
    problems = list(check(page, program))
    for problem in problems:
        print(f"{page}: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
