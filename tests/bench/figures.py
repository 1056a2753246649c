# SPDX-License-Identifier: BSD-3-Clause
"""Medians with ranges, and paired ratios: pure arithmetic on samples.

A sample is a dictionary with "mode", "job", "target", "round" and "value". Two targets of one round
were measured shortly after each other, so their ratio is taken round by round, and what is shown
of the ratios is their median and range: a machine that is slower for a while slows both.
"""

import collections
import dataclasses
import statistics


@dataclasses.dataclass(frozen=True)
class Range:
    """A median of `count` values, with the least and the greatest of them."""
    median: float
    least: float
    greatest: float
    count: int

    @classmethod
    def of(cls, values):
        values = list(values)
        return cls(statistics.median(values), min(values), max(values), len(values))


def values(samples, mode, job, target):
    """Round → value."""
    return {sample["round"]: sample["value"] for sample in samples
            if (sample["mode"], sample["job"], sample["target"]) == (mode, job, target)}


def summary(samples, mode, job, target):
    """The Range of the values, or None where there is no sample."""
    found = values(samples, mode, job, target)
    return Range.of(found.values()) if found else None


def paired_ratio(samples, mode, job, target, base):
    """The Range of target / base over the rounds in which both were measured, or None."""
    above, below = values(samples, mode, job, target), values(samples, mode, job, base)
    ratios = [above[number] / below[number] for number in sorted(above)
              if below.get(number)]
    return Range.of(ratios) if ratios else None


def medians_of(samples, mode, job, target, *path):
    """The median of a nested figure, such as ("latency_us", "99"), over the rounds; or None."""
    found = []
    for sample in samples:
        if (sample["mode"], sample["job"], sample["target"]) == (mode, job, target):
            value = sample
            for step in path:
                value = (value or {}).get(step)
            if value is not None:
                found.append(value)
    return statistics.median(found) if found else None


def measured(samples):
    """mode → job → the targets that have samples, all in order of appearance."""
    found = collections.defaultdict(lambda: collections.defaultdict(dict))
    for sample in samples:
        found[sample["mode"]][sample["job"]][sample["target"]] = True
    return {mode: {job: list(targets) for job, targets in jobs.items()}
            for mode, jobs in found.items()}
