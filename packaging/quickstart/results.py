# SPDX-License-Identifier: BSD-3-Clause
"""Turns the reports of meson, pytest and the torture run into lines of one results file, and sums those up.

A line is outcome, stage, name, reason, separated by tabs; outcome is passed, failed or skipped.

    results.py meson|junit RESULTS STAGE REPORT         adds the outcomes of a report
    results.py torture RESULTS STAGE FIGURES OUTCOME SEED
    results.py counts RUN STAGE                         prints how many of a stage passed
    results.py summary RUN TREE SECONDS STAGE…          prints all of a run; fails when something has

RUN is the directory in which test_run.sh keeps what its stages leave.
"""

import json
import pathlib
import re
import sys
import xml.etree.ElementTree as ElementTree

DOCTEST_CASES = re.compile(
    r"\[doctest\] test cases:\s*\d+ \|\s*(\d+) passed \|\s*(\d+) failed \|\s*(\d+) skipped")


def append(path, lines):
    with open(path, "a", encoding="utf-8") as out:
        for fields in lines:
            out.write("\t".join(" ".join(str(field).split()) for field in fields) + "\n")


def of_meson(stage, path):
    """One line for each test case of a doctest runner; one for any other program."""
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8")
    except OSError as error:
        return [("failed", stage, "meson test", f"no report: {error.strerror}")]
    lines = []
    for record in text.splitlines():
        test = json.loads(record)
        name = test["name"].split(" / ")[-1]
        cases = DOCTEST_CASES.search(re.sub(r"\x1b\[[0-9;]*m", "", test.get("stdout") or ""))
        if test["result"] == "SKIP":
            lines.append(("skipped", stage, name, "the test program skipped itself"))
        elif cases is None:
            good = test["result"] == "OK"
            lines.append(("passed" if good else "failed", stage, name,
                          "" if good else f"ended as {test['result']}"))
        else:
            passed, failed, _ = (int(count) for count in cases.groups())
            lines += [("passed", stage, name, "")] * passed
            lines += [("failed", stage, name, "")] * failed
            if failed == 0 and test["result"] != "OK":
                lines.append(("failed", stage, name, f"ended as {test['result']}"))
    return lines or [("failed", stage, "meson test", "the report is empty")]


def of_junit(stage, path):
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError):
        return [("failed", stage, "pytest", "ended without a report")]
    lines = []
    for case in root.iter("testcase"):
        name = f"{case.get('classname', '').split('.')[-1]}::{case.get('name')}"
        skipped = case.find("skipped")
        bad = case.find("failure") if case.find("failure") is not None else case.find("error")
        if bad is not None:
            lines.append(("failed", stage, name, (bad.get("message") or "").split("\n")[0][:200]))
        elif skipped is not None:
            lines.append(("skipped", stage, name, skipped.get("message") or "no reason given"))
        else:
            lines.append(("passed", stage, name, ""))
    return lines or [("failed", stage, "pytest", "no test was run")]


def of_torture(stage, path, outcome, seed):
    """One line, with the seed and the figures that say how much it did."""
    name = f"seed {seed}"
    try:
        result = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return [("failed", stage, name, "ended without figures")]
    operations, faults = (sum(result[key].values()) for key in ("operations", "faults"))
    name += f": {operations} operations, {faults} faults"
    bad = result["violations"]
    reason = f"violation, kept in {result['kept']}; again: {result['replay']}" if bad else ""
    return [("failed" if bad else outcome, stage, name, reason)]


def read(path):
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8")
    except OSError:
        return []
    return [(line + "\t\t\t").split("\t")[:4] for line in text.splitlines()]


def counts(lines):
    return tuple(sum(1 for line in lines if line[0] == outcome)
                 for outcome in ("passed", "failed", "skipped"))


def words(lines):
    return "{} passed, {} failed, {} skipped".format(*counts(lines))


class Stage:
    """What a run has left of one stage; see test_run.sh."""

    def __init__(self, run, name):
        self.name = name
        self.lines = read(run / f"{name}.results")
        try:
            took, self.tree = (run / f"{name}.done").read_text(encoding="ascii").split()
            self.took = int(took)
        except (OSError, ValueError):
            self.took, self.tree = None, ""
            self.lines.append(["failed", name, "the stage", "it has not ended"])


def budgets():
    """Seconds by stage."""
    table = pathlib.Path(__file__).with_name("stages.table").read_text(encoding="utf-8")
    rows = [line.split(None, 4) for line in table.splitlines()
            if line.strip() and not line.startswith("#")]
    return {name: int(budget) for name, _, _, budget, _ in rows}


def table(stages, tree):
    budget = budgets()
    yield f"{'stage':<18}{'passed':>8}{'failed':>8}{'skipped':>8}{'took':>8}{'budget':>8}"
    for stage in stages:
        took = "-" if stage.took is None else f"{stage.took} s"
        remarks = []
        if (stage.took or 0) > budget[stage.name]:
            remarks.append("over its budget")
        if stage.tree not in ("", tree):
            remarks.append("ran before the last change of the tree")
        figures = "".join(f"{count:>8}" for count in counts(stage.lines))
        row = f"{stage.name:<18}{figures}{took:>8}{budget[stage.name]:>6} s"
        yield row + ("  " + ", ".join(remarks) if remarks else "")


def summary(run, tree, seconds, *names):
    stages = [Stage(pathlib.Path(run), name) for name in names]
    lines = [line for stage in stages for line in stage.lines]
    for outcome in ("skipped", "failed"):
        chosen = [line for line in lines if line[0] == outcome]
        if chosen:
            print(f"\n{outcome}:")
        for _, stage, name, reason in chosen:
            print(f"  {stage}: {name}" + (f" ({reason})" if reason else ""))
    print()
    for row in table(stages, tree):
        print(row)
    late = [stage.name for stage in stages if (stage.took or 0) > budgets()[stage.name]]
    if late:
        print(f"over budget: {', '.join(late)}")
    print(f"\nthis run took {int(seconds) // 60} min {int(seconds) % 60} s")
    print(words(lines))
    return 1 if counts(lines)[1] or not lines else 0


def main(arguments):
    verb, path, *rest = arguments
    if verb == "meson":
        append(path, of_meson(*rest))
    elif verb == "junit":
        append(path, of_junit(*rest))
    elif verb == "torture":
        append(path, of_torture(*rest))
    elif verb == "counts":
        print(words(read(pathlib.Path(path) / f"{rest[0]}.results")))
    else:
        return summary(path, *rest)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
