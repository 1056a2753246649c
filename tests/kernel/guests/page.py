# SPDX-License-Identifier: BSD-3-Clause
"""The commands of pages in docs/ that say what to type."""

import dataclasses
import re
import textwrap

STEP = re.compile(r"^(\d+)\. On (both|alpha|beta)\b")


@dataclasses.dataclass
class Step:
    number: int
    where: str
    command: str


def steps(text):
    """Numbered items that begin with where; their indented lines are the command."""
    found = []
    lines = text.splitlines()
    for index, line in enumerate(lines):
        if match := STEP.match(line):
            found.append(Step(int(match[1]), match[2], _command(lines[index + 1:])))
    return found


def verbatim(pod, sentence):
    """The lines of a manual's paragraph of commands that comes after the sentence."""
    _, found, rest = pod.partition(sentence + "\n")
    assert found, f"the page does not say any more: {sentence}"
    block = rest.strip("\n").split("\n\n", 1)[0]
    assert all(line.startswith(" ") for line in block.splitlines()), block
    return textwrap.dedent(block) + "\n"


def _command(lines):
    block = []
    for line in lines:
        if line.startswith(" " * 7):
            block.append(line)
        elif block and line.strip():
            break
        elif block:
            block.append("")
    return textwrap.dedent("\n".join(block)).strip() + "\n"
