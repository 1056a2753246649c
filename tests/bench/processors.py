# SPDX-License-Identifier: BSD-3-Clause
"""Which processors a target may use, and how much of them it did."""

import os
import pathlib
import time

TICKS = os.sysconf("SC_CLK_TCK")
ALL = sorted(os.sched_getaffinity(0))
MODES = {"pinned": ALL[:1], "free": ALL}


def place(pids, mode):
    """Every thread that there is; those that they start later inherit it."""
    for pid in pids:
        for task in _tasks(pid):
            try:
                os.sched_setaffinity(task, MODES[mode])
            except OSError:  # it has just ended
                pass


def _tasks(pid):
    try:
        return [int(entry) for entry in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def seconds(pids):
    """Processor time of these processes, user and system, with their ended threads."""
    return sum(_seconds(pid) for pid in pids)


def _seconds(pid):
    # As clock_getcpuclockid(3) makes it: /proc/PID/stat has ticks of 10 ms only.
    clock = ~pid << 3 | 2
    try:
        return time.clock_gettime(clock)
    except OSError:  # it has ended
        return 0.0


def machine():
    """(busy, steal) seconds of all processors since the boot."""
    line = pathlib.Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
    user, nice, system, _, _, irq, softirq, steal = map(int, line.split()[1:9])
    return (user + nice + system + irq + softirq) / TICKS, steal / TICKS


def own():
    """Of this process and of those that it waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
