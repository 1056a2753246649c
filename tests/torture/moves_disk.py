# SPDX-License-Identifier: BSD-3-Clause
"""Disks that are full, and disks that give errors."""

from registry import move


@move("fill-standby-disk")
def fill_standby_disk(arena, draw):
    """The file system under the standby's backing has no space left, for a while."""
    _, node = arena.roles()
    arena.disk(node).fill()
    arena.run_for(draw.uniform(0.3, 1.5))


@move("fill-active-disk")
def fill_active_disk(arena, draw):
    """The same under the active's: its replica is left out, the peer takes the writes."""
    arena.heal()
    active, _ = arena.roles()
    disk = arena.disk(active)
    disk.fill()
    # Where every block has its space already, nothing happens.
    arena.wait_if_it_comes(lambda: is_left_out(active), draw.uniform(0.5, 1.5))
    if is_left_out(active):
        give_up(arena, draw, active, disk)


@move("read-errors")
def read_errors(arena, draw):
    """Reads of the active's disk fail for a while: the peer answers them, they are repaired."""
    arena.heal()
    active, _ = arena.roles()
    disk = arena.disk(active, faulty=True)
    before = active.status()["replica"]["media"]["read_errors"]
    disk.fuse.forget_cache()
    disk.fuse.fail("read")
    arena.wait_if_it_comes(
        lambda: active.status()["replica"]["media"]["read_errors"] > before, 5)
    arena.run_for(draw.uniform(0, 0.7))
    disk.mend()
    arena.say(f"   {active.status()['replica']['media']['read_errors'] - before} reads failed")


@move("write-errors")
def write_errors(arena, draw):
    """Writes to one node's disk fail for a while: the other one's copy goes on."""
    arena.heal()
    active, standby = arena.roles()
    node = draw.choice([active, standby])
    disk = arena.disk(node, faulty=True)
    disk.fuse.fail("write")
    if node is active:
        arena.wait(lambda: is_left_out(active), f"the replica of {active.name} to be left out")
        give_up(arena, draw, active, disk)
    else:
        arena.run_for(draw.uniform(0.2, 1.0))


def is_left_out(active):
    return active.status()["replica"]["state"] == "failed"


def give_up(arena, draw, active, disk):
    """The good copy's node takes over, from a disk that still fails or does no more."""
    arena.load.wait_written(20)
    # A switch gives a process that a hung disk holds some seconds to end.
    if draw.random() < 0.6:
        disk.mend()
    arena.leave_failed_disk(active)
    arena.load.wait_written(20)
    disk.mend()
    # It may be trusted again already: then there is nothing to replace.
    if draw.random() < 0.5:
        arena.ask(active, "create", "r0", "--replace", "--yes")
