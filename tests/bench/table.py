# SPDX-License-Identifier: BSD-3-Clause
"""The figures as text: for a terminal, and as Markdown tables for a page."""

import figures

MARKS = {True: "reached", False: "MISSED", None: "not measured"}


def number(value, unit=""):
    """Three digits that count; a k for thousands of operations."""
    if unit in ("op/s", "commits/s") and value >= 10000:
        return f"{value / 1000:.1f}k"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def with_range(found, unit=""):
    if found is None:
        return "-"
    if found.count == 1:
        return number(found.median, unit)
    return (f"{number(found.median, unit)} "
            f"({number(found.least, unit)}-{number(found.greatest, unit)})")


def ratio(found):
    if found is None:
        return "-"
    middle = f"{found.median:.2f}"
    return middle if found.count == 1 else f"{middle} ({found.least:.2f}-{found.greatest:.2f})"


BASES = {"guests": ("nbd-file", "drbd", "md")}
LOOPBACK_BASES = ("file", "quorum", "mirror-ungrouped", "nbdcopy", "mirror-at-rest")


def job_rows(samples, mode, job, targets):
    """A heading and a row for each target of a job."""
    bases = BASES.get(mode, LOOPBACK_BASES)
    rows = [["target", job.unit, "p50/p99/p99.9 us", "CPU us/op servers+load",
             *(f"to {base}" for base in bases)]]
    for target in targets:
        def middle(*path, target=target):
            return figures.medians_of(samples, mode, job.name, target, *path)
        rows.append([
            target,
            with_range(figures.summary(samples, mode, job.name, target), job.unit),
            _join("/", [middle("latency_us", key) for key in ("50", "99", "99.9")]),
            _join("+", [middle("cpu_us_per_operation", key) for key in ("servers", "load")]),
            *(ratio(None if target == base else
                    figures.paired_ratio(samples, mode, job.name, target, base))
              for base in bases),
        ])
    return _without_empty_columns(rows)


def _join(between, values):
    if any(value is None for value in values):
        return "-"
    return between.join(f"{value:.0f}" for value in values)


def _without_empty_columns(rows):
    kept = [index for index in range(len(rows[0]))
            if any(row[index] != "-" for row in rows[1:])]
    return [[row[index] for index in kept] for row in rows]


def goal_rows(judged):
    rows = [["", "job", "mode", "goal", "found"]]
    for goal in judged:
        found = goal["found"] and figures.Range(**goal["found"])
        if goal["base"]:
            wanted = f"{goal['target']} / {goal['base']} >= {goal['least']:g}"
            seen = ratio(found)
        else:
            wanted = f"{goal['target']} < {goal['below']:g} s"
            seen = with_range(found, "s")
        rows.append([MARKS[goal["met"]], goal["job"], goal["mode"], wanted, seen])
    return rows


def sections(samples, jobs):
    """(mode, job, rows) of everything that was measured, in the order of the jobs."""
    measured = figures.measured(samples)
    for mode, found in measured.items():
        for job in jobs:
            if job.name in found:
                yield mode, job, job_rows(samples, mode, job, found[job.name])


def plain(rows):
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
                     for row in rows)


def markdown(rows):
    head, *body = rows
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in body])
