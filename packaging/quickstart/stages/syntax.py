# SPDX-License-Identifier: BSD-3-Clause
"""Has the compiler of a build directory judge the sources below some folders, without making code:

    syntax.py BUILD-DIRECTORY FOLDER…

Prints what is wrong; its exit code is 1 then.
"""

import concurrent.futures
import json
import os
import pathlib
import shlex
import subprocess
import sys


def commands(build, folders):
    """A command for each source; one that is compiled more than once is judged once."""
    root = pathlib.Path.cwd()
    found = {}
    for entry in json.loads((build / "compile_commands.json").read_text(encoding="utf-8")):
        source = (build / entry["file"]).resolve().relative_to(root)
        if source.parts[0] in folders:
            found[source] = [*without_output(shlex.split(entry["command"])), "-fsyntax-only"]
    return found


def without_output(words):
    """Nothing is written, so that ninja's files stay as they are."""
    pairs, single = ("-o", "-MF", "-MQ"), ("-MD", "-c")
    kept, skip = [], False
    for word in words:
        if skip or word in pairs:
            skip = not skip
        elif word not in single:
            kept.append(word)
    return kept


def judge(build, command):
    return subprocess.run(command, cwd=build, capture_output=True, text=True, check=False)


def main(build, *folders):
    build = pathlib.Path(build).resolve()
    todo = commands(build, folders)
    if not todo:
        print(f"{build} compiles nothing below {', '.join(folders)}")
        return 1
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        outcomes = list(pool.map(lambda command: judge(build, command), todo.values()))
    for source, outcome in zip(todo, outcomes):
        if outcome.returncode != 0:
            print(f"{source}:\n{outcome.stderr}")
    bad = sum(outcome.returncode != 0 for outcome in outcomes)
    print(f"{len(todo)} files, {bad} with errors")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
