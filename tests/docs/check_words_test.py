#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The check of words finds each word of its list wherever users read texts, and nothing elsewhere.

    check_words_test.py ROOT
"""

import contextlib
import io
import os
import pathlib
import sys
import tempfile

ROOT = pathlib.Path(sys.argv[1]).resolve()
sys.path.insert(0, str(ROOT / "packaging/quickstart/stages"))
sys.dont_write_bytecode = True

import words  # noqa: E402  pylint: disable=wrong-import-position

# Each of them is one finding.
PLANTED = [
    "Every write that is answered is safe.", "It is tried anew.", "The node that shall be active.",
    "The volume goes on alone.", "Both went\non alone.", "The resync starts by itself.", "They connect by themselves.",
    "Whoever has it may join.", "Who has it can be a node of yours.", "Only who has the key is a node.",
    "Nothing waits for who reads that.", "See what it is not.", "It is B, else C.", "Keep all else.",
    "The mirror sees to it.", "It is tried ever more seldom.",
]
RIGHT = [
    "Every write is acknowledged.", "It continues alone.", "It shows who is connected.", "The user who has it may join.",
    "If it is, else if not.", "What is on it was written there.", "It goes onto the disk.", "Replace all elements.",
]
# A file's name, and how a sentence stands in it.
PLACES = {
    "README.md": lambda text: f"# Title\n\n{text}\n",
    "docs/page.md": lambda text: f"| a | {text} |\n",
    "docs/page.pod": lambda text: f"=head1 NAME\n\n{text}\n",
    "packaging/hooks-README": lambda text: f"{text}\n",
    "packaging/debian/control": lambda text: f"Description: {text}\n",
    "packaging/quickstart/a.sh": lambda text: f"note \"{text}\"\n",
    "packaging/step": lambda text: f"#!/bin/sh\necho '{text}'\n",
    "packaging/quickstart/demo/a.py": lambda text: f"print({text!r})\n",
    "tools/a.cpp": lambda text: f"int a = say({quoted(text)});\n",
    "core/b/a.hpp": lambda text: "auto a = \"\"" + "".join(f"\n    {quoted(part + ' ')}" for part in text.split()) + ";\n",
    "daemon/a.cpp": lambda text: f"auto a = R\"({text})\";\n",
}
# Where nobody reads them but us.
ELSEWHERE = {
    "docs/page.md": lambda text: f"The test `{' '.join(text.split())}`.\n",
    "docs/page.pod": lambda text: f"C<{' '.join(text.split())}>\n",
    "tools/a.cpp": lambda text: f"// {' '.join(text.split())}\n/* {text} */ int a = 'b';\n",
    "packaging/quickstart/a.sh": lambda text: f"# {' '.join(text.split())}\n",
    "tests/unit/a_test.cpp": lambda text: f"auto a = {quoted(text)};\n",
    "tests/e2e/a.py": lambda text: f"print({text!r})\n",
}


def quoted(text):
    return '"' + text.replace("\n", " ") + '"'


def found(name, content):
    return words.findings(pathlib.Path(name), content)


def failures():
    for name, place in PLACES.items():
        for text in PLANTED:
            if len(found(name, place(text))) != 1:
                yield f"{name}: not once: {text!r}: {found(name, place(text))}"
        for text in RIGHT:
            if found(name, place(text)):
                yield f"{name}: nothing is wrong with: {text!r}: {found(name, place(text))}"
    for name, place in ELSEWHERE.items():
        for text in PLANTED:
            if found(name, place(text)):
                yield f"{name}: is not read by users: {text!r}"
    lines = {line for line, _words, _better in found("docs/a.md", "one\ntwo\nthree goes\non\n\nanew\n")}
    if lines != {3, 6}:
        yield f"the lines are not 3 and 6: {lines}"
    lines = {line for line, _words, _better in found("core/a.cpp", 'f("a "\n  "goes "\n  "on");\n\ng("anew");\n')}
    if lines != {2, 5}:
        yield f"the lines of the literals are not 2 and 5: {lines}"


def run(exceptions):
    """The exit code of the check on one page with one word."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder) if hasattr(
            contextlib, "chdir") else inside(folder):
        pathlib.Path("docs").mkdir()
        pathlib.Path("docs/page.md").write_text("first\nIt is tried anew.\n", encoding="utf-8")
        pathlib.Path("words.list").write_text(exceptions, encoding="utf-8")
        return list(words.problems(pathlib.Path("words.list"), [pathlib.Path("docs/page.md")]))


@contextlib.contextmanager
def inside(folder):
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def failures_of_exceptions():
    if len(run("")) != 1 or "docs/page.md:2: 'anew'" not in run("")[0]:
        yield f"the word is not named with its line: {run('')}"
    if run("# comment\ndocs/page.md\ttried anew\ta quotation\n"):
        yield "an exception that fits does not excuse"
    for unused in ("docs/page.md\tfirst\ta reason\n", "docs/other.md\tanew\ta reason\n"):
        if len(run(unused)) != 2:
            yield f"an exception that excuses nothing is no error: {unused!r}"
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            run("docs/page.md anew no tabs\n")
        yield "an exception without a reason is no error"
    except SystemExit:
        pass


def main():
    wrong = [*failures(), *failures_of_exceptions()]
    for one in wrong:
        print(one, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
