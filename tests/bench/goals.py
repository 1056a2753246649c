# SPDX-License-Identifier: BSD-3-Clause
"""What this project wants to reach, as ratios to others measured in the same round. Nothing fails
when a goal is missed: the figures depend on the machine, and a person judges them."""

import dataclasses

import figures
import jobs


@dataclasses.dataclass(frozen=True)
class Goal:
    """The median of the paired ratios `target` / `base` is to be at least `least`; without a base
    the median of the values is to be below `below`."""
    job: str
    target: str
    base: str = ""
    least: float = 0.0
    below: float = 0.0
    mode: str = "pinned"    # where it is measured; "free" is all processors, "guests" two machines


def _each(names, target, base, leasts, **keys):
    return [Goal(name, target, base, least, **keys) for name, least in zip(names, leasts)]


_RANDOM = ("randwrite-4k-qd1", "randwrite-4k-qd16", "randwrite-4k-qd32")
_READS = ("read-4k-qd1", "read-4k-qd16", "read-1m-qd8")

_GUEST_RANDOM = ("guest-randwrite-4k-qd1", "guest-randwrite-4k-qd16")

GOALS = (
    *_each(_RANDOM, "mirror-express", "quorum", (1.4, 3.0, 3.0)),
    *_each(_RANDOM, "mirror-express", "file", (0.55, 0.9, 0.9)),
    *_each(_RANDOM, "mirror", "quorum", (1.2, 1.4, 1.4)),
    Goal("flush-4k-qd1", "mirror", "quorum", 1.4),
    Goal("flush-4k-qd1", "mirror-express", "quorum", 1.4),
    Goal("fua-4k-qd16", "mirror", "mirror-ungrouped", 1.3),
    Goal("write-1m-qd8", "mirror", "quorum", 1.5),
    Goal("write-1m-qd8", "mirror-express", "quorum", 1.5),
    *_each(_READS, "mirror", "file", (0.95, 0.95, 0.95)),
    *_each(_READS, "mirror-express", "file", (1.3, 1.3, 1.3)),
    Goal("randwrite-4k-qd16", "mirror", "quorum", 1.5, mode="free"),
    Goal("randwrite-4k-qd16", "mirror-express", "quorum", 1.5, mode="free"),
    Goal(jobs.RESYNC_FULL, "mirror", "nbdcopy", 0.9),
    Goal(jobs.SWITCH, "mirror", below=1.0),
    # Pinned has no meaning for two machines; the kernel's device is the client.
    *_each(_GUEST_RANDOM, "mirror-nbd0", "drbd", (1.5, 2.0), mode="guests"),
    *_each(_GUEST_RANDOM, "mirror-nbd0", "md", (1.2, 1.2), mode="guests"),
    Goal("guest-flush-4k-qd1", "mirror-nbd0", "drbd", 0.9, mode="guests"),
    Goal("guest-switch-idle", "mirror-nbd0", below=1.0, mode="guests"),
)


def judge(samples, goals=GOALS):
    """One dictionary a goal: "met" is True, False or, where it was not measured, None."""
    judged = []
    for goal in goals:
        if goal.base:
            found = figures.paired_ratio(samples, goal.mode, goal.job, goal.target, goal.base)
            met = found and found.median >= goal.least
        else:
            found = figures.summary(samples, goal.mode, goal.job, goal.target)
            met = found and found.median < goal.below
        judged.append(dataclasses.asdict(goal)
                      | {"found": found and dataclasses.asdict(found), "met": met})
    return judged
