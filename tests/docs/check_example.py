#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The example configurations pass the check that the programs make: that of the packages, and each
one in a manual page.

    check_example.py MIRRORCTL CONFIG PAGE.pod

Whether a daemon runs on this machine does not matter: the configuration is judged before.
"""

import pathlib
import re
import subprocess
import sys
import tempfile
import textwrap

FEWEST_IN_PAGE = 5  # synopsis, N:1, ring, active/active, two nodes on one machine


def examples_of(page):
    """The page's verbatim texts that have nodes and volumes."""
    for block in re.findall(r"(?:^(?: .*)?\n)+", page, re.MULTILINE):
        if "[node." in block and "[volume." in block:
            yield textwrap.dedent(block)


def complaint(mirrorctl, text):
    with tempfile.TemporaryDirectory() as folder:  # of ours, whosever the project's folder is
        copy = pathlib.Path(folder) / "mirrordisk.toml"
        copy.touch(0o600)
        copy.write_text(text, encoding="utf-8")
        done = subprocess.run([mirrorctl, "check", "--config", copy, "--node", "alpha"],
                              capture_output=True, text=True, check=False)
    return None if "no mistakes" in done.stdout else done.stdout + done.stderr


def main():
    mirrorctl, config, page = sys.argv[1:]
    texts = [pathlib.Path(config).read_text(encoding="utf-8")]
    texts += examples_of(pathlib.Path(page).read_text(encoding="utf-8"))
    if len(texts) < 1 + FEWEST_IN_PAGE:
        print(f"{page}: only {len(texts) - 1} examples were found", file=sys.stderr)
        return 1
    wrong = [(text, why) for text in texts if (why := complaint(mirrorctl, text))]
    for text, why in wrong:
        print(f"{text}\n{why}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
