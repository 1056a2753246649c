# SPDX-License-Identifier: BSD-3-Clause
"""Disks that stop to answer, and go on later."""

from lib import processes
from moves_disk import give_up, is_left_out
from registry import move


@move("hang-standby-disk", weight=3)
def hang_standby_disk(arena, draw):
    """The standby's disk does not answer, for less or for more than peer_timeout."""
    arena.heal()
    active, standby = arena.roles()
    disk = arena.disk(standby, faulty=True)
    bound = arena.peer_timeout()
    if draw.random() < 0.3:
        # A resync holds the range that it waits for.
        arena.ask(active, "resync", "r0", "--full")
        bound *= 2
    with arena.bounded(bound, "the standby's disk hangs"):
        disk.fuse.hang()
        if draw.random() < 0.5:
            arena.run_for(draw.uniform(0.1, 0.8) * arena.peer_timeout())
        else:
            arena.cluster.wait_state(active, "broken")
            arena.load.wait_written(20)
            arena.run_for(draw.uniform(0, 1.0))
    draw.choice([_go_on, _give_errors, _lose_the_daemon])(arena, draw, standby, disk)


def _go_on(_arena, _draw, _node, disk):
    disk.go_on()


def _give_errors(arena, draw, _node, disk):
    disk.fuse.fail("write")
    disk.go_on()
    arena.run_for(draw.uniform(0, 0.5))
    disk.mend()


def _lose_the_daemon(arena, draw, node, disk):
    """What it waited for lands after its death."""
    arena.kill_daemon(node)
    disk.go_on()
    arena.run_for(draw.uniform(0, 0.5))
    arena.start(node)


@move("hang-active-disk", weight=3)
def hang_active_disk(arena, draw):
    """The active's disk does not answer, for less or for more than disk_timeout."""
    arena.heal()
    active, heir = arena.roles()
    disk = arena.disk(active, faulty=True)
    draw.choice([_wait_for_it, _leave_it, _leave_it, _kill_the_engine, _fail_over])(
        arena, draw, active, heir, disk)


def _wait_for_it(arena, draw, _active, _heir, disk):
    disk.fuse.hang()
    arena.run_for(draw.uniform(0.1, 0.7) * (arena.disk_timeout() or arena.peer_timeout()))
    disk.go_on()


def _leave_it(arena, draw, active, heir, disk):
    if not arena.disk_timeout():
        _wait_for_it(arena, draw, active, heir, disk)
        return
    with arena.bounded(arena.disk_timeout(), "the active's disk hangs"):
        disk.fuse.hang()
        arena.wait(lambda: is_left_out(active), f"the replica of {active.name} to be left out")
        arena.load.wait_written(20)
    give_up(arena, draw, active, disk)


def _kill_the_engine(arena, draw, active, _heir, disk):
    disk.fuse.hang()
    arena.run_for(draw.uniform(0, 0.5))
    arena.kill_engine(active)
    disk.go_on()


def _fail_over(arena, draw, lost, heir, disk):
    """The node is given up as it hangs; what it was writing lands when the heir has gone on."""
    disk.fuse.hang()
    arena.run_for(draw.uniform(0, 0.5))
    pids = arena.strike(lost)
    arena.load.pause(lose=True)
    arena.check_image(heir)
    arena.promote_forced(heir, draw.choice(["--force", "--fenced"]))
    arena.load.go_on()
    arena.load.wait_written(50)
    arena.run_for(draw.uniform(0, 0.5))
    disk.go_on()
    for pid in pids:
        processes.wait_gone(pid)
    if draw.random() < 0.7:
        arena.start(lost)
