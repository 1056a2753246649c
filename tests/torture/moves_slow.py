# SPDX-License-Identifier: BSD-3-Clause
"""Disks that are slow, with more to do than they get done."""

from arena import Violation
from lib import machine_time
from registry import move

_DEEP = 48  # requests a writer, of up to 1 MiB


@move("slow-standby-disk", weight=3)
def slow_standby_disk(arena, draw):
    """The standby's disk gets a fifteenth done of what it did, under deep queues: not a break."""
    arena.heal()
    _, standby = arena.roles()
    if news := _work_slowly(arena, draw, standby, "mirror-break"):
        raise Violation(f"a disk that was slow, and never stood still, was given up: {news}")


@move("slow-active-disk", weight=2)
def slow_active_disk(arena, draw):
    """The same of the active's: it is left out only where disk_timeout bounds each request."""
    arena.heal()
    active, _ = arena.roles()
    news = _work_slowly(arena, draw, active, "local-disk-failed")
    if news and not arena.disk_timeout():
        raise Violation(f"a disk that was slow, and never stood still, was left out: {news}")


@move("slow-disk-and-break", weight=2)
def slow_disk_and_break(arena, draw):
    """The link is cut, or the peer dies, while a slow disk has a deep queue."""
    arena.heal()
    active, standby = arena.roles()
    disk = arena.disk(draw.choice([active, standby]), faulty=True)
    arena.load.depth = _DEEP
    disk.fuse.slow()
    arena.run_for(draw.uniform(0.3, 1.5))
    if draw.random() < 0.5:
        arena.kill_daemon(standby)
    else:
        for proxy in arena.proxies:
            proxy.cut()
    arena.run_for(draw.uniform(0, 1.5))
    arena.load.depth = arena.load.DEPTH
    if draw.random() < 0.5:
        disk.go_on()


def _work_slowly(arena, draw, node, event):
    """The active's events of that kind meanwhile; none where the machine itself stood still."""
    active = arena.active()
    known = len(active.events(event))
    stood = machine_time.stood_still()
    disk = arena.disk(node, faulty=True)
    arena.load.depth = _DEEP
    disk.fuse.slow()
    arena.load.wait_written(20)
    arena.run_for(draw.uniform(1.0, 3.0) * arena.peer_timeout())
    arena.load.depth = arena.load.DEPTH
    disk.go_on()
    return active.events(event)[known:] if machine_time.stood_still() == stood else []
