# SPDX-License-Identifier: BSD-3-Clause
"""Which plots there are: one for each family of jobs, one for latencies, one for CPU time."""

import figures
import svg
import table

OF_THIS_PROJECT = "mirror"


def draw(samples, jobs, titles):
    """File name → SVG text. `titles` names the targets."""
    drawn = {}
    for mode in figures.measured(samples):
        for family in dict.fromkeys(job.family for job in jobs):
            groups = _groups(samples, mode, [job for job in jobs if job.family == family], titles,
                             _values)
            if groups:
                drawn[_file(family, mode)] = svg.bar_chart(
                    f"{family}, {mode}", "medians; whiskers from the least to the greatest round",
                    groups)
    for name, title, maker in (("latency", "latency, p99 in microseconds", _latency),
                               ("cpu", "CPU time an operation, microseconds", _cpu)):
        groups = _groups(samples, "pinned", [job for job in jobs if job.is_load], titles, maker)
        if groups:
            drawn[_file(name, "pinned")] = svg.bar_chart(
                title + ", pinned", "medians of the rounds; less is better", groups)
    return drawn


def _file(name, mode):
    return f"{name.replace(' ', '-')}-{mode}.svg"


def _groups(samples, mode, jobs, titles, maker):
    measured = figures.measured(samples).get(mode, {})
    groups = []
    for job in jobs:
        bars = [bar for target in measured.get(job.name, ())
                if (bar := maker(samples, mode, job, target, titles.get(target, target)))]
        if bars:
            unit = f", {job.unit}" if maker is _values else ""
            groups.append((job.title + unit, bars))
    return groups


def _shade(target):
    return 0 if target.startswith(OF_THIS_PROJECT) else 1


def _values(samples, mode, job, target, title):
    found = figures.summary(samples, mode, job.name, target)
    return svg.Bar(title, found.median, found.least, found.greatest,
                   table.number(found.median, job.unit), _shade(target))


def _latency(samples, mode, job, target, title):
    value = figures.medians_of(samples, mode, job.name, target, "latency_us", "99")
    return value and svg.Bar(title, value, value, value, table.number(value), _shade(target))


def _cpu(samples, mode, job, target, title):
    parts = [figures.medians_of(samples, mode, job.name, target, "cpu_us_per_operation", part)
             for part in ("servers", "load")]
    if None in parts:
        return None
    return svg.Bar(title, sum(parts), sum(parts), sum(parts), table.number(sum(parts)),
                   _shade(target))
